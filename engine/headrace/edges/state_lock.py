"""A lock on a state directory, so that two `headrace up` never write to one Kafka's data."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from headrace.model.errors import HeadraceError

# How long to wait for what a killed `headrace up` left behind to go away; its guard needs milliseconds.
LEFTOVER_TIMEOUT_S = 10.0
_RETRY_INTERVAL_S = 0.05


class StateDirectoryInUse(HeadraceError):
    """Another process uses this state directory."""


class StateLock:
    """An exclusive lock on one file, released by the operating system when every holder of `fileno` is gone.

    The file holds the pid of its owner, as text, for the error message only: the lock is the operating
    system's, so a file that a crash left behind locks nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    @property
    def fileno(self) -> int:
        """The locked file descriptor, for a child that shall share the lock. `RuntimeError` when not held."""
        if self._fd is None:
            raise RuntimeError(f"the lock {self._path} is not held")
        return self._fd

    def acquire(self) -> None:
        """Take the lock. Raises `StateDirectoryInUse` with one sentence that names the owner's pid."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + LEFTOVER_TIMEOUT_S
        try:
            while not _locked(fd):
                owner_pid = _read_pid(fd)
                if owner_pid is None or _is_alive(owner_pid) or time.monotonic() > deadline:
                    raise StateDirectoryInUse(
                        f"another `headrace up` (pid {owner_pid or 'unknown'}) uses this state directory, "
                        f"{self._path.parent}: stop it, or set HEADRACE_STATE to another directory."
                    )
                # The owner is dead and its Kafka is being killed: a condition with a deadline, not an error.
                time.sleep(_RETRY_INTERVAL_S)
            os.ftruncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def release(self) -> None:
        """Let the lock go; nothing happens when it is not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_pid(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).decode(errors="replace").strip()
    return int(text) if text.isdigit() else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
