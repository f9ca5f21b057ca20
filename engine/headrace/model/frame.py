"""Records of `headrace.matches`: frames of matches, and ticks of join time.

A frame holds all matches for one partition that one turn of a router produced, each event once however many triggers
it matched, and the definitions of those triggers: the join learns triggers from nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from sys import intern
from typing import Any

import orjson

from headrace.model.definition import Definition, definition_bytes, read_definition
from headrace.model.errors import RecordError
from headrace.model.event import Event

VERSION = 1


@dataclass(frozen=True, slots=True)
class Match:
    """One event that passed at least one dependency of one trigger under one key."""

    definition: Definition
    event: Event
    dependencies: tuple[int, ...]
    """Indexes of the dependencies that it passed, in their order."""
    key: str
    """Canonical JSON of the key; empty where the trigger has none."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The matches of one record, in the order in which they were routed."""

    matches: tuple[Match, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """Join time, as its one author saw it."""

    time_ms: int


def encode_frame(matches: list[Match]) -> bytes:
    """Write one record that holds `matches`."""
    definitions: dict[int, int] = {}
    events: dict[int, int] = {}
    definition_rows: list[Any] = []
    event_rows: list[Any] = []
    rows: list[Any] = []
    for match in matches:
        definition, event = match.definition, match.event
        definition_index = definitions.get(id(definition))
        if definition_index is None:
            definition_index = definitions[id(definition)] = len(definition_rows)
            definition_rows.append(orjson.Fragment(definition_bytes(definition)))
        event_index = events.get(id(event))
        if event_index is None:
            event_index = events[id(event)] = len(event_rows)
            event_rows.append(event.to_json())
        rows.append([definition_index, event_index, match.dependencies, match.key])
    return orjson.dumps(
        {"version": VERSION, "kind": "frame", "definitions": definition_rows, "events": event_rows, "matches": rows}
    )


def encode_tick(time_ms: int) -> bytes:
    """Write one tick record."""
    return orjson.dumps({"version": VERSION, "kind": "tick", "time_ms": time_ms})


def decode(value: bytes) -> Frame | Tick:
    """Read a record of `headrace.matches`.

    Raises:
        RecordError: it is damaged, or of a version that this release does not know.
    """
    try:
        record = orjson.loads(value)
        if record["version"] != VERSION:
            raise RecordError(
                f"a frame has version {record['version']}; this release reads {VERSION}: upgrade the join"
            )
        if record["kind"] == "tick":
            return Tick(int(record["time_ms"]))
        definitions = [read_definition(row) for row in record["definitions"]]
        # An event that waits is kept for long, and its name would be kept with each.
        events = [Event(row[0], intern(row[1]), *row[2:]) for row in record["events"]]
        return Frame(
            tuple(
                Match(definitions[d], events[e], tuple(dependencies), key)
                for d, e, dependencies, key in record["matches"]
            )
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise RecordError(f"a record of the matches topic cannot be read: {error!r}") from None
