"""A child process that dies with its parent, however that ends, and that the terminal's Ctrl-C spares."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from headrace.edges.local import child_guard

# How long a killed process may take to be gone; only a machine in deep trouble needs so much.
_KILL_TIMEOUT_S = 10.0


class GuardedProcess:
    """A running command below its guard, in a session of its own (see `child_guard`)."""

    def __init__(self, command: Sequence[str], *, console: Path, held_fd: int) -> None:
        """Start `command`, an absolute path and its arguments, with its output in the file `console`.

        The guard keeps the file descriptor `held_fd` open until the process is gone. A command that cannot be
        started at all shows as a process that has ended, with the reason in `console`.
        """
        arguments = [sys.executable, "-I", "-S", child_guard.__file__, str(held_fd), *command]
        with console.open("wb") as output:
            self._guard = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
                pass_fds=(held_fd,),
            )
        assert self._guard.stdout is not None
        with self._guard.stdout as announcement:
            line = announcement.readline()
        self._pid = int(line) if line else None

    @property
    def pid(self) -> int | None:
        """Process id of the command, not of its guard; None when it has ended."""
        return self._pid if self.is_running() else None

    def is_running(self) -> bool:
        """Say whether the command has not ended yet."""
        return self._guard.poll() is None

    def terminate(self, *, timeout_s: float) -> None:
        """Ask the command to end, wait for that, and kill it when `timeout_s` seconds have passed."""
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._guard.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """Kill the command, as a crash would, and wait until it is gone; once it is gone, do nothing."""
        self._signal(signal.SIGKILL)
        # The end of its standard input makes the guard kill whatever the signal did not reach.
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(_KILL_TIMEOUT_S)

    def _signal(self, number: signal.Signals) -> None:
        pid = self.pid
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
