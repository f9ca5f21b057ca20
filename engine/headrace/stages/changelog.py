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


def head_changes(head: Head) -> tuple[list[Change], bytes]:
    """Return the records that make `head` durable after a frame, in the order in which they must be written.

    Returns:
        the changes, and the value of the head's own among them.
    """
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
                changes.append((event_key(name, position), orjson.dumps(event.to_json())))
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
    value = orjson.dumps(record)
    changes.append((b"h" + name, value))
    changes.extend((event_key(name, position), None) for position in sorted(before - head.outside))
    if used is not None:
        changes.extend(segment_tombstones(head, used.take_dissolved()))
    return changes, value


def _used_changes(used: UsedIds, name: bytes, record: dict[str, Any]) -> list[Change]:
    changes: list[Change] = []
    while len(used.open_ids) > OPEN_IDS_MAX:
        number = used.seal(OPEN_IDS_MAX)
        segment = [[identity, used.times[identity]] for identity in used.segments[number]]
        changes.append((segment_key(name, number), orjson.dumps(segment)))
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
    return [(event_key(name, position), None) for position in gone]


def segment_tombstones(head: Head, numbers: list[int]) -> list[Change]:
    """Return the tombstones of expired segments."""
    name = head.name.encode()
    return [(segment_key(name, number), None) for number in numbers]


def head_tombstone(head: Head) -> Change:
    """Return the tombstone of a head that holds nothing any more."""
    return (b"h" + head.name.encode(), None)


def event_key(name: bytes, position: str) -> bytes:
    """Return the key of a pending event's own record."""
    return b"e" + name + b"\x00" + position.encode()


def segment_key(name: bytes, number: int) -> bytes:
    """Return the key of a sealed segment's record."""
    return b"u" + name + b"\x00" + str(number).encode()


def read_record(value: bytes) -> dict[str, Any]:
    """Read the record of a head or of the partition.

    Raises:
        RecordError: it is of a version that this release does not know.
        ValueError, KeyError, TypeError: it is damaged.
    """
    record: dict[str, Any] = orjson.loads(value)
    if record["version"] != VERSION:
        raise RecordError(f"the join's changelog has version {record['version']}; this release reads {VERSION}")
    return record


def read_head(value: bytes) -> Head:
    """Read the record of a head that refers to no other.

    Raises:
        RecordError: it is damaged, or of a version that this release does not know.
    """
    try:
        return head_of(read_record(value))
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable(error) from None


def unreadable(error: Exception) -> RecordError:
    """Say what is wrong with a damaged record."""
    return RecordError(f"the join's changelog has a record that cannot be read: {error!r}")


def head_of(record: dict[str, Any]) -> Head:
    """Build a head of what its record holds itself."""
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
