"""The supervisor behind `headrace up`: an embedded Kafka and the roles as child processes, one log, one Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import orjson

from headrace.cli.options import quiet
from headrace.cli.output import say
from headrace.edges.kafka import check_broker
from headrace.edges.topics import ensure_internal_topics
from headrace.model.errors import HeadraceError
from headrace.roles.start import ROLES
from headrace.settings import STATE_FILE, Settings, load

DEFAULT_PORT = 9092
STOP_TIMEOUT_S = 40.0
RESTART_DELAYS_S = (0.2, 1.0, 2.0, 5.0, 10.0)
STEADY_AFTER_S = 60.0
"""A role that ran this long has recovered: its next restart is quick again."""


@dataclass(slots=True)
class Child:
    """One role's process."""

    role: str
    process: subprocess.Popen[bytes]
    started_s: float
    failures: int = 0
    restart_at_s: float | None = None
    reader: threading.Thread | None = field(default=None)


class Supervisor:
    """Keeps one process of each role running until it is told to stop."""

    def __init__(self, environment: dict[str, str], log: IO[str] = sys.stderr) -> None:
        """Start nothing yet; `environment` tells the children where Kafka is."""
        self._environment = environment
        self._log = log
        self._write = threading.Lock()
        self._children: dict[str, Child] = {}
        self._stop = threading.Event()

    def start(self) -> None:
        """Start every role."""
        for role in ROLES:
            self._children[role] = self._spawn(role)

    def request_stop(self) -> None:
        """Make `run` return; safe in a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Restart what ends, with growing delays, until `request_stop`."""
        while not self._stop.wait(0.1):
            now_s = time.monotonic()
            for role, child in list(self._children.items()):
                if child.restart_at_s is not None:
                    if now_s >= child.restart_at_s:
                        self._children[role] = self._spawn(role, child.failures)
                    continue
                status = child.process.poll()
                if status is None:
                    continue
                child.failures = 1 if now_s - child.started_s > STEADY_AFTER_S else child.failures + 1
                delay_s = RESTART_DELAYS_S[min(child.failures, len(RESTART_DELAYS_S)) - 1]
                child.restart_at_s = now_s + delay_s
                self._say(f"{role} ended with status {status}; it starts again in {delay_s:g} s")

    def stop(self) -> None:
        """Stop every role cleanly, and by force what does not follow."""
        for child in self._children.values():
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
        deadline_s = time.monotonic() + STOP_TIMEOUT_S
        for child in self._children.values():
            try:
                child.process.wait(max(0.1, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._say(f"{child.role} did not stop within {STOP_TIMEOUT_S:.0f} s and is killed")
                child.process.kill()
                child.process.wait()
            if child.reader is not None:
                child.reader.join(timeout=2)

    def _spawn(self, role: str, failures: int = 0) -> Child:
        process = subprocess.Popen(
            [sys.executable, "-m", "headrace", "run", role],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches the whole foreground group; the roles stop when we say so, in our order.
            start_new_session=True,
        )
        reader = threading.Thread(target=self._copy, args=(process,), daemon=True)
        reader.start()
        return Child(role, process, time.monotonic(), failures, reader=reader)

    def _copy(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with self._write:
                self._log.write(line.decode("utf-8", "replace"))
                self._log.flush()

    def _say(self, sentence: str) -> None:
        with self._write:
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} up     {sentence}\n")
            self._log.flush()


def supervise(state: Path | None, port: int | None) -> int:
    """Run everything until Ctrl-C or SIGTERM; return the exit code.

    Raises:
        HeadraceError: Kafka could not be started or reached.
    """
    environment = dict(os.environ)
    if state is not None:
        environment["HEADRACE_STATE"] = str(state)
    directory = Path(environment.get("HEADRACE_STATE") or ".headrace").resolve()
    environment["HEADRACE_STATE"] = str(directory)
    settings = load({**environment, "HEADRACE_STATE": "/nonexistent"})
    settings = replace(settings, state=directory)
    if settings.bootstrap_servers is not None:
        if port is not None:
            raise HeadraceError("--port is for the embedded Kafka, but HEADRACE_BOOTSTRAP_SERVERS names another")
        say(f"using the Kafka at {settings.bootstrap_servers}")
        return _with_kafka(settings, environment)
    from headrace.edges.embedded_kafka import EmbeddedKafka

    directory.mkdir(parents=True, exist_ok=True)
    kafka = EmbeddedKafka(directory, port or DEFAULT_PORT)
    kafka.start(say)
    try:
        environment["HEADRACE_BOOTSTRAP_SERVERS"] = kafka.bootstrap_servers
        environment.setdefault("HEADRACE_REPLICATION", "1")
        return _with_kafka(load(environment), environment)
    finally:
        say("stopping Kafka")
        kafka.stop()


def _with_kafka(settings: Settings, environment: dict[str, str]) -> int:
    settings = quiet(settings)
    check_broker(settings)
    ensure_internal_topics(settings)
    state_file = settings.state / STATE_FILE
    settings.state.mkdir(parents=True, exist_ok=True)
    left = {"bootstrap_servers": settings.bootstrap_servers, "topic_prefix": settings.topics.prefix, "pid": os.getpid()}
    state_file.write_bytes(orjson.dumps(left))
    supervisor = Supervisor(environment)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: supervisor.request_stop())
    try:
        supervisor.start()
        say(
            f"Headrace is up on {settings.bootstrap_servers}; `headrace status` tells when it is ready, Ctrl-C stops it"
        )
        supervisor.run()
    finally:
        say("stopping the roles")
        supervisor.stop()
        state_file.unlink(missing_ok=True)
    return 0
