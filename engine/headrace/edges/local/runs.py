"""Runs of Metaflow flows as processes of this machine: `python flow.py run --name=value …`, a few at a time."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from headrace.edges.local import run_guard
from headrace.edges.local.flow_user import environment_with_user
from headrace.model.errors import HeadraceError, SettingsError

LOGS_MAX = 1000
# Linux takes no longer argument (MAX_ARG_STRLEN, with the zero byte at its end).
ARGUMENT_BYTES_MAX = 128 * 1024 - 1
_FIRING_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_PARAMETER_NAME = re.compile(r"[^\s=\0-][^\s=\0]*")
_KILLED = 128 + signal.SIGKILL


class LocalRunRefused(HeadraceError):
    """No process can ever be started with such arguments."""


class LocalRunNotStarted(HeadraceError):
    """The process could not be started now: no slot is free, runs are being stopped, or the machine is short."""


class LocalRun:
    """One process that runs a flow, below a guard that kills it, and all that it started, when our process dies."""

    def __init__(self, firing_id: str, log: Path, guard: asyncio.subprocess.Process) -> None:
        """Use `LocalRuns.start` instead."""
        self._firing_id = firing_id
        self._log = log
        self._guard = guard
        self._end = asyncio.create_task(self._wait_for_guard(), name=f"local run of firing {firing_id}")

    @property
    def firing_id(self) -> str:
        """Id of the firing that it runs for."""
        return self._firing_id

    @property
    def log(self) -> Path:
        """File that gets its standard output and standard error."""
        return self._log

    @property
    def end(self) -> asyncio.Future[int]:
        """Done with the exit code once the process and all of its group are gone; not to be cancelled."""
        return self._end

    async def wait(self) -> int:
        """Return the exit code once it has ended: the process's own, or 128 + n where signal n ended it.

        Any number of callers may wait, and giving up does not disturb the run.
        """
        return await asyncio.shield(self._end)

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and all that it started; do nothing once it has ended."""
        if not self._end.done():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._guard.pid, number)

    async def _wait_for_guard(self) -> int:
        assert self._guard.stdout is not None
        lines = (await self._guard.stdout.read()).split()
        guard_code = await self._guard.wait()
        if len(lines) == 2:
            return int(lines[1])
        # The guard was killed before it could see the end, and clear up.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._guard.pid, signal.SIGKILL)
        return 128 - guard_code if guard_code < 0 else guard_code or _KILLED


class LocalRuns:
    """Starts flows, at most `slots` at once, and keeps the newest 1000 logs.

    A run outlives neither its `LocalRuns`' process nor `stop`. Where the engine is killed, the guard of each run sees
    it within half a second, by the end of a pipe or by its parent's pid, and kills the run's whole process group; on
    Linux the flow itself dies even if the guard is killed too.
    """

    def __init__(self, log_dir: Path, slots: int, python: str = sys.executable) -> None:
        """Prepare runs with logs in `log_dir`, which is created.

        Args:
            python: the interpreter that has Metaflow, as a path or a command's name.

        Raises:
            SettingsError: there is no such interpreter.
        """
        found = shutil.which(python)
        if found is None:
            raise SettingsError(f"the Python for local flows, {python}, does not exist: name one that has Metaflow")
        # Not resolved: a virtual environment is recognised by the path of its link.
        self._python = os.path.abspath(found)
        self._log_dir = log_dir.absolute()
        self._log_dir.mkdir(parents=True, exist_ok=True)
        self._slots = slots
        self._starting = 0
        self._stopping = False
        self._running: set[LocalRun] = set()

    @property
    def free_slots(self) -> int:
        """How many more runs may be started now."""
        return 0 if self._stopping else self._slots - len(self._running) - self._starting

    def log_file(self, firing_id: str) -> Path:
        """Return the file that gets the output of a firing's run."""
        return self._log_dir / f"{_checked_id(firing_id)}.log"

    async def start(
        self, firing_id: str, flow: Path, parameters: Mapping[str, str], environment: Mapping[str, str] | None = None
    ) -> LocalRun:
        """Start a flow in the engine's own working directory, and return without waiting for its end.

        Args:
            flow: the flow's file.
            parameters: the flow's parameters by name, as texts of the command line.
            environment: variables to set beside, or in place of, the engine's own.

        Raises:
            LocalRunRefused: an argument cannot be passed to a process, now or ever.
            LocalRunNotStarted: no slot is free, or the machine cannot start a process now.
        """
        if self.free_slots <= 0:
            raise LocalRunNotStarted(f"all {self._slots} slots for local runs are taken: wait until one is free")
        command = self._command(flow, parameters)
        log = self.log_file(firing_id)
        self._starting += 1
        try:
            run = LocalRun(firing_id, log, await self._start_guard(command, log, environment or {}))
        finally:
            self._starting -= 1
        self._running.add(run)
        run.end.add_done_callback(lambda _: self._running.discard(run))
        if self._stopping:
            run.signal_group(signal.SIGKILL)
        self.remove_old_logs()
        return run

    async def stop(self, timeout_s: float) -> tuple[str, ...]:
        """End all runs: ask them to, wait, and kill what is left after `timeout_s` seconds; no more are started.

        Returns:
            The firings whose runs were cut short: all that still ran, except those that yet ended with code 0.
        """
        self._stopping = True
        runs = tuple(self._running)
        for run in runs:
            run.signal_group(signal.SIGTERM)
        if runs:
            await asyncio.wait([run.end for run in runs], timeout=timeout_s)
        for run in runs:
            run.signal_group(signal.SIGKILL)
        codes = await asyncio.gather(*(run.wait() for run in runs))
        return tuple(run.firing_id for run, code in zip(runs, codes, strict=True) if code != 0)

    def _command(self, flow: Path, parameters: Mapping[str, str]) -> list[bytes]:
        return [os.fsencode(self._python), os.fsencode(flow.absolute()), b"run", *_arguments(parameters)]

    async def _start_guard(
        self, command: list[bytes], log: Path, environment: Mapping[str, str]
    ) -> asyncio.subprocess.Process:
        try:
            with log.open("ab") as output:
                return await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-I", "-S", run_guard.__file__),
                    *command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=output,
                    env={**environment_with_user(), **environment},
                    start_new_session=True,
                )
        except OSError as error:
            if error.errno == errno.E2BIG:
                raise LocalRunRefused(
                    "the parameters are longer than this system lets a process's arguments be: pass less payload"
                ) from error
            raise LocalRunNotStarted(f"no process could be started for {log}: {error}") from error

    def remove_old_logs(self) -> None:
        """Keep the newest 1000 logs, and those of runs in progress; each start does so."""
        logs = list(self._log_dir.glob("*.log"))
        if len(logs) <= LOGS_MAX:
            return
        in_use = {run.log for run in self._running}
        logs.sort(key=lambda log: log.stat().st_mtime_ns, reverse=True)
        for log in logs[LOGS_MAX:]:
            if log not in in_use:
                log.unlink(missing_ok=True)


def _checked_id(firing_id: str) -> str:
    if not _FIRING_ID.fullmatch(firing_id):
        raise LocalRunRefused(f"the firing id {firing_id!r} cannot name a log file: its record is damaged")
    return firing_id


def _arguments(parameters: Mapping[str, str]) -> list[bytes]:
    """Return one argument for each parameter: joined by '=', no value can be taken for an option."""
    arguments = []
    for name, value in parameters.items():
        if not _PARAMETER_NAME.fullmatch(name):
            raise LocalRunRefused(f"{name!r} cannot be a flow's parameter: correct the trigger's parameters")
        try:
            argument = f"--{name}={value}".encode()
        except UnicodeEncodeError as error:
            raise LocalRunRefused(
                f"the value of parameter {name} is no valid Unicode text: {error.reason} at character {error.start}"
            ) from error
        if b"\0" in argument:
            raise LocalRunRefused(f"the value of parameter {name} holds a zero byte, which no process can be given")
        if len(argument) > ARGUMENT_BYTES_MAX:
            raise LocalRunRefused(
                f"parameter {name} has {len(argument)} bytes with its value; a process takes {ARGUMENT_BYTES_MAX} "
                "for each: pass less payload, or a reference to it"
            )
        arguments.append(argument)
    return arguments
