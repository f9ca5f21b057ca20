"""A join by brute force: what the design's "Semantics of a trigger" says, as simply as it can be written.

It knows nothing of heads, windows that slide, or changelogs: it keeps a list, and for each arrival looks at every set.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

from headrace.model.definition import Definition
from headrace.model.event import Event
from headrace.model.frame import Frame, Match, Tick

Fired = tuple[str, str, tuple[str, ...]]
"""Trigger, key, and the ids of the events, in the order of the dependencies."""


@dataclass
class _Place:
    """Everything that one (trigger, key) has seen and not forgotten."""

    waiting: list[tuple[int, Event]] = field(default_factory=list)
    done_ms: dict[str, int] = field(default_factory=dict)
    signature: str = ""
    generation: int = 0

    def forget(self, before_ms: int) -> None:
        self.waiting = [(place, event) for place, event in self.waiting if event.time_ms >= before_ms]
        self.done_ms = {event_id: time_ms for event_id, time_ms in self.done_ms.items() if time_ms >= before_ms}

    def knows(self, event_id: str) -> bool:
        return event_id in self.done_ms or any(event.id == event_id for _, event in self.waiting)


@dataclass
class NaiveJoin:
    """The whole join of one partition."""

    join_time_ms: int | None = None
    fired: list[Fired] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    places: dict[tuple[str, str], _Place] = field(default_factory=dict)
    horizons_ms: dict[tuple[str, str], int] = field(default_factory=dict)

    def apply(self, record: Frame | Tick) -> None:
        """Take one record of the log."""
        if isinstance(record, Tick):
            self.join_time_ms = max(record.time_ms, self.join_time_ms if self.join_time_ms is not None else -(10**15))
            return
        for match in record.matches:
            self._arrive(match)

    def waiting(self) -> dict[tuple[str, str], list[str]]:
        """Ids of the events that still wait, for each (trigger, key) that has some."""
        result = {}
        for identity, place in self.places.items():
            if self.join_time_ms is not None:
                place.forget(self.join_time_ms - self.horizons_ms[identity])
            if place.waiting:
                result[identity] = sorted(event.id for _, event in place.waiting)
        return result

    def _arrive(self, match: Match) -> None:
        definition, event = match.definition, match.event
        identity = (definition.trigger, match.key)
        if self.join_time_ms is not None:
            oldest_ms = self.join_time_ms - definition.window_ms - definition.lateness_ms
            if event.time_ms < oldest_ms:
                self.late.append(event.id)
                return
        place = self.places.setdefault(identity, _Place())
        if self.join_time_ms is not None and identity in self.horizons_ms:
            place.forget(self.join_time_ms - self.horizons_ms[identity])
        if not place.waiting and not place.done_ms:
            # What holds nothing is as if it had never been, its generation included.
            place.signature, place.generation = "", 0
        if definition.signature != place.signature:
            if definition.generation < place.generation:
                return
            place.waiting, place.signature = [], definition.signature
        place.generation = max(place.generation, definition.generation)
        self.horizons_ms[identity] = definition.window_ms + definition.lateness_ms
        if self.join_time_ms is not None:
            place.forget(self.join_time_ms - self.horizons_ms[identity])
        if place.knows(event.id):
            return
        place.waiting.append((_least_filled(match, place), event))
        chosen = _choose(definition, event, place)
        if chosen is None:
            return
        self.fired.append((definition.trigger, match.key, tuple(e.id for e in chosen)))
        _use(definition, chosen, place)


def _least_filled(match: Match, place: _Place) -> int:
    """The first empty dependency that the event passes; where none is empty, the one with the fewest events near it."""

    def near(dependency: int) -> int:
        reach_ms = match.definition.window_ms
        return sum(d == dependency and abs(e.time_ms - match.event.time_ms) <= reach_ms for d, e in place.waiting)

    return sorted(match.dependencies, key=near)[0]


def _choose(definition: Definition, arrived: Event, place: _Place) -> tuple[Event, ...] | None:
    """Of all sets that hold the arrived event and span no more than the window, the newest or the oldest."""
    columns = [[e for d, e in place.waiting if d == index] for index in range(len(definition.dependencies))]
    sets = [chosen for chosen in product(*columns) if arrived in chosen and _span_ms(chosen) <= definition.window_ms]
    if not sets:
        return None
    best = max(sets, key=_orders) if definition.match == "latest" else min(sets, key=_orders)
    for other in sets:
        # "Newest" and "oldest" are only well defined because one set is so in every dependency at once.
        for mine, theirs in zip(_orders(best), _orders(other), strict=True):
            assert mine >= theirs if definition.match == "latest" else mine <= theirs
    return best


def _use(definition: Definition, chosen: tuple[Event, ...], place: _Place) -> None:
    kept = []
    for dependency, event in place.waiting:
        used = event == chosen[dependency]
        dropped = definition.match == "latest" and _order(event) < _order(chosen[dependency])
        if used or dropped:
            place.done_ms[event.id] = event.time_ms
        else:
            kept.append((dependency, event))
    place.waiting = kept


def _span_ms(events: tuple[Event, ...]) -> int:
    times = [event.time_ms for event in events]
    return max(times) - min(times)


def _order(event: Event) -> tuple[int, str, int, int]:
    return (event.time_ms, event.name, event.partition, event.offset)


def _orders(events: tuple[Event, ...]) -> tuple[tuple[int, str, int, int], ...]:
    return tuple(_order(event) for event in events)
