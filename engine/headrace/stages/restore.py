"""The way back from the join's changelog to the heads of one partition."""

from __future__ import annotations

from typing import Any

import orjson

from headrace.model.errors import RecordError
from headrace.model.event import Event
from headrace.stages.changelog import Change, event_key, head_of, read_record, segment_key, unreadable
from headrace.stages.head import Head
from headrace.stages.heads import Heads


class Restore:
    """Rebuilds heads from changelog records, in the order of the changelog. Records may be superseded by later ones."""

    def __init__(self) -> None:
        self.offset = -1
        self.time_ms: int | None = None
        self.heads = Heads()
        self.due_ms: dict[str, int] = {}
        """Join time at which something of each head begins to expire."""
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
                    record = read_record(value)
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
        except (KeyError, TypeError, ValueError) as error:
            raise unreadable(error) from None

    def _apply_head(self, name: str, value: bytes | None) -> None:
        self.heads.drop(name)
        self.due_ms.pop(name, None)
        self._incomplete.pop(name, None)
        if value is None:
            return
        record = read_record(value)
        if "segments" in record or any(len(row) == 3 for row in record["pending"]):
            self._incomplete[name] = record
        else:
            self.heads.rest(name, value)
            times = [event[2] for _, event in record["pending"]]
            times.extend(time_ms for _, time_ms in record.get("used", ()))
            self.due_ms[name] = min(times, default=0) + record["horizon_ms"]

    def finish(self) -> list[Change]:
        """Complete the heads whose parts lie beside them; return tombstones for parts that no head refers to.

        Raises:
            RecordError: a part that has not expired is missing.
        """
        for name, record in self._incomplete.items():
            head = self._complete(record)
            self.heads.keep(name, head)
            self.due_ms[name] = (head.oldest_ms or 0) + head.horizon_ms
        orphans: list[Change] = [(key, None) for key in sorted(self._beside)]
        self._incomplete, self._beside = {}, {}
        return orphans

    def _complete(self, record: dict[str, Any]) -> Head:
        inline = {**record, "pending": [row for row in record["pending"] if len(row) == 2]}
        head = head_of(inline)
        name = head.name.encode()
        for place, position, time_ms in (row for row in record["pending"] if len(row) == 3):
            value = self._part(event_key(name, position), time_ms, head)
            if value is not None:
                head.add(place, Event(*orjson.loads(value)))
                head.outside |= {position}
        for number, newest_ms in record.get("segments", ()):
            value = self._part(segment_key(name, number), newest_ms, head)
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
