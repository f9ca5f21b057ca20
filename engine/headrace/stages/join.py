"""Join: frames and ticks become firings, exactly as often as complete sets of events came.

The state is one partition's of `headrace.matches`. It sees time only through event times and ticks, so it is a function
of its log: replayed from any committed offset, it decides the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from headrace.model import bounds
from headrace.model.dead_letter import DeadLetter, Reason, event_dead_letter
from headrace.model.errors import RecordError
from headrace.model.event import Event
from headrace.model.firing import Firing, firing_of
from headrace.model.frame import Frame, Match, Tick
from headrace.stages.changelog import (
    Change,
    event_tombstones,
    head_changes,
    head_tombstone,
    partition_change,
    segment_tombstones,
)
from headrace.stages.head import BEFORE_ALL_MS, Head, new_head
from headrace.stages.heads import Heads
from headrace.stages.restore import Restore
from headrace.stages.select import assign, complete

EXPIRED_HEADS_PER_TICK_MAX = 5_000
"""Heads that one tick looks at; the rest waits for the next, so that no tick blocks the partition for long."""


@dataclass(slots=True)
class Joined:
    """What one record led to. To be made durable in this order: firings and dead letters, then changes."""

    firings: list[Firing] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """`fired`, `duplicate`, `expired`, `superseded`, `late`, `replayed`, … for the metrics."""


class JoinState:
    """The state of one partition."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.offset = -1
        """The last applied record of `headrace.matches`; -1 before the first."""
        self.time_ms: int | None = None
        """Join time; None before the first tick, and then nothing is late."""
        self.heads = Heads()
        # When each head is looked at next, in join time: exactly one entry for every head.
        self._due: list[tuple[int, str]] = []
        self._restore: Restore | None = None

    def restore(self, key: bytes, value: bytes | None) -> None:
        """Take one changelog record, before the first `apply`.

        Raises:
            RecordError: it cannot be read.
        """
        if self._restore is None:
            self._restore = Restore()
        self._restore.apply(key, value)

    def apply(self, offset: int, record: Frame | Tick) -> Joined:
        """Decide what one record of the matches topic leads to.

        Args:
            offset: the record's offset.
            record: what it holds.

        Raises:
            RecordError: records between the last applied one and this one are missing.
        """
        joined = Joined()
        self._finish_restore(joined)
        if offset <= self.offset:
            joined.counts["replayed"] += 1
            return joined
        if self.offset >= 0 and offset != self.offset + 1:
            raise RecordError(
                f"partition {self.partition} of the matches topic jumps from offset {self.offset} to {offset}: "
                "records are missing, and going on could lose runs"
            )
        self.offset = offset
        match record:
            case Tick():
                self._tick(record, joined)
            case Frame():
                self._frame(offset, record, joined)
        return joined

    @property
    def next_offset(self) -> int | None:
        """The record that this state wants next; None where it knows of none, since nothing was ever applied."""
        offset = self.offset if self._restore is None else self._restore.offset
        return None if offset < 0 else offset + 1

    @property
    def pending_count(self) -> int:
        """Events that wait for others."""
        return sum(head.pending_count for head in self.heads.values())

    def _finish_restore(self, joined: Joined) -> None:
        if self._restore is None:
            return
        joined.changes.extend(self._restore.finish())
        self.offset, self.time_ms, self.heads = self._restore.offset, self._restore.time_ms, self._restore.heads
        self._due = [(due_ms, name) for name, due_ms in self._restore.due_ms.items()]
        heapify(self._due)
        self._restore = None

    def _tick(self, tick: Tick, joined: Joined) -> None:
        if self.time_ms is None or tick.time_ms > self.time_ms:
            self.time_ms = tick.time_ms
        joined.changes.append(partition_change(self.offset, self.time_ms))
        looked_at = 0
        while self._due and self._due[0][0] < self.time_ms and looked_at < EXPIRED_HEADS_PER_TICK_MAX:
            _, name = heappop(self._due)
            looked_at += 1
            self._expire(name, joined)

    def _expire(self, name: str, joined: Joined) -> None:
        head = self.heads.get(name)
        assert head is not None
        assert self.time_ms is not None
        before_ms = self.time_ms - head.horizon_ms
        expired = head.expire_pending(before_ms)
        joined.counts["expired"] += len(expired)
        joined.changes.extend(event_tombstones(head, expired))
        if head.used is not None:
            joined.changes.extend(segment_tombstones(head, head.used.expire(before_ms)))
        if head.is_empty:
            self.heads.drop(name)
            joined.changes.append(head_tombstone(head))
            return
        if expired:
            # Its record still holds them, and they are counted once.
            self.heads.keep(name, head)
        self._schedule(name, head)

    def _schedule(self, name: str, head: Head) -> None:
        oldest_ms = head.oldest_ms
        if oldest_ms is None:
            oldest_ms = self.time_ms or 0
        due_ms = oldest_ms + head.horizon_ms
        if self.time_ms is not None:
            # A key under steady load always has something that is about to expire. Looking at most some dozens of
            # times in one horizon keeps the cost of a busy key linear; decisions do not depend on it.
            due_ms = max(due_ms, self.time_ms + head.horizon_ms // 32)
        heappush(self._due, (due_ms, name))

    def _frame(self, offset: int, frame: Frame, joined: Joined) -> None:
        changed: dict[str, Head] = {}
        replayed: set[str] = set()
        for match in frame.matches:
            definition = match.definition
            name = f"{definition.trigger}\x00{definition.creation}\x00{match.key}"
            head = changed.get(name) or self.heads.get(name)
            if name in replayed or (head is not None and name not in changed and head.offset >= offset):
                replayed.add(name)
                joined.counts["replayed"] += 1
                continue
            if self._is_late(match, joined):
                continue
            if head is None:
                if len(self.heads) >= bounds.KEYS_PER_PARTITION_MAX:
                    _reject(match, Reason.TOO_MANY_KEYS, f"{len(self.heads)} keys wait in one partition", joined)
                    continue
                head = new_head(definition, match.key)
            if self._take(head, match, joined):
                if head.offset < 0:
                    self.heads.keep(name, head)
                changed[name] = head
        joined.changes.extend(self._commit(offset, changed))

    def _commit(self, offset: int, changed: Mapping[str, Head]) -> list[Change]:
        changes: list[Change] = []
        for name, head in changed.items():
            if head.offset < 0:
                self._schedule(name, head)
            head.offset = offset
            own, record = head_changes(head)
            changes.extend(own)
            self.heads.settle(name, head, record)
        # The partition's record comes last: once it is durable, every head of this frame is.
        changes.append(partition_change(self.offset, self.time_ms))
        return changes

    def _is_late(self, match: Match, joined: Joined) -> bool:
        horizon_ms = match.definition.horizon_ms
        if self.time_ms is None or match.event.time_ms >= self.time_ms - horizon_ms:
            return False
        behind_s = (self.time_ms - match.event.time_ms) // 1000
        joined.counts["late"] += 1
        _reject(
            match,
            Reason.LATE,
            f"the event came {behind_s} s behind join time; window and lateness allow {horizon_ms // 1000} s",
            joined,
        )
        return True

    def _take(self, head: Head, match: Match, joined: Joined) -> bool:
        """Apply one match to its head; return whether the head changed."""
        definition, event = match.definition, match.event
        before_ms = self._expired_before_ms(head)
        # When memory is tidied is chance, so what has expired is out of the way before anything is decided.
        changed = self._expire_pending(head, before_ms, joined)
        if head.has_expired(before_ms):
            head.start_anew(definition)
        if definition.signature != head.signature and definition.generation < head.generation:
            joined.counts["superseded"] += 1
            return changed
        if definition.signature != head.signature or definition.generation > head.generation:
            joined.counts["superseded"] += head.redefine(definition, before_ms)
            before_ms = self._expired_before_ms(head)
            self._expire_pending(head, before_ms, joined)
            changed = True
        if head.knows(event, before_ms):
            joined.counts["duplicate"] += 1
            return changed
        place = assign(event, match.dependencies, head.pending, definition.window_ms)
        chosen = complete(event, place, head.pending, definition.window_ms, definition.match)
        if chosen is None:
            return self._wait(head, place, match, joined) or changed
        return self._fire(head, place, chosen, match, joined) or changed

    def _expired_before_ms(self, head: Head) -> int:
        return BEFORE_ALL_MS if self.time_ms is None else self.time_ms - head.horizon_ms

    def _expire_pending(self, head: Head, before_ms: int, joined: Joined) -> bool:
        expired = len(head.expire_pending(before_ms))
        joined.counts["expired"] += expired
        return expired > 0

    def _fire(self, head: Head, place: int, chosen: tuple[Event, ...], match: Match, joined: Joined) -> bool:
        definition = match.definition
        used = head.used
        if (
            used is not None
            and len(used.times) >= bounds.USED_IDS_PER_KEY_MAX
            # What has expired may still be held, or held again after a restart, and must not decide anything.
            and (count := used.live_count(self._expired_before_ms(head))) >= bounds.USED_IDS_PER_KEY_MAX
        ):
            message = f"one key has used {count} events within its window; give the trigger a key"
            _reject(match, Reason.TOO_MANY_USED, message, joined)
            return False
        _consume(head, place, chosen, definition.match)
        if sum(event.payload_bytes for event in chosen) > bounds.FIRING_BYTES_MAX:
            message = "the events of the set are together too large for a run"
            for event in chosen:
                joined.dead_letters.append(
                    event_dead_letter(event, Reason.FIRING_TOO_LARGE, message, definition.trigger)
                )
            return True
        joined.firings.append(firing_of(definition, match.key, chosen))
        joined.counts["fired"] += 1
        return True

    def _wait(self, head: Head, place: int, match: Match, joined: Joined) -> bool:
        if head.pending_count >= bounds.PENDING_EVENTS_PER_KEY_MAX:
            message = f"{head.pending_count} events wait under one key already"
            _reject(match, Reason.TOO_MANY_PENDING, message, joined)
            return False
        head.add(place, match.event)
        joined.counts["waiting"] += 1
        return True


def _consume(head: Head, place: int, chosen: tuple[Event, ...], match: str) -> None:
    """Take a complete set out of the pending events; with `latest`, everything older of each dependency goes too."""
    for index, event in enumerate(chosen):
        events = head.pending[index]
        if match == "latest":
            dropped = [other for other in events if other.order <= event.order]
        else:
            dropped = [] if index == place else [event]
        for other in dropped:
            events.remove(other)
            head.use(other)
        head.use(event)


def _reject(match: Match, reason: Reason, message: str, joined: Joined) -> None:
    joined.dead_letters.append(event_dead_letter(match.event, reason, message, match.definition.trigger))
