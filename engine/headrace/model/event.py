"""An event: one record of an event topic, read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class Position(NamedTuple):
    """Where a record lies in Kafka. A named tuple: one is made for each record, in a third of a dataclass's time."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True, order=False)
class Event:
    """An event as it travels through Headrace; the payload stays the text that its publisher wrote."""

    id: str
    """CloudEvents id, Metaflow id, or `topic:partition:offset`."""
    name: str
    """The topic's name."""
    time_ms: int
    """Event time, milliseconds since 1970 UTC."""
    partition: int
    offset: int
    payload: str
    """A JSON object, as text."""
    headers: dict[str, str] | None = None
    """Record headers, carried only where a parameter mapping reads them."""

    @property
    def order(self) -> tuple[int, str, int, int]:
        """Sort key: older first; ties go by topic, partition, offset."""
        return (self.time_ms, self.name, self.partition, self.offset)

    @property
    def identity(self) -> str:
        """What tells it from every other event: its name and its id, for two topics may well use the same ids.

        An id that begins with the name and a colon, as a record's position does, stands for itself: names hold
        neither colons nor spaces.
        """
        return self.id if self.id.startswith(f"{self.name}:") else f"{self.name} {self.id}"

    @property
    def position(self) -> str:
        """Where its record lies: `topic:partition:offset`."""
        return f"{self.name}:{self.partition}:{self.offset}"

    @property
    def payload_bytes(self) -> int:
        """The payload's size in UTF-8."""
        return len(self.payload) if self.payload.isascii() else len(self.payload.encode())

    def to_json(self) -> list[Any]:
        """The compact form that frames and state use, in the order of the fields."""
        row: list[Any] = [self.id, self.name, self.time_ms, self.partition, self.offset, self.payload]
        if self.headers is not None:
            row.append(self.headers)
        return row


class ReadEvent(NamedTuple):
    """An event together with what only the router needs: the parsed payload and all its headers."""

    event: Event
    fields: dict[str, Any]
    headers: dict[str, str]
