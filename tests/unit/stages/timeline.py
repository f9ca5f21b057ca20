"""Timelines as text: what arrives, in the order of arrival, and what fires.

a@4       an event of dependency a with event time 4 ms
ab@4      an event that passes both dependencies
a@4'      another event with the same time; the same text again is a duplicate
tick@20   join time becomes 20 ms
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from headrace.model.definition import Definition
from headrace.model.event import Event
from headrace.model.frame import Frame, Match, Tick
from headrace.stages.join import Joined, JoinState
from tests.unit.stages.build import make_definition

_ARRIVAL = re.compile(r"(?P<places>[a-h]+)@(?P<time_ms>-?\d+)'*")


@dataclass
class Play:
    """A join that is fed with text, one record for each arrival."""

    definition: Definition
    key: str = ""
    state: JoinState = field(default_factory=lambda: JoinState(0))
    fired: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _offsets: dict[str, int] = field(default_factory=dict)
    _next_offset: int = 0

    def arrive(self, timeline: str) -> list[str]:
        """Let a timeline arrive; return what it fires."""
        fired_before = len(self.fired)
        for text in timeline.split():
            if text.startswith("tick@"):
                self._apply(Tick(int(text.removeprefix("tick@"))))
            else:
                self._apply(Frame((self._match(text),)))
        return self.fired[fired_before:]

    @property
    def waiting(self) -> str:
        """The pending events of all keys, by dependency."""
        return " ".join(e.id for head in self.state.heads.values() for events in head.pending for e in events)

    def _match(self, text: str) -> Match:
        arrival = _ARRIVAL.fullmatch(text)
        assert arrival is not None, text
        offset = self._offsets.setdefault(text, len(self._offsets))
        passed = tuple(sorted(self.definition.dependencies.index(name) for name in arrival["places"]))
        event = Event(text, arrival["places"], int(arrival["time_ms"]), 0, offset, "{}")
        return Match(self.definition, event, passed, self.key)

    def _apply(self, record: Frame | Tick) -> Joined:
        joined = self.state.apply(self._next_offset, record)
        self._next_offset += 1
        self.fired.extend(" ".join(event.id for event in firing.events) for firing in joined.firings)
        self.late.extend(letter.event_id or "" for letter in joined.dead_letters)
        self.counts.update(joined.counts)
        return joined


def play(dependencies: str = "ab", *, window_ms: int = 10, match: str = "latest", lateness_ms: int = 0) -> Play:
    """Start a join of one trigger whose dependencies are single letters."""
    return Play(make_definition(dependencies, window_ms=window_ms, match=match, lateness_ms=lateness_ms))


def fires(timeline: str, dependencies: str = "ab", *, window_ms: int = 10, match: str = "latest") -> list[str]:
    """Return what fires when `timeline` arrives."""
    return play(dependencies, window_ms=window_ms, match=match).arrive(timeline)
