"""Pace: when a router's frames leave, so that a quiet system is quick and a busy one writes large frames."""

from __future__ import annotations

FRAME_INTERVAL_S = 0.020
"""Under load a partition gets at most one frame in this time."""
FRAMES_PER_S_MAX = 400.0
"""Under load all partitions together get at most so many. With many partitions their frames wait longer and hold more:
each costs the join the same, however little is in it."""
QUICK_FRAMES_PER_S = 200.0
"""Up to this rate, frames of all partitions together leave at once: the join takes them without falling behind."""
QUICK_FRAMES_BURST = 40.0


class Pace:
    """A bucket of quick frames that fills with time; when it is empty, frames wait for their interval."""

    def __init__(self) -> None:
        self._quick = QUICK_FRAMES_BURST
        self._counted_s = 0.0
        self._sent_s = float("-inf")
        self._interval_s = FRAME_INTERVAL_S

    def wait_s(self, now_s: float) -> float:
        """Return how long a frame has to wait, seconds; 0 where it may leave at once.

        Args:
            now_s: a clock that never goes back, seconds.
        """
        if self._sent_s == float("-inf") or self._available(now_s) >= 1.0:
            return 0.0
        return max(0.0, self._interval_s - (now_s - self._sent_s))

    def sent(self, frames: int, now_s: float) -> None:
        """Note that `frames` have left."""
        # Below empty only as far as one flush of many partitions takes it: a burst is paid for once, then forgotten.
        self._quick = max(-QUICK_FRAMES_BURST, self._available(now_s) - frames)
        self._counted_s = self._sent_s = now_s
        self._interval_s = max(FRAME_INTERVAL_S, frames / FRAMES_PER_S_MAX)

    def _available(self, now_s: float) -> float:
        return min(QUICK_FRAMES_BURST, self._quick + (now_s - self._counted_s) * QUICK_FRAMES_PER_S)
