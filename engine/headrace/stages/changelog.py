"""The join's changelog: the records that keep heads durable, and the way back from them.

A head record commits a frame's effect on one key: it names the frame's offset, the pending events and the ids used.
What would make it large lies in records of its own, written before the head that first refers to them and removed after
the head that no longer does. So a changelog that ends anywhere describes a state between two frames, for every key:

    p                    the partition: last applied offset and join time
    h <key>              the head
    e <key> <position>   a pending event that the head has no room for
    u <key> <n>          the nth sealed segment of used identities

An event's record goes by its position, not by its id: an id may come back once it has expired, and must not
then stand where a head that is read back still looks for the old one.
"""

from __future__ import annotations

import sys
from typing import Any

import orjson

from headrace.model.errors import RecordError
from headrace.model.event import Event
from headrace.stages.head import BEFORE_ALL_MS, Head, UsedIds

VERSION = 1
PARTITION_KEY = b"p"

INLINE_BYTES_MAX = 2048
"""Payload bytes that a head record holds itself; further pending events get records of their own."""

OPEN_IDS_MAX = 256
"""Used ids that a head record holds itself; when they are more, the oldest are sealed into a segment."""

Change = tuple[bytes, bytes | None]
"""One changelog record: its key, and its value or None for a tombstone."""


def partition_change(offset: int, time_ms: int | None) -> Change:
    """Return the partition's own record."""
    return (PARTITION_KEY, orjson.dumps({"version": VERSION, "offset": offset, "time_ms": time_ms}))


def head_changes(head: Head) -> list[Change]:
    """Return the records that make `head` durable after a frame, in the order in which they must be written."""
    before, name = head.outside, head.name.encode()
    changes: list[Change] = []
    rows, inline_bytes, outside = [], 0, set()
    for place, events in enumerate(head.pending):
        for event in events:
            inline_bytes += event.payload_bytes
            position = event.position
            if position not in before and inline_bytes <= INLINE_BYTES_MAX:
                rows.append([place, event.to_json()])
                continue
            rows.append([place, position, event.time_ms])
            outside.add(position)
            if position not in before:
                changes.append((_event_key(name, position), orjson.dumps(event.to_json())))
    head.outside = frozenset(outside) if outside else frozenset()
    record: dict[str, Any] = {
        "version": VERSION,
        "trigger": head.trigger,
        "creation": head.creation,
        "key": head.key,
        "signature": head.signature,
        "generation": head.generation,
        "horizon_ms": head.horizon_ms,
        "offset": head.offset,
        "dependencies": len(head.pending),
        "pending": rows,
    }
    used = head.used
    if used is not None:
        changes.extend(_used_changes(used, name, record))
    changes.append((b"h" + name, orjson.dumps(record)))
    changes.extend((_event_key(name, position), None) for position in sorted(before - head.outside))
    if used is not None:
        changes.extend(segment_tombstones(head, used.take_dissolved()))
    return changes


def _used_changes(used: UsedIds, name: bytes, record: dict[str, Any]) -> list[Change]:
    changes: list[Change] = []
    while len(used.open_ids) > OPEN_IDS_MAX:
        number = used.seal(OPEN_IDS_MAX)
        segment = [[identity, used.times[identity]] for identity in used.segments[number]]
        changes.append((_segment_key(name, number), orjson.dumps(segment)))
    record["used"] = [[identity, used.times[identity]] for identity in used.open_ids]
    if used.sealed_count:
        record["segments"] = [[number, used.segment_newest_ms(number)] for number in sorted(used.segments)]
        record["sealed_count"] = used.sealed_count
    return changes


def event_tombstones(head: Head, events: list[Event]) -> list[Change]:
    """Return the tombstones of expired pending events that had records of their own, and let go of them."""
    name = head.name.encode()
    gone = sorted(position for event in events if (position := event.position) in head.outside)
    head.outside = head.outside.difference(gone)
    return [(_event_key(name, position), None) for position in gone]


def segment_tombstones(head: Head, numbers: list[int]) -> list[Change]:
    """Return the tombstones of expired segments."""
    name = head.name.encode()
    return [(_segment_key(name, number), None) for number in numbers]


def head_tombstone(head: Head) -> Change:
    """Return the tombstone of a head that holds nothing any more."""
    return (b"h" + head.name.encode(), None)


def _event_key(name: bytes, position: str) -> bytes:
    return b"e" + name + b"\x00" + position.encode()


def _segment_key(name: bytes, number: int) -> bytes:
    return b"u" + name + b"\x00" + str(number).encode()


class Restore:
    """Rebuilds heads from changelog records, in the order of the changelog. Records may be superseded by later ones."""

    def __init__(self) -> None:
        self.offset = -1
        self.time_ms: int | None = None
        self.heads: dict[str, Head] = {}
        self._incomplete: dict[str, dict[str, Any]] = {}
        self._beside: dict[bytes, bytes] = {}

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Take one changelog record.

        Raises:
            RecordError: it is damaged, or of a version that this release does not know.
        """
        try:
            match key[:1]:
                case b"p" if value is not None:
                    record = _current(orjson.loads(value))
                    self.offset, self.time_ms = record["offset"], record["time_ms"]
                case b"h":
                    self._apply_head(key[1:].decode(), value)
                case b"e" | b"u":
                    if value is None:
                        self._beside.pop(key, None)
                    else:
                        self._beside[key] = value
                case _:
                    raise RecordError(f"the join's changelog has a record with the unknown key {key[:40]!r}")
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise RecordError(f"the join's changelog has a record that cannot be read: {error!r}") from None

    def _apply_head(self, name: str, value: bytes | None) -> None:
        self.heads.pop(name, None)
        self._incomplete.pop(name, None)
        if value is None:
            return
        record = _current(orjson.loads(value))
        if "segments" in record or any(len(row) == 3 for row in record["pending"]):
            self._incomplete[name] = record
        else:
            self.heads[name] = _head(record)

    def finish(self) -> list[Change]:
        """Complete the heads whose parts lie beside them; return tombstones for parts that no head refers to.

        Raises:
            RecordError: a part that has not expired is missing.
        """
        for name, record in self._incomplete.items():
            self.heads[name] = self._complete(record)
        orphans: list[Change] = [(key, None) for key in sorted(self._beside)]
        self._incomplete, self._beside = {}, {}
        return orphans

    def _complete(self, record: dict[str, Any]) -> Head:
        inline = {**record, "pending": [row for row in record["pending"] if len(row) == 2]}
        head = _head(inline)
        name = head.name.encode()
        for place, position, time_ms in (row for row in record["pending"] if len(row) == 3):
            value = self._part(_event_key(name, position), time_ms, head)
            if value is not None:
                head.add(place, Event(*orjson.loads(value)))
                head.outside |= {position}
        for number, newest_ms in record.get("segments", ()):
            value = self._part(_segment_key(name, number), newest_ms, head)
            if value is not None:
                assert head.used is not None
                head.used.restore(number, orjson.loads(value))
        return head

    def _part(self, key: bytes, time_ms: int, head: Head) -> bytes | None:
        value = self._beside.pop(key, None)
        if value is None and (self.time_ms is None or time_ms >= self.time_ms - head.horizon_ms):
            # Only what has expired may be gone: a tick removes parts without writing their heads again.
            raise RecordError(f"the join's changelog lacks a record of {head.trigger}: {key[:80]!r}")
        return value


def _current(record: dict[str, Any]) -> dict[str, Any]:
    if record["version"] != VERSION:
        raise RecordError(f"the join's changelog has version {record['version']}; this release reads {VERSION}")
    return record


def _head(record: dict[str, Any]) -> Head:
    head = Head(
        trigger=sys.intern(record["trigger"]),
        creation=sys.intern(record["creation"]),
        key=record["key"],
        signature=sys.intern(record["signature"]),
        generation=record["generation"],
        horizon_ms=record["horizon_ms"],
        offset=record["offset"],
        pending=[[] for _ in range(record["dependencies"])],
    )
    for place, row in record["pending"]:
        head.pending[place].append(Event(*row))
    if "used" in record:
        times = dict(record["used"])
        newest_ms = max(times.values(), default=BEFORE_ALL_MS)
        head.used = UsedIds(times, list(times), sealed_count=record.get("sealed_count", 0), newest_ms=newest_ms)
    return head
