"""A join that crashes: what Kafka holds of it, and its lives one after the other.

A life rebuilds its state from the changelog, reads the log from a committed offset and carries its outputs out one by
one: each record's firings first, then its changes. It ends between any two of these effects, or with the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

import orjson
import pytest

from headrace.model.firing import Firing
from headrace.stages import changelog, heads
from headrace.stages.changelog import Change
from headrace.stages.join import JoinState
from tests.unit.stages.logs import Records


class Compaction(Enum):
    """How much of what is superseded Kafka has removed when the changelog is read."""

    NONE = auto()
    SUPERSEDED = auto()
    SUPERSEDED_AND_TOMBSTONES = auto()


@dataclass
class Kafka:
    """What outlives a crash."""

    log: Records
    delivered: dict[str, bytes] = field(default_factory=dict)
    """Firing id -> its bytes."""
    deliveries: list[str] = field(default_factory=list)
    changelog: list[Change] = field(default_factory=list)

    def deliver(self, firing: Firing) -> None:
        """Take a firing. A second one with the same id must be the same, or the submitter would hide a difference."""
        value = firing.encode()
        held = self.delivered.setdefault(firing.id, value)
        assert held == value, f"firing {firing.id} was delivered with two contents"
        self.deliveries.append(firing.id)

    def recovered_offset(self) -> int:
        """The last offset that the changelog says is applied; -1 for none. Nothing beyond it may be committed."""
        values = [value for key, value in self.changelog if key == changelog.PARTITION_KEY and value is not None]
        return int(orjson.loads(values[-1])["offset"]) if values else -1

    def readable(self, compaction: Compaction) -> list[Change]:
        """The changelog as a new life reads it."""
        if compaction is Compaction.NONE:
            return list(self.changelog)
        last = {key: place for place, (key, _) in enumerate(self.changelog)}
        kept = [self.changelog[place] for place in sorted(last.values())]
        if compaction is Compaction.SUPERSEDED:
            return kept
        return [(key, value) for key, value in kept if value is not None]


@dataclass(frozen=True)
class Life:
    """One life of the join."""

    behind: int = 0
    """How many records before the next unapplied one it starts to read."""
    effects_max: int | None = None
    """Effects that it carries out before it crashes; None for all."""
    compaction: Compaction = Compaction.NONE


def live(kafka: Kafka, life: Life) -> JoinState | None:
    """Live; return the state at the end of the log, or None after a crash."""
    state = JoinState(0)
    for key, value in kafka.readable(life.compaction):
        state.restore(key, value)
    left = life.effects_max
    next_offset = kafka.recovered_offset() + 1 - life.behind
    # At least the last record is read again: a state takes in what it restored with its first record.
    for offset in range(max(0, min(next_offset, len(kafka.log) - 1)), len(kafka.log)):
        joined = state.apply(offset, kafka.log[offset])
        effects: list[Firing | Change] = [*joined.firings, *joined.changes]
        for effect in effects:
            if left == 0:
                return None
            left = left - 1 if left is not None else None
            if isinstance(effect, Firing):
                kafka.deliver(effect)
            else:
                kafka.changelog.append(effect)
    return state


def run_whole(log: Records) -> tuple[Kafka, JoinState]:
    """Run a log in one life without a crash."""
    kafka = Kafka(log)
    state = live(kafka, Life())
    assert state is not None
    return kafka, state


def waiting(state: JoinState) -> dict[tuple[str, str], list[str]]:
    """Ids of the events that wait and have not expired, for each (trigger, key) that has some.

    When an expired event is taken out of memory is the join's own affair, so what is expired is left out here.
    """
    result = {}
    for head in state.heads.values():
        before_ms = state.time_ms - head.horizon_ms if state.time_ms is not None else None
        ids = [e.id for events in head.pending for e in events if before_ms is None or e.time_ms >= before_ms]
        if ids:
            result[(head.trigger, head.key)] = sorted(ids)
    return result


@contextmanager
def small_changelog_records() -> Iterator[None]:
    """Let a few events and ids be too many for a head's own record, as hundreds are outside of tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changelog, "INLINE_BYTES_MAX", 30)
        patch.setattr(changelog, "OPEN_IDS_MAX", 2)
        patch.setattr(heads, "REST_COUNT_MAX", 1)
        yield
