"""The fence: the span of time in which this process may write, because it is surely still its group's member.

A process that was paused, cut off or too slow may have lost its partitions without knowing it. Whoever owns them now
starts from what is written at that moment, so a late write of the old owner would corrupt the new one's state. The
group forgets a member a session timeout after its last sign of life; so a member that writes only within a shorter
time after a commit that the group accepted, and whose writes give up soon, can never write beside its successor.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from headrace.model.errors import HeadraceError

Clock = Callable[[], float]
"""Seconds from an arbitrary start, never going back."""


class FenceExpired(HeadraceError):
    """This process may have lost its partitions: it must not write, and has to start anew."""


def boot_time_s() -> float:
    """Seconds since the machine started, with the time that it slept: a suspended machine must not look young."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Fence:
    """Says whether writing is allowed. It starts closed; only a commit that the group accepted opens it."""

    def __init__(self, lifetime_s: float, clock: Clock = boot_time_s) -> None:
        """Let one renewal allow writes for `lifetime_s` seconds of `clock`."""
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._proven_at_s: float | None = None

    def now_s(self) -> float:
        """The fence's clock, in seconds."""
        return self._clock()

    @property
    def is_open(self) -> bool:
        """Whether partitions are held at all; an open fence may still have expired."""
        return self._proven_at_s is not None

    @property
    def age_s(self) -> float | None:
        """Seconds since the group last proved that this process is its member; None when the fence is closed."""
        return None if self._proven_at_s is None else self._clock() - self._proven_at_s

    @property
    def has_expired(self) -> bool:
        """Whether the fence is open, but its last renewal too long ago."""
        age_s = self.age_s
        return age_s is not None and age_s > self._lifetime_s

    def renew(self, asked_at_s: float) -> None:
        """Open the fence, or keep it open: the group accepted a commit that was asked for at `asked_at_s`.

        The time of the question counts, not that of the answer: the answer may have waited for a paused process.
        """
        if self._proven_at_s is None or asked_at_s > self._proven_at_s:
            self._proven_at_s = asked_at_s

    def close(self) -> None:
        """Allow no writes until the next renewal: the partitions were given back."""
        self._proven_at_s = None

    def check(self) -> None:
        """Return if writing is allowed, else raise `FenceExpired`."""
        age_s = self.age_s
        if age_s is None:
            raise FenceExpired(
                "a write was refused because this process holds no partitions: it has to start anew to get some."
            )
        if age_s > self._lifetime_s:
            raise FenceExpired(
                f"a write was refused because the group last confirmed this process {age_s:.1f} s ago, more than "
                f"{self._lifetime_s:g} s: another process may own its partitions, so it has to start anew."
            )
