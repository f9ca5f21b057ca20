"""The clocks of this machine, handed to the roles, so that a simulation of them can let time pass as it likes."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What time it is."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, as the machine believes."""

    def elapsed_s(self) -> float:
        """Seconds from an arbitrary start, never going back."""


class SystemClock:
    """The machine's own."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, as the machine believes."""
        return time.time_ns() // 1_000_000

    def elapsed_s(self) -> float:
        """Seconds from an arbitrary start, never going back."""
        return time.monotonic()
