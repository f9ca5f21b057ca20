"""Stands between a process and a child that must not outlive it: kills the child once the process is gone.

Run as a script, with the standard library only, so that it starts in milliseconds: `python -I -S
child_guard.py HELD_FD COMMAND…`. It starts COMMAND, writes the child's pid as one line to standard output,
and ends with the child's exit code (128 + n for signal n). Standard input is a pipe that the parent never
writes to: its end means that the parent died, however that happened. HELD_FD is a lock's file descriptor that
the guard keeps open, so that the lock lasts until the child is really gone.

A parent-death signal alone would not do: macOS has none, and Linux sends it when the *thread* that started
the child ends. The guard has a single thread, so below it that signal is exact, and covers the death of the
guard itself.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from types import FrameType
from typing import Any

# A forked copy of the parent may hold the pipe open after the parent's death; the parent's pid tells that
# too.
PARENT_CHECK_INTERVAL_S = 0.5
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Start the child, wait for its end or for the parent's, whichever comes first; return an exit code."""
    held_fd, command = int(arguments[0]), arguments[1:]
    os.set_inheritable(held_fd, False)
    parent_pid = os.getppid()
    woken_fd, waker_fd = os.pipe()
    # Nobody writes more than a few bytes here: the handler must never block.
    os.set_blocking(waker_fd, False)
    child_pid = _start(command)
    _install_handlers(child_pid, waker_fd)
    sys.stdout.write(f"{child_pid}\n")
    sys.stdout.flush()
    while True:
        ended_pid, status = os.waitpid(child_pid, os.WNOHANG)
        if ended_pid:
            break
        readable, _, _ = select.select([0, woken_fd], [], [], PARENT_CHECK_INTERVAL_S)
        if woken_fd in readable:
            os.read(woken_fd, 1024)
        if (0 in readable and not os.read(0, 1024)) or os.getppid() != parent_pid:
            os.kill(child_pid, signal.SIGKILL)
            _, status = os.waitpid(child_pid, 0)
            break
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _start(command: list[str]) -> int:
    """Fork and become `command`, with no standard input and with standard error as its standard output."""
    parent_death_signal = _parent_death_signal()
    guard_pid = os.getpid()
    child_pid = os.fork()
    if child_pid:
        return child_pid
    try:
        if parent_death_signal is not None:
            parent_death_signal(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard_pid:
            os._exit(1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        os.execv(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]} could not be started: {error}\n".encode())
    finally:
        os._exit(127)


def _parent_death_signal() -> Any:
    """Return Linux's prctl, or None where there is none; to be called before the fork: it imports."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    return ctypes.CDLL(None, use_errno=True).prctl


def _install_handlers(child_pid: int, waker_fd: int) -> None:
    def wake(_signal: int, _frame: FrameType | None) -> None:
        os.write(waker_fd, b"x")

    def pass_on(number: int, _frame: FrameType | None) -> None:
        os.kill(child_pid, number)

    signal.signal(signal.SIGCHLD, wake)
    signal.signal(signal.SIGTERM, pass_on)
    # The terminal's Ctrl-C and hang-up are the parent's to judge; its end reaches the guard through the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
