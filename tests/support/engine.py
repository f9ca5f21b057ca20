"""The engine as its users run it: one process for each role, and the command line, each with a real environment."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.main import main
from tests.support.kafka import DEADLINE_S, wait_until

ROLES = ("route", "join", "submit")
COMMAND = (sys.executable, "-m", "headrace")
# A bound for whatever a single command or a clean stop may take, not an expectation.
COMMAND_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 60.0
HTTP_TIMEOUT_S = 10.0
LOG_TAIL_CHARACTERS = 6000

Row = dict[str, Any]


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    arguments: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def rows(self) -> list[Row]:
        """Standard output as JSON Lines."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    def expect(self, code: int) -> Said:
        """Return this, if the exit code is as it should be; no command may ever show a traceback."""
        assert self.code == code, f"{self} ended with {self.code}, not {code}"
        assert "Traceback" not in self.stderr + self.stdout, f"{self} shows a traceback"
        return self

    def refusal(self, code: int = 1) -> str:
        """Return the one line on stderr with which the command gave up; nothing else may have been printed."""
        self.expect(code)
        assert self.stdout == "", f"{self} printed a result besides its refusal"
        lines = self.stderr.strip().splitlines()
        assert len(lines) == 1, f"{self} says more, or less, than one sentence"
        return lines[0]

    def __str__(self) -> str:
        return f"headrace {' '.join(self.arguments)} (stdout: {self.stdout!r}, stderr: {self.stderr!r})"


def here(environment: Mapping[str, str], *arguments: str, stdin: str = "") -> Said:
    """Run a command in this process: the same `main` with the same broker, without the start of an interpreter.

    That start takes longer than most commands, so only what tests processes has processes of its own. No HEADRACE_
    variable but those of `environment` is seen.
    """
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        patch.setattr(sys, "argv", ["headrace", *arguments])
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        for name in [name for name in os.environ if name.startswith(("HEADRACE_", "KUBE"))]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    return Said(arguments, code, stdout.getvalue(), stderr.getvalue())


class RoleProcess:
    """One process of one role; its log goes to a file."""

    def __init__(
        self, role: str, environment: Mapping[str, str], log: Path, command: Sequence[str] = (*COMMAND, "run")
    ) -> None:
        """Start it; `command` is completed by the role's name."""
        self.role = role
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, role],
                env=dict(environment),
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def name(self) -> str:
        """Which one of its engine it is."""
        return self.log.stem

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def status(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash does, without any chance to tidy up."""
        assert not self.ended, f"{self} is gone already: {self.log_tail()}"
        self._process.kill()
        assert self._process.wait() == -signal.SIGKILL

    def terminate(self) -> int:
        """Ask it to stop, and return its exit code."""
        self._process.terminate()
        return self.wait()

    def wait(self) -> int:
        """Return its exit code once it has ended."""
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            # Its last words are where each of its threads stands.
            self._process.send_signal(signal.SIGABRT)
            self._process.wait()
            raise AssertionError(f"{self} did not end within {STOP_TIMEOUT_S:g} s: {self.log_tail()}") from None

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]

    def __str__(self) -> str:
        return f"{self.role} (pid {self.pid})"


class Engine:
    """Roles and commands that share one environment."""

    def __init__(self, environment: Mapping[str, str], directory: Path) -> None:
        """Prepare; `environment` holds the settings alone, and `directory` is for state and logs."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.environment = {
            # Nothing of the person's own settings may reach the processes.
            **{name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "KUBE"))},
            "PYTHONFAULTHANDLER": "1",
            "HEADRACE_REPLICATION": "1",
            # The usual port may be taken where tests run.
            "HEADRACE_INGRESS_ADDRESS": "127.0.0.1:0",
            "HEADRACE_STATE": str(directory / "state"),
            **environment,
        }
        self._running: list[RoleProcess] = []
        self._started = 0
        # What ends itself by design may say where in the code that was.
        self._may_trace: set[Path] = set()

    @property
    def prefix(self) -> str:
        """The beginning of the internal topics' and groups' names."""
        return self.environment["HEADRACE_TOPIC_PREFIX"]

    @property
    def bootstrap_servers(self) -> str:
        return self.environment["HEADRACE_BOOTSTRAP_SERVERS"]

    def running(self, role: str | None = None) -> list[RoleProcess]:
        """The processes that should run now, oldest first; those of one role, if named."""
        return [process for process in self._running if role in (None, process.role)]

    def start(self, *roles: str, **environment: str) -> list[RoleProcess]:
        """Start one process for each role named, or for every role; return without waiting."""
        new = []
        for role in roles or ROLES:
            self._started += 1
            log = self.directory / f"{self._started:02}-{role}.log"
            new.append(RoleProcess(role, {**self.environment, **environment}, log))
        self._running.extend(new)
        return new

    def start_and_wait(self, *roles: str, **environment: str) -> list[RoleProcess]:
        """Start processes as `start` does, and return once all that should run are ready."""
        new = self.start(*roles, **environment)
        self.wait_until_ready()
        return new

    def kill(self, role: str) -> RoleProcess:
        """Kill the oldest process of a role, start another at once as a supervisor would, and return that one."""
        self._take(role).kill()
        return self.start(role)[0]

    def terminate(self, role: str) -> int:
        """Stop the oldest process of a role cleanly and return its exit code."""
        return self._take(role).terminate()

    def wait_for_end(self, role: str) -> int:
        """Wait until the oldest process of a role ends by itself, as a test wants it to; return its exit code."""
        process = self._take(role)
        self._may_trace.add(process.log)
        return process.wait()

    def _take(self, role: str) -> RoleProcess:
        process = self.running(role)[0]
        self._running.remove(process)
        return process

    def wait_until_ready(self) -> None:
        """Return once every process that should run answers 200 at /readyz."""
        self.wait_until(lambda: self._addresses() is not None, "every role's announcement")
        for address in (self._addresses() or {}).values():
            self.wait_until(lambda at=address: get(at, "/readyz")[0] == 200, f"readiness at {address}")  # type: ignore[misc]

    def address(self, process: RoleProcess) -> str:
        """Return where a process serves HTTP, once `headrace status` tells."""
        self.wait_until(lambda: self._addresses() is not None, f"the announcement of {process}")
        return (self._addresses() or {})[process.pid]

    def _addresses(self) -> dict[int, str] | None:
        said = self.here("status", "--json")
        if said.code == 1 and not said.stdout:
            return None
        addresses = {row["pid"]: row["http"] for row in said.rows}
        pids = {process.pid for process in self._running}
        # Processes that were killed a moment ago are still listed.
        return {pid: addresses[pid] for pid in pids} if pids <= set(addresses) else None

    def metrics(self, role: str) -> dict[str, float]:
        """Return the samples of a role, summed over its processes, by `name{label="value"}`."""
        total: dict[str, float] = {}
        for process in self.running(role):
            status, text = get(self.address(process), "/metrics")
            assert status == 200
            for line in text.splitlines():
                if not line.startswith("#"):
                    name, _, value = line.rpartition(" ")
                    total[name] = total.get(name, 0.0) + float(value)
        return total

    def here(self, *arguments: str, stdin: str = "") -> Said:
        """Run a command in this process, see `here`."""
        return here(self.environment, *arguments, stdin=stdin)

    def cli(self, *arguments: str, stdin: str | None = None, **environment: str) -> Said:
        """Run a command as a process to its end; keywords replace variables of the environment."""
        ended = subprocess.run(
            [*COMMAND, *arguments],
            env={**self.environment, **environment},
            cwd=self.directory,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        return Said(arguments, ended.returncode, ended.stdout, ended.stderr)

    def wait_until(self, condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
        """Return once the condition holds; a role that ended meanwhile, or the deadline, fails with the logs."""

        def holds() -> bool:
            dead = [process for process in self._running if process.ended]
            assert not dead, f"{dead[0]} ended by itself"
            return condition()

        try:
            wait_until(holds, what, deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_tails()}") from None

    def log_tails(self) -> str:
        return "\n".join(f"--- {process}\n{process.log_tail()}" for process in self._running)

    def stop(self) -> None:
        """Stop every role, and fail if one had ended by itself, stops uncleanly or has logged a traceback."""
        processes, self._running = self._running, []
        early = [str(process) for process in processes if process.ended]
        codes = {str(process): process.terminate() for process in processes if not process.ended}
        assert not early, f"{early} had ended before they were told to: {processes[0].log.parent}"
        assert set(codes.values()) <= {0}, f"stopped with {codes}: {processes[0].log.parent}"
        assert not list(self._traced()), f"a traceback is in {[str(path) for path in self._traced()]}"

    def abandon(self) -> None:
        """Kill whatever still runs, as nothing does after `stop`."""
        for process in self._running:
            if not process.ended:
                process.kill()
        self._running = []

    def _traced(self) -> Iterable[Path]:
        logs = set(self.directory.glob("*.log")) - self._may_trace
        return (log for log in sorted(logs) if "Traceback" in log.read_text(errors="replace"))


def get(address: str, path: str) -> tuple[int, str]:
    """Ask a role over HTTP; return the status and the body."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=HTTP_TIMEOUT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
