"""The join's state for one (trigger, key)."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field

from headrace.model.definition import Definition
from headrace.model.event import Event

NOTHING: frozenset[str] = frozenset()

BEFORE_ALL_MS = -(2**63)
"""Older than every event: the bound where there is no join time yet."""


@dataclass(slots=True)
class UsedIds:
    """Identities of the events that one key has used or dropped within its horizon: they must change nothing again.

    What has expired may still be held, for it is taken out when there is time; whoever asks says what has expired.
    """

    times: dict[str, int] = field(default_factory=dict)
    """Event identity -> event time, milliseconds."""
    open_ids: list[str] = field(default_factory=list)
    """The identities that the head's own record holds, oldest first; all others lie in sealed segments."""
    segments: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Number of a sealed segment -> its identities."""
    sealed_count: int = 0
    """How many segments were ever sealed; the next one's number."""
    newest_ms: int = BEFORE_ALL_MS
    """The newest time that was ever added."""
    dissolved: list[int] = field(default_factory=list)
    """Segments that the head's next record no longer names, and that can go after it."""
    counted_before_ms: int = BEFORE_ALL_MS
    """Up to which time `expired_count` counts."""
    expired_count: int = 0
    """Identities held that are older than that."""

    def add(self, event: Event) -> None:
        """Remember an event. One that came back after it had expired counts by its new time."""
        identity = event.identity
        known_ms = self.times.get(identity)
        if known_ms is None or (known_ms < event.time_ms and identity not in self.open_ids):
            self.open_ids.append(identity)
        if known_ms is None or known_ms < event.time_ms:
            self.times[identity] = event.time_ms
            self.expired_count += event.time_ms < self.counted_before_ms
            self.expired_count -= known_ms is not None and known_ms < self.counted_before_ms
        self.newest_ms = max(self.newest_ms, event.time_ms)

    def live_count(self, before_ms: int) -> int:
        """Return how many identities held are not older than `before_ms`; they are counted once for each such time."""
        if before_ms != self.counted_before_ms:
            self.counted_before_ms = before_ms
            self.expired_count = sum(time_ms < before_ms for time_ms in self.times.values())
        return len(self.times) - self.expired_count

    def seal(self, ids_max: int) -> int:
        """Move the oldest `ids_max` open identities into a segment of their own and return its number."""
        number = self.sealed_count
        self.segments[number] = tuple(self.open_ids[:ids_max])
        del self.open_ids[:ids_max]
        self.sealed_count += 1
        return number

    def restore(self, number: int, rows: list[tuple[str, int]]) -> None:
        """Take in a sealed segment that was read back: identities and times."""
        self._count_anew()
        self.segments[number] = tuple(identity for identity, _ in rows)
        for identity, time_ms in rows:
            self.times[identity] = max(time_ms, self.times.get(identity, BEFORE_ALL_MS))
            self.newest_ms = max(self.newest_ms, time_ms)

    def segment_newest_ms(self, number: int) -> int:
        """Return the newest event time in a sealed segment."""
        return max(self.times.get(identity, BEFORE_ALL_MS) for identity in self.segments[number])

    def expire(self, before_ms: int) -> list[int]:
        """Take out what is older than `before_ms`; return the numbers of the segments that went."""
        self._count_anew()
        gone = [number for number in self.segments if self.segment_newest_ms(number) < before_ms]
        for number in gone:
            for identity in self.segments.pop(number):
                self.times.pop(identity, None)
        if any(self.times.get(identity, BEFORE_ALL_MS) < before_ms for identity in self.open_ids):
            for identity in self.open_ids:
                if self.times.get(identity, before_ms) < before_ms:
                    del self.times[identity]
            self.open_ids = [identity for identity in self.open_ids if identity in self.times]
        return gone

    def rebuild(self, before_ms: int) -> None:
        """Hold nothing older than `before_ms`, not even in segments whose other identities live on.

        Needed where a horizon changes: under a longer one, what had expired would be known again if it was still held.
        """
        self._count_anew()
        self.times = {identity: time_ms for identity, time_ms in self.times.items() if time_ms >= before_ms}
        self.open_ids = sorted(self.times, key=lambda identity: (self.times[identity], identity))
        self.dissolved.extend(self.segments)
        self.segments = {}

    def _count_anew(self) -> None:
        # Nothing is older than everything.
        self.counted_before_ms, self.expired_count = BEFORE_ALL_MS, 0

    def take_dissolved(self) -> list[int]:
        """Return the dissolved segments, and forget them."""
        dissolved, self.dissolved = self.dissolved, []
        return dissolved


@dataclass(slots=True)
class Head:
    """What one key of one trigger holds. Most keys hold one or two events, so the empty parts cost nothing."""

    trigger: str
    creation: str
    key: str
    """Canonical JSON; empty where the trigger has no key."""
    signature: str
    generation: int
    horizon_ms: int
    """Window plus lateness: how far behind join time anything here may lie."""
    offset: int
    """The last frame whose effect on this key is durable or being made so; -1 for none."""
    pending: list[list[Event]]
    """For each dependency, its pending events, sorted by `Event.order`."""
    outside: frozenset[str] = NOTHING
    """Positions of the pending events that have changelog records of their own."""
    used: UsedIds | None = None

    @property
    def name(self) -> str:
        """The head's identity within its partition."""
        return f"{self.trigger}\x00{self.creation}\x00{self.key}"

    @property
    def pending_count(self) -> int:
        """Events that wait here."""
        return sum(map(len, self.pending))

    @property
    def is_empty(self) -> bool:
        """Whether nothing here matters any more."""
        return not any(self.pending) and (self.used is None or not self.used.times)

    @property
    def oldest_ms(self) -> int | None:
        """Event time of the oldest thing held; None where nothing is."""
        times = [events[0].time_ms for events in self.pending if events]
        if self.used is not None and self.used.times:
            times.append(min(self.used.times.values()))
        return min(times, default=None)

    def knows(self, event: Event, before_ms: int) -> bool:
        """Whether this event is pending here, or was used; what was used before `before_ms` has expired."""
        if self.used is not None:
            used_ms = self.used.times.get(event.identity)
            if used_ms is not None and used_ms >= before_ms:
                return True
        return any(held.id == event.id and held.name == event.name for events in self.pending for held in events)

    def has_expired(self, before_ms: int) -> bool:
        """Whether all that was ever used here is older than `before_ms`, and nothing is pending."""
        return not any(self.pending) and (self.used is None or self.used.newest_ms < before_ms)

    def add(self, place: int, event: Event) -> None:
        """Let an event wait for the others."""
        insort(self.pending[place], event, key=_order)

    def use(self, event: Event) -> None:
        """Remember an event as used or dropped."""
        if self.used is None:
            self.used = UsedIds()
        self.used.add(event)

    def expire_pending(self, before_ms: int) -> list[Event]:
        """Take out, and return, the pending events older than `before_ms`."""
        expired: list[Event] = []
        for events in self.pending:
            count = 0
            while count < len(events) and events[count].time_ms < before_ms:
                count += 1
            expired.extend(events[:count])
            del events[:count]
        return expired

    def redefine(self, definition: Definition, before_ms: int) -> int:
        """Take over a changed definition, and return how many events were dropped that waited under the old one.

        Args:
            definition: one with another signature, or a newer generation.
            before_ms: what the old definition's horizon has let expire.
        """
        dropped = 0
        if definition.signature != self.signature:
            dropped = self.pending_count
            self.signature = definition.signature
            self.pending = [[] for _ in definition.dependencies]
        if definition.horizon_ms != self.horizon_ms and self.used is not None:
            self.used.rebuild(before_ms)
        self.generation, self.horizon_ms = definition.generation, definition.horizon_ms
        return dropped

    def start_anew(self, definition: Definition) -> None:
        """Be as if nothing had ever come; for a head of which everything has expired."""
        if self.used is not None:
            self.used.rebuild(self.used.newest_ms + 1)
        self.signature = definition.signature
        self.pending = [[] for _ in definition.dependencies]
        self.generation, self.horizon_ms = definition.generation, definition.horizon_ms


def new_head(definition: Definition, key: str) -> Head:
    """Make an empty head."""
    return Head(
        trigger=definition.trigger,
        creation=definition.creation,
        key=key,
        signature=definition.signature,
        generation=definition.generation,
        horizon_ms=definition.horizon_ms,
        offset=-1,
        pending=[[] for _ in definition.dependencies],
    )


def _order(event: Event) -> tuple[int, str, int, int]:
    return event.order
