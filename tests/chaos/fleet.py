"""The fleet: so many processes of each role, started anew when they end, as a cluster's Deployments would do."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from headrace.edges.faust.app import EXIT_STATUS
from tests.support.engine import COMMAND, ROLES, Engine, RoleProcess

ROOT = Path(__file__).parents[2]
TEND_INTERVAL_S = 0.1
RESTART_DELAY_S = 0.5


class Fleet:
    """Runs the roles of an engine, whose environment and directory it uses; the engine itself starts none."""

    def __init__(self, engine: Engine) -> None:
        """Start nothing yet."""
        self.engine = engine
        self.ended: Counter[str] = Counter()
        """How often a role ended by itself, by role and exit code."""
        self.behind_s = 0
        """How far the clock of processes that start from now on is behind, in seconds."""
        self._lock = threading.RLock()
        self._processes: dict[str, list[RoleProcess]] = {role: [] for role in ROLES}
        self._waiting: list[tuple[float, str]] = []
        """When processes that ended start again, and their roles."""
        self._started = 0
        self._ended_by_design: set[Path] = set()
        """Logs of processes that ended themselves so as not to do harm, which say where in the code that was."""
        self._stop = threading.Event()
        self._tending = threading.Thread(target=self._tend, name="fleet", daemon=True)
        self._tending.start()

    def processes(self, role: str) -> list[RoleProcess]:
        """Those that should run now, oldest first."""
        with self._lock:
            return list(self._processes[role])

    def count(self, role: str) -> int:
        """How many processes of a role there should be, those that are about to start again included."""
        with self._lock:
            return len(self._processes[role]) + sum(waiting == role for _, waiting in self._waiting)

    def start(self, *roles: str) -> None:
        """Start one process of each role named."""
        with self._lock:
            for role in roles:
                self._processes[role].append(self._new(role))

    def kill(self, role: str) -> None:
        """Kill the oldest process of a role; another takes its place."""
        self.take(role).kill()
        self.start(role)

    def terminate(self, role: str) -> None:
        """Stop the oldest process of a role, which must end cleanly; no other takes its place."""
        process = self.take(role)
        code = process.terminate()
        assert code == 0, f"{process} was told to stop and ended with {code}: {process.log}"

    def take(self, role: str) -> RoleProcess:
        """Return the oldest process of a role, which is nobody's from now on."""
        deadline_s = time.monotonic() + 30
        while True:
            with self._lock:
                living = [process for process in self._processes[role] if not process.ended]
                if living:
                    self._processes[role].remove(living[0])
                    return living[0]
            # It ended by itself a moment ago, and starts again.
            assert time.monotonic() < deadline_s, f"no process of {role} stays alive: see {self.engine.directory}"
            time.sleep(TEND_INTERVAL_S)

    def stop_role(self, role: str) -> int:
        """Stop all processes of a role cleanly; return how many there were."""
        count = self.count(role)
        for _ in range(count):
            self.terminate(role)
        return count

    def stop(self) -> None:
        """Stop tending, and stop every process cleanly."""
        self._end_tending()
        for role in ROLES:
            for process in self.processes(role):
                if not process.ended:
                    self.terminate(role)

    def abandon(self) -> None:
        """Kill whatever still runs, as nothing does after `stop`."""
        self._end_tending()
        for role in ROLES:
            for process in self._processes[role]:
                if not process.ended:
                    process.signal(signal.SIGCONT)
                    process.kill()

    def tracebacks(self) -> list[str]:
        """Name the logs in which something failed that nobody had thought of."""
        logs = sorted(set(self.engine.directory.glob("*.log")) - self._ended_by_design)
        return [path.name for path in logs if "Traceback" in path.read_text(errors="replace")]

    def _new(self, role: str) -> RoleProcess:
        self._started += 1
        log = self.engine.directory / f"{self._started:03}-{role}.log"
        command: Sequence[str] = (*COMMAND, "run")
        if self.behind_s:
            command = (sys.executable, "-m", "tests.chaos.clock", str(self.behind_s))
        # By its client id, a process is found among the members of its group.
        environment = {**self.engine.environment, "PYTHONPATH": str(ROOT), "HEADRACE_KAFKA_CLIENT_ID": log.stem}
        return RoleProcess(role, environment, log, command)

    def _tend(self) -> None:
        while not self._stop.wait(TEND_INTERVAL_S):
            now_s = time.monotonic()
            with self._lock:
                for role, processes in self._processes.items():
                    for process in [process for process in processes if process.ended]:
                        processes.remove(process)
                        self.ended[f"{role} {process.status}"] += 1
                        if process.status == EXIT_STATUS:
                            self._ended_by_design.add(process.log)
                        self._waiting.append((now_s + RESTART_DELAY_S, role))
                due = [role for due_s, role in self._waiting if due_s <= now_s]
                self._waiting = [(due_s, role) for due_s, role in self._waiting if due_s > now_s]
                self.start(*due)

    def _end_tending(self) -> None:
        self._stop.set()
        self._tending.join()
