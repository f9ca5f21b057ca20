"""The part of a trigger that joins and submitters need; it travels inside frames and firings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import orjson

from headrace.model.errors import RecordError


@dataclass(frozen=True, slots=True)
class Definition:
    """One generation of a trigger, with every default resolved."""

    trigger: str
    """namespace/name"""
    creation: str
    generation: int
    signature: str
    """While it stays the same, pending events are kept across generations."""
    window_ms: int
    lateness_ms: int
    match: str
    """`latest` or `each`."""
    dependencies: tuple[str, ...]
    """Names of the dependencies, in the order in which they are listed."""
    mappings: tuple[dict[str, str] | None, ...]
    """For each dependency: workflow parameter <- payload field, or None for the default mapping."""
    run_kind: str
    """`workflowTemplate`, `clusterWorkflowTemplate` or `flow`."""
    run_target: str
    """The template's name, or the flow file's path."""
    constants: dict[str, Any]
    """Parameters that the trigger sets itself."""
    max_age_ms: int | None = None
    sensor: dict[str, Any] | None = None
    """The `SensorRun` as JSON, where a Sensor says what the Workflow looks like."""

    @property
    def run_namespace(self) -> str:
        """Where the run starts: with the trigger, unless its Sensor says otherwise."""
        return str(self.sensor["namespace"]) if self.sensor is not None else self.trigger.partition("/")[0]

    @property
    def horizon_ms(self) -> int:
        """How far behind join time an event may lie and still count."""
        return self.window_ms + self.lateness_ms

    def to_json(self) -> dict[str, Any]:
        """The form that frames and firings carry. Its parts are the definition's own: write it, do not change it."""
        # `asdict` copies every value in depth, which for a Sensor's trigger costs more than all else of a firing.
        form = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.sensor is None:
            # Roles of the release before this one read every trigger but those of Sensors.
            del form["sensor"]
        return form

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Definition:
        """Read what `to_json` wrote.

        Raises:
            RecordError: a field is missing or unknown.
        """
        try:
            sequences = {name: tuple(value[name]) for name in ("dependencies", "mappings")}
            return cls(**{**value, **sequences})
        except (TypeError, KeyError) as error:
            raise RecordError(f"a trigger definition inside a record cannot be read: {error}") from None


# Definitions recur in frame after frame and firing after firing, so both directions are remembered. The bound is far
# above the triggers that are busy at one time; a miss costs a few microseconds.
_REMEMBERED_MAX = 20_000
_written: dict[int, tuple[Definition, bytes]] = {}
_read: dict[tuple[str, str, int, str, int], Definition] = {}


def definition_bytes(definition: Definition) -> bytes:
    """Return the JSON of a definition."""
    held = _written.get(id(definition))
    if held is None or held[0] is not definition:
        if len(_written) >= _REMEMBERED_MAX:
            _written.clear()
        held = _written[id(definition)] = (definition, orjson.dumps(definition.to_json()))
    return held[1]


def read_definition(row: dict[str, Any]) -> Definition:
    """Return the definition that `row` holds, one and the same object for rows of the same generation.

    Raises:
        RecordError: a field is missing or unknown.
        KeyError: one that tells generations apart is missing.
    """
    identity = (row["trigger"], row["creation"], row["generation"], row["signature"], row["lateness_ms"])
    held = _read.get(identity)
    if held is None:
        if len(_read) >= _REMEMBERED_MAX:
            _read.clear()
        held = _read[identity] = Definition.from_json(row)
    return held
