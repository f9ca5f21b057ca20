"""A firing: the decision to start one run, with the exact set of events."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from headrace.model.definition import Definition, definition_bytes, read_definition
from headrace.model.errors import RecordError
from headrace.model.event import Event

VERSION = 1


@dataclass(frozen=True, slots=True)
class Firing:
    """One record of `headrace.firings`, keyed by `id`."""

    id: str
    """32 hexadecimal digits; the same set of events for the same trigger always has the same id."""
    definition: Definition
    key: str
    """Canonical JSON of the key; empty where the trigger has none."""
    events: tuple[Event, ...]
    """One for each dependency, in the order of the dependencies."""

    @property
    def time_ms(self) -> int:
        """When the set was complete, in event time: the newest of its events."""
        return max(event.time_ms for event in self.events)

    def encode(self) -> bytes:
        """Write the record's bytes."""
        return orjson.dumps(
            {
                "version": VERSION,
                "id": self.id,
                "definition": orjson.Fragment(definition_bytes(self.definition)),
                "key": self.key,
                "events": [event.to_json() for event in self.events],
            }
        )

    @classmethod
    def decode(cls, value: bytes) -> Firing:
        """Read what `encode` wrote.

        Raises:
            RecordError: it is damaged, or of a version that this release does not know.
        """
        try:
            record: dict[str, Any] = orjson.loads(value)
            if record["version"] != VERSION:
                raise RecordError(f"a firing has version {record['version']}; this release reads {VERSION}")
            definition = read_definition(record["definition"])
            return cls(record["id"], definition, record["key"], tuple(Event(*row) for row in record["events"]))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise RecordError(f"a firing cannot be read: {error!r}") from None


def firing_of(definition: Definition, key: str, events: tuple[Event, ...], replay: str = "") -> Firing:
    """Make the firing of `events`, one for each dependency of `definition`, in their order."""
    pairs = sorted(zip(definition.dependencies, (event.id for event in events), strict=True))
    identity = orjson.dumps([definition.trigger, definition.creation, replay, pairs])
    return Firing(hashlib.sha256(identity).hexdigest()[:32], definition, key, events)
