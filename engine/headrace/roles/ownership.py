"""Ownership: the event partitions of one router, and how far each has got."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.edges import metrics
from headrace.roles.turns import Turn
from headrace.stages.progress import RouterReport, TopicPartition


@dataclass(slots=True)
class _Place:
    """One owned partition; offsets are of the next record."""

    handled: int | None = None
    durable: int | None = None
    durable_ms: int = 0
    at_end: bool = False
    stopped_since_ms: int | None = None
    """When its topic had last been resumed before it stopped, 0 for never; None while it runs."""


@dataclass(slots=True)
class Ownership:
    """The owned event partitions."""

    _places: dict[TopicPartition, _Place] = field(default_factory=dict)

    def __contains__(self, at: TopicPartition) -> bool:
        return at in self._places

    def take(self, at: TopicPartition) -> None:
        """Own a partition."""
        self._places[at] = _Place()

    def forget(self, at: TopicPartition) -> None:
        """Own it no longer."""
        self._places.pop(at, None)
        self._count_stopped()

    def reached_end(self, at: TopicPartition) -> None:
        """Note that nothing unread is left."""
        if at in self._places:
            self._places[at].at_end = True

    def handle(self, at: TopicPartition, offset: int) -> bool:
        """Note that a record was read; say whether its partition is owned."""
        place = self._places.get(at)
        if place is None:
            return False
        place.at_end, place.handled = False, offset + 1
        return True

    def settle(self, turn: Turn) -> dict[TopicPartition, int]:
        """Note a delivered turn; return the offsets that may be committed."""
        offsets = {at: offset for at, offset in turn.next_offsets.items() if at in self._places}
        for at, offset in offsets.items():
            place = self._places[at]
            place.durable, place.durable_ms = offset, turn.routed_ms[at]
        return offsets

    def stop(self, at: TopicPartition, resumed_ms: int) -> None:
        """Note that a partition cannot go on, since its offsets are gone, before its topic is resumed once more."""
        if at in self._places:
            self._places[at].stopped_since_ms = resumed_ms
            self._count_stopped()

    def resume(self, at: TopicPartition) -> None:
        """Let a stopped partition begin anew."""
        self._places[at] = _Place()
        self._count_stopped()

    @property
    def stopped(self) -> dict[TopicPartition, int]:
        """The stopped partitions, and when each one's topic had last been resumed."""
        return {at: place.stopped_since_ms for at, place in self._places.items() if place.stopped_since_ms is not None}

    def report(self, member: str, now_ms: int, applied: int) -> RouterReport:
        """Say how far every running partition has got."""
        running = {at: place for at, place in self._places.items() if place.stopped_since_ms is None}
        caught_up = frozenset(at for at, place in running.items() if place.at_end and place.durable == place.handled)
        behind = {at: place.durable_ms for at, place in running.items() if at not in caught_up}
        return RouterReport(member, now_ms, applied, caught_up, behind)

    def _count_stopped(self) -> None:
        metrics.STOPPED.set(len(self.stopped))
