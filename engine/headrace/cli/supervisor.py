"""The supervisor behind `headrace up` and `headrace demo`: Kafka and roles as child processes, one log, one Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import orjson

from headrace.cli.interruption import interruptible
from headrace.cli.options import quiet
from headrace.cli.output import say
from headrace.edges.kafka.clients import check_broker
from headrace.edges.kafka.topics import ensure_internal_topics
from headrace.edges.kube import credentials
from headrace.edges.local import child_guard
from headrace.edges.state_lock import StateLock
from headrace.model.errors import HeadraceError
from headrace.roles.start import OPTIONAL_ROLES, ROLES
from headrace.settings import STATE_FILE, Settings, load

DEFAULT_PORT = 9092
STOP_TIMEOUT_S = 40.0
TEND_INTERVAL_S = 0.1
RESTART_DELAYS_S = (0.2, 1.0, 2.0, 5.0, 10.0)
STEADY_AFTER_S = 60.0
"""A role that ran this long has recovered: its next restart is quick again."""


@dataclass(slots=True)
class Child:
    """One role's process."""

    role: str
    process: subprocess.Popen[bytes]
    reader: threading.Thread
    started_s: float
    failures: int = 0
    restart_at_s: float | None = None


class Supervisor:
    """Keeps one process of each role running, from `start` to `stop`."""

    def __init__(self, environment: dict[str, str], log: IO[str] = sys.stderr) -> None:
        """Start nothing yet; `environment` tells the children where Kafka is."""
        self._environment = environment
        self._log = log
        self._write = threading.Lock()
        self._children: dict[str, Child] = {}
        self._stop = threading.Event()
        self._tending = threading.Thread(target=self._tend_until_stop, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start every role, and from now on start again what ends."""
        for role in ROLES:
            if role == "sync" and not credentials.configured():
                continue
            self._children[role] = self._spawn(role)
        self._tending.start()

    def _tend_until_stop(self) -> None:
        while not self._stop.wait(TEND_INTERVAL_S):
            self._tend()

    def _tend(self) -> None:
        now_s = time.monotonic()
        for role, child in list(self._children.items()):
            if child.restart_at_s is not None:
                if now_s >= child.restart_at_s:
                    self._children[role] = self._spawn(role, child.failures)
                continue
            status = child.process.poll()
            if status is None:
                continue
            if status == 0 and role in OPTIONAL_ROLES:
                # It has found that nobody needs it.
                del self._children[role]
                continue
            child.failures = 1 if now_s - child.started_s > STEADY_AFTER_S else child.failures + 1
            delay_s = RESTART_DELAYS_S[min(child.failures, len(RESTART_DELAYS_S)) - 1]
            child.restart_at_s = now_s + delay_s
            self._say(f"{role} ended with status {status}; it starts again in {delay_s:g} s")

    def stop(self) -> None:
        """Stop every role cleanly, and by force what does not follow."""
        self._stop.set()
        if self._tending.is_alive():
            self._tending.join()
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
            child.reader.join(timeout=2)

    def _spawn(self, role: str, failures: int = 0) -> Child:
        command = [sys.executable, "-m", "headrace", "run", role, "--if-wanted"]
        process = subprocess.Popen(
            # The guard ends the role when we die, however that happens; it sees that by the end of its input.
            [sys.executable, "-I", "-S", child_guard.__file__, "0", *command],
            env=self._environment,
            stdin=subprocess.PIPE,
            # The guard announces a pid there; what the role says goes to standard error altogether.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # Ctrl-C reaches the whole foreground group; the roles stop when we say so, in our order.
            start_new_session=True,
        )
        reader = threading.Thread(target=self._copy, args=(process,), daemon=True)
        reader.start()
        return Child(role, process, reader, time.monotonic(), failures)

    def _copy(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            with self._write:
                self._log.write(line.decode("utf-8", "replace"))
                self._log.flush()

    def _say(self, sentence: str) -> None:
        with self._write:
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} up     {sentence}\n")
            self._log.flush()


@contextmanager
def everything(environment: dict[str, str], port: int | None, log: IO[str] = sys.stderr) -> Iterator[Settings]:
    """Run Kafka (unless `environment` names one) and every role, and stop all of it in the end.

    Yields the settings that lead to it. The roles are started then, but not ready yet.

    Args:
        environment: settings, for this process and the roles; `HEADRACE_STATE` is the state directory.
        port: the embedded Kafka's; None for a free one.
        log: gets what the roles say.

    Raises:
        HeadraceError: Kafka could not be started or reached; nothing is left running.
    """
    directory = Path(environment["HEADRACE_STATE"])
    # What an earlier run left in the state directory says nothing about this one.
    settings = replace(load({**environment, "HEADRACE_STATE": os.devnull}), state=directory)
    directory.mkdir(parents=True, exist_ok=True)
    if settings.bootstrap_servers is not None:
        say(f"using the Kafka at {settings.bootstrap_servers}")
        with _roles(settings, environment, log):
            yield settings
        return
    from headrace.edges.kafka.embedded import EmbeddedKafka

    kafka = EmbeddedKafka(directory, port)
    try:
        kafka.start(say)
        named = {"HEADRACE_REPLICATION": "1", **environment, "HEADRACE_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
        settings = load(named)
        with _roles(settings, named, log):
            yield settings
    finally:
        if kafka.is_running():
            say("stopping Kafka")
        kafka.stop()


@contextmanager
def _roles(settings: Settings, environment: dict[str, str], log: IO[str]) -> Iterator[None]:
    check_broker(quiet(settings))
    ensure_internal_topics(quiet(settings))
    # The embedded Kafka has a lock of its own; with another Kafka this is what keeps a second `up` from taking over the
    # state file and the local runs' logs.
    lock = StateLock(settings.state / "roles.lock")
    lock.acquire()
    state_file = settings.state / STATE_FILE
    left = {"bootstrap_servers": settings.bootstrap_servers, "topic_prefix": settings.topics.prefix, "pid": os.getpid()}
    supervisor = Supervisor(environment, log)
    try:
        state_file.write_bytes(orjson.dumps(left))
        supervisor.start()
        yield
    finally:
        say("stopping the roles")
        supervisor.stop()
        state_file.unlink(missing_ok=True)
        lock.release()


def supervise(state: Path | None, port: int | None) -> int:
    """Run everything until Ctrl-C or SIGTERM; return the exit code.

    Raises:
        HeadraceError: Kafka could not be started or reached.
    """
    environment = dict(os.environ)
    environment["HEADRACE_STATE"] = str(Path(state or environment.get("HEADRACE_STATE") or ".headrace").resolve())
    if port is not None and load({**environment, "HEADRACE_STATE": os.devnull}).bootstrap_servers is not None:
        raise HeadraceError("--port is for the embedded Kafka, but HEADRACE_BOOTSTRAP_SERVERS names another")
    with suppress(KeyboardInterrupt), interruptible(), everything(environment, port or DEFAULT_PORT) as settings:
        say(
            f"Headrace is up on {settings.bootstrap_servers}; `headrace status` tells when it is ready, Ctrl-C stops it"
        )
        threading.Event().wait()
    return 0
