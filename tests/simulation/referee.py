"""The join by brute force, over the log of matches as it lies: what the design says, as simply as it can be written.

It keeps lists, and for each arrival looks at every set. The order of the log decides, so the log is its input; that the
log itself holds what was published is judged elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

from tests.simulation.rules import Published, Rule


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one arrival."""

    kind: str
    """`late`, `duplicate`, `superseded`, `waits` or `fires`."""
    rule: Rule
    key: str
    events: tuple[Published, ...]
    """The set, where it fires; else the event that arrived."""


@dataclass
class _Place:
    waiting: list[tuple[int, Published]] = field(default_factory=list)
    done: dict[tuple[str, str], int] = field(default_factory=dict)
    """(topic, id) of what was used or dropped -> its time."""
    rule: Rule | None = None
    horizon_ms: int = 0

    def forget(self, before_ms: int) -> int:
        count = len(self.waiting)
        self.waiting = [(index, event) for index, event in self.waiting if event.time_ms >= before_ms]
        self.done = {identity: time_ms for identity, time_ms in self.done.items() if time_ms >= before_ms}
        return count - len(self.waiting)


class Referee:
    """One partition of the matches."""

    def __init__(self, lateness_ms: int) -> None:
        self._lateness_ms = lateness_ms
        self.time_ms: int | None = None
        self._places: dict[tuple[str, str], _Place] = {}
        self.expired = 0

    def tick(self, time_ms: int) -> None:
        """Join time moves on, never back."""
        self.time_ms = time_ms if self.time_ms is None else max(time_ms, self.time_ms)

    def arrive(self, rule: Rule, event: Published, places: tuple[int, ...], key: str) -> Outcome:
        """Take one match."""
        horizon_ms = rule.window_ms + self._lateness_ms
        if self.time_ms is not None and event.time_ms < self.time_ms - horizon_ms:
            return Outcome("late", rule, key, (event,))
        place = self._places.setdefault((rule.name, key), _Place())
        self._forget(place)
        if not place.waiting and not place.done:
            place.rule = None
        if place.rule is not None and place.rule.kept_by != rule.kept_by:
            if rule.generation < place.rule.generation:
                return Outcome("superseded", rule, key, (event,))
            place.waiting = []
        if place.rule is None or place.rule.generation < rule.generation:
            place.rule = rule
        place.horizon_ms = horizon_ms
        self._forget(place)
        identity = (event.topic, event.id)
        if identity in place.done or any((held.topic, held.id) == identity for _, held in place.waiting):
            return Outcome("duplicate", rule, key, (event,))
        place.waiting.append((_emptiest(rule, event, places, place), event))
        chosen = _choose(rule, event, place)
        if chosen is None:
            return Outcome("waits", rule, key, (event,))
        _use(rule, chosen, place)
        return Outcome("fires", rule, key, chosen)

    def waiting(self) -> dict[tuple[str, str], list[str]]:
        """Ids of what still waits, for each (trigger, key)."""
        result = {}
        for identity, place in self._places.items():
            self._forget(place)
            if place.waiting:
                result[identity] = sorted(event.id for _, event in place.waiting)
        return result

    def _forget(self, place: _Place) -> None:
        if self.time_ms is not None:
            self.expired += place.forget(self.time_ms - place.horizon_ms)


def _emptiest(rule: Rule, event: Published, places: tuple[int, ...], place: _Place) -> int:
    def near(index: int) -> int:
        return sum(i == index and abs(e.time_ms - event.time_ms) <= rule.window_ms for i, e in place.waiting)

    return min(places, key=near)


def _choose(rule: Rule, arrived: Published, place: _Place) -> tuple[Published, ...] | None:
    columns = [[event for i, event in place.waiting if i == index] for index in range(len(rule.needs))]
    sets = [
        chosen
        for chosen in product(*columns)
        if arrived in chosen and max(e.time_ms for e in chosen) - min(e.time_ms for e in chosen) <= rule.window_ms
    ]
    if not sets:
        return None
    pick = max if rule.match == "latest" else min
    return pick(sets, key=lambda chosen: [event.order for event in chosen])


def _use(rule: Rule, chosen: tuple[Published, ...], place: _Place) -> None:
    kept = []
    for index, event in place.waiting:
        if event == chosen[index] or (rule.match == "latest" and event.order < chosen[index].order):
            place.done[(event.topic, event.id)] = event.time_ms
        else:
            kept.append((index, event))
    place.waiting = kept
