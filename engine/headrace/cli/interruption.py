"""Ctrl-C and SIGTERM, alike: the first one interrupts the work, and no further one disturbs the clean-up."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether signals still interrupt."""

    def __init__(self) -> None:
        self.came = False

    def disarm(self) -> None:
        """Ignore signals from now on: what is being stopped need not be told."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def take(self, _number: int, _frame: FrameType | None) -> None:
        """Handle the one signal that counts."""
        self.came = True
        self.disarm()
        raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Raise KeyboardInterrupt in the main thread at the first SIGINT or SIGTERM, and ignore all that follow.

    The block's own context managers thus stop everything without being interrupted themselves.
    """
    interruption = Interruption()
    before = [signal.signal(number, interruption.take) for number in _SIGNALS]
    try:
        yield interruption
    finally:
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, handler)
