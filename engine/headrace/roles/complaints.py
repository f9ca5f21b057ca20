"""Complaints: one line of the log for many firings that wait for the same reason."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from headrace.edges.clock import Clock

INTERVAL_S = 30.0
"""A reason is told at once, and then at most once in this time."""
REASONS_MAX = 100
"""A reason may name what only one firing has, so the memory of them is bounded."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Told:
    at_s: float
    others: int = 0


class Complaints:
    """Says why firings wait. In an outage of the API server thousands do, and a line of each would hide all others."""

    def __init__(self, clock: Clock) -> None:
        """Begin with nothing told."""
        self._clock = clock
        self._told: dict[str, _Told] = {}

    def waits(self, firing: str, trigger: str, reason: str) -> None:
        """Tell that a firing waits, or count it for the next line."""
        now_s = self._clock.elapsed_s()
        told = self._told.get(reason)
        if told is not None and now_s - told.at_s < INTERVAL_S:
            told.others += 1
            return
        others = f" (as {told.others} others did since)" if told is not None and told.others else ""
        log.warning("firing %s of %s waits: %s%s", firing, trigger, reason, others)
        if told is None and len(self._told) >= REASONS_MAX:
            self._told.clear()
        self._told[reason] = _Told(now_s)
