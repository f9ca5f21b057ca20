"""The join's state for one (trigger, key)."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field

from headrace.model.definition import Definition
from headrace.model.event import Event

NO_IDS: frozenset[str] = frozenset()


@dataclass(slots=True)
class UsedIds:
    """Ids of the events that one key has used or dropped within its horizon: they must change nothing again."""

    times: dict[str, int] = field(default_factory=dict)
    """Event id -> event time, milliseconds."""
    open_ids: list[str] = field(default_factory=list)
    """The ids that the head's own record holds, oldest first; all others lie in sealed segments."""
    segments: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Number of a sealed segment -> its ids."""
    sealed_count: int = 0
    """How many segments were ever sealed; the next one's number."""

    def add(self, event: Event) -> None:
        """Remember an event."""
        if event.id not in self.times:
            self.times[event.id] = event.time_ms
            self.open_ids.append(event.id)

    def seal(self, ids_max: int) -> int:
        """Move the oldest `ids_max` open ids into a segment of their own and return its number."""
        number = self.sealed_count
        self.segments[number] = tuple(self.open_ids[:ids_max])
        del self.open_ids[:ids_max]
        self.sealed_count += 1
        return number

    def newest_ms(self, number: int) -> int:
        """Return the newest event time in a sealed segment."""
        return max(self.times[event_id] for event_id in self.segments[number])

    def expire(self, before_ms: int) -> list[int]:
        """Forget what is older than `before_ms`; return the numbers of the segments that went."""
        gone = [number for number in self.segments if self.newest_ms(number) < before_ms]
        for number in gone:
            for event_id in self.segments.pop(number):
                del self.times[event_id]
        if any(self.times[event_id] < before_ms for event_id in self.open_ids):
            expired = {event_id for event_id in self.open_ids if self.times[event_id] < before_ms}
            self.open_ids = [event_id for event_id in self.open_ids if event_id not in expired]
            for event_id in expired:
                del self.times[event_id]
        return gone


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
    outside: frozenset[str] = NO_IDS
    """Ids of the pending events that have changelog records of their own."""
    used: UsedIds | None = None
    due_ms: int | None = None
    """Join time at which this head is looked at next; None while it is not scheduled."""

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

    def knows(self, event_id: str) -> bool:
        """Whether this event is pending here, or was used."""
        if self.used is not None and event_id in self.used.times:
            return True
        return any(event.id == event_id for events in self.pending for event in events)

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

    def reset(self, definition: Definition) -> int:
        """Take over a changed definition, drop what waited under the old one, and return how many that were."""
        dropped = self.pending_count
        self.signature = definition.signature
        self.pending = [[] for _ in definition.dependencies]
        return dropped


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
