"""Tally: a router's counts of one turn. For each record, the metrics themselves would cost as much as reading it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from headrace.edges import metrics


class Tally:
    """What was read and what was filtered out since the metrics were told last."""

    def __init__(self) -> None:
        self._events: Counter[str] = Counter()
        self._filtered: Counter[str] = Counter()

    def event(self, name: str) -> None:
        """Count one record of an event topic."""
        self._events[name] += 1

    def filtered(self, counts: Mapping[str, int]) -> None:
        """Count what the filters did, by how it went."""
        for how, count in counts.items():
            self._filtered[how] += count

    def tell(self) -> None:
        """Tell the metrics, and begin anew."""
        for event, count in self._events.items():
            metrics.EVENTS.labels(event).inc(count)
        for how, count in self._filtered.items():
            metrics.FILTERED.labels(how).inc(count)
        self._events.clear()
        self._filtered.clear()
