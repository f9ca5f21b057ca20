"""The board: what was seen of events, joins, runs and dead letters, as far as it is worth showing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from headrace.cli.output import pairs
from headrace.model.dead_letter import DeadLetter
from headrace.model.event import Event
from headrace.model.run import Run, RunState
from headrace.stages.head import Head
from headrace.stages.restore import Restore

EVENTS_MAX = 200
LETTERS_MAX = 200
RUNS_MAX = 1000
WAITED_MAX = 1000
NEWS_MAX = 1000


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """An event that came."""

    seen_s: float
    """Unix time."""
    event: Event
    again: bool
    """Whether an event of this id came before."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A join that holds some of its events, and waits for the others."""

    trigger: str
    key: str
    holds: tuple[tuple[str, str], ...]
    """Dependency and event id."""
    lacks: tuple[str, ...]
    """Dependencies."""
    since_ms: int
    """Time of its oldest event."""


@dataclass(slots=True)
class SeenRun:
    """A run, and when each of its states began, milliseconds since 1970."""

    run: Run
    first_ms: int
    started_ms: int | None = None
    ended_ms: int | None = None
    saw: Mapping[str, Any] | None = None
    """The parameters that the flow itself saw; None until it has been asked."""

    @property
    def identity(self) -> tuple[str, frozenset[str]]:
        """The trigger and the ids of the events."""
        return self.run.trigger, frozenset(event.id for event in self.run.events)

    @property
    def waited_s(self) -> float | None:
        """How long it waited for a free slot, seconds."""
        return None if self.started_ms is None else (self.started_ms - self.first_ms) / 1000

    @property
    def took_s(self) -> float | None:
        """How long the flow took, seconds."""
        if self.started_ms is None or self.ended_ms is None:
            return None
        return (self.ended_ms - self.started_ms) / 1000


@dataclass(frozen=True, slots=True)
class News:
    """Something that just happened, as one line."""

    kind: str
    text: str


@dataclass(slots=True)
class Board:
    """Everything seen so far."""

    dependencies: Mapping[str, list[str]]
    """Names of the dependencies of each trigger that joins."""
    events: deque[SeenEvent] = field(default_factory=lambda: deque(maxlen=EVENTS_MAX))
    events_count: int = 0
    runs: dict[str, SeenRun] = field(default_factory=dict)
    """By firing, oldest first."""
    letters: deque[DeadLetter] = field(default_factory=lambda: deque(maxlen=LETTERS_MAX))
    news: deque[News] = field(default_factory=lambda: deque(maxlen=NEWS_MAX))
    waited: dict[str, None] = field(default_factory=dict)
    """Ids of the events that ever waited in a join, oldest first."""
    news_count: int = 0
    """How much has ever happened."""
    _joins: dict[int, Restore] = field(default_factory=dict)

    def take_event(self, event: Event) -> None:
        """Take in a record of an event topic."""
        again = any(seen.event.id == event.id for seen in self.events)
        self.events.append(SeenEvent(time.time(), event, again))
        self.events_count += 1
        self._tell("event", f"{event.name}  {event.id}{'  (again)' if again else ''}  {payload_text(event)}")

    def take_join(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Take in a record of the joins' changelog.

        Raises:
            RecordError: it cannot be read.
        """
        join = self._joins.setdefault(partition, Restore())
        join.apply(key, value)
        head = join.heads.get(key[1:].decode()) if key[:1] == b"h" else None
        if head is None or head.trigger not in self.dependencies:
            return
        new = [event.id for events in head.pending for event in events if event.id not in self.waited]
        if new:
            self.waited.update(dict.fromkeys(new))
            for event_id in list(self.waited)[:-WAITED_MAX]:
                del self.waited[event_id]
            found = self._waiting(head, join)
            if found is not None:
                holds = ", ".join(event_id for _, event_id in found.holds)
                self._tell("join", f"{head.trigger}  {head.key} holds {holds}, waits for {', '.join(found.lacks)}")

    def take_run(self, run: Run) -> None:
        """Take in a record of the runs."""
        seen = self.runs.get(run.firing)
        if seen is None:
            seen = self.runs[run.firing] = SeenRun(run, run.time_ms)
            if len(self.runs) > RUNS_MAX:
                del self.runs[next(iter(self.runs))]
        seen.run = run
        if run.state is RunState.STARTED:
            seen.started_ms = run.time_ms
        if run.ended:
            seen.ended_ms = run.time_ms
        took = f"  {seen.took_s:.1f} s" if seen.took_s is not None else ""
        why = f"  {run.message}" if run.message else ""
        self._tell("run", f"{run.trigger}  {run.state}  {_source(run)}  {pairs(run.parameters)}{took}{why}")

    def take_letter(self, letter: DeadLetter) -> None:
        """Take in a record of the dead letters."""
        self.letters.append(letter)
        self._tell("aside", f"{letter.event_id or letter.id}  {letter.reason}: {letter.message}")

    def joins_have_time(self, partitions: int) -> bool:
        """Say whether each partition of the join has had a tick, so that it can tell what is late."""
        return sum(join.time_ms is not None for join in self._joins.values()) == partitions

    @property
    def waiting(self) -> list[Waiting]:
        """The joins that wait now, the longest first."""
        found = [self._waiting(head, join) for join in self._joins.values() for head in join.heads.values()]
        return sorted((waiting for waiting in found if waiting is not None), key=lambda waiting: waiting.since_ms)

    def _waiting(self, head: Head, join: Restore) -> Waiting | None:
        names = self.dependencies.get(head.trigger)
        if names is None or len(names) != len(head.pending):
            return None
        # What has expired is removed by a tick, which does not write the head anew.
        before_ms = (join.time_ms or 0) - head.horizon_ms
        held = [[event for event in events if event.time_ms >= before_ms] for events in head.pending]
        holds = tuple((name, event.id) for name, events in zip(names, held, strict=True) for event in events)
        if not holds:
            return None
        lacks = tuple(name for name, events in zip(names, held, strict=True) if not events)
        return Waiting(head.trigger, head.key, holds, lacks, min(e.time_ms for events in held for e in events))

    def _tell(self, kind: str, text: str) -> None:
        self.news.append(News(kind, text))
        self.news_count += 1


def payload_text(event: Event) -> str:
    """Write a payload's fields on one line."""
    fields = orjson.loads(event.payload)
    return pairs({name: v if isinstance(v, str) else orjson.dumps(v).decode() for name, v in fields.items()})


def _source(run: Run) -> str:
    return " + ".join(event.id for event in run.events)
