"""What happens to open connections when the process ends or forks, which nobody else would think of."""

import atexit
import os
import sys
import time
from typing import Protocol

EXIT_TIMEOUT_S = 10.0
"""The longest that the end of the process waits for undelivered events, of all publishers together."""


class Open(Protocol):
    """Something that holds undelivered events."""

    close_timeout_s: float

    def close(self, timeout_s: float) -> int:
        """Delivers what it can within the time, reports the rest, and disconnects."""

    def leave_to_parent(self) -> None:
        """Called in a forked child: forgets what the parent still has, and destroys none of it."""


_open: set[Open] = set()


def register(it: Open) -> None:
    """Has `it` closed at the end of the process, unless `forget` comes first."""
    _open.add(it)
    # A child of multiprocessing ends without exit handlers, but runs its own finalizers.
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, close_all, exitpriority=0)


def forget(it: Open) -> None:
    """Takes `it` off the list, as it is closed."""
    _open.discard(it)


def close_all() -> None:
    """Closes all that is open, within EXIT_TIMEOUT_S altogether."""
    deadline_s = time.monotonic() + EXIT_TIMEOUT_S
    for it in list(_open):
        it.close(min(it.close_timeout_s, max(0.0, deadline_s - time.monotonic())))


def _after_fork_in_child() -> None:
    for it in list(_open):
        it.leave_to_parent()
    _open.clear()


atexit.register(close_all)
if hasattr(os, "register_at_fork"):  # Windows cannot fork.
    os.register_at_fork(after_in_child=_after_fork_in_child)
