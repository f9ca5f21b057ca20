"""Sensors that Metaflow 2.19.39 compiled from flows of our own, and triggers made of them.

`one`: one event, parameters of every type passed by name, one of them required, a reset. `mapped`: one event with a
mapping, a required parameter of the JSON type. `two`: three events, two of them with a mapping, a reset. `finish`:
`@trigger_on_finish` within a project.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headrace.model.event import Event
from headrace.model.firing import firing_of
from headrace.model.trigger import TriggerRecord
from headrace.stages.bind import Refusal, Target, bind
from headrace.stages.route import CompiledTrigger, compile_trigger
from headrace.stages.sensor import compile_sensor
from tests.unit.stages.build import LATENESS_MS, WINDOW_MS

_DIRECTORY = Path(__file__).with_name("sensors")
NAMES = ("one", "mapped", "two", "finish")


def sensor(name: str) -> dict[str, Any]:
    """Return a Sensor as its compiler wrote it."""
    read: dict[str, Any] = json.loads((_DIRECTORY / f"{name}.json").read_text())
    return read


def record_of(made: dict[str, Any]) -> TriggerRecord:
    """Return the trigger's record that a Sensor becomes, after a way through `headrace.triggers`."""
    compiled = compile_sensor(made)
    record = TriggerRecord(
        name=compiled.name,
        creation="creation-1",
        generation=1,
        spec=compiled.spec,
        sensor=compiled.sensor,
        starts={},
        deployed_ms=0,
    )
    return TriggerRecord.model_validate_json(record.encode())


def trigger_of(made: dict[str, Any]) -> CompiledTrigger:
    """Compile a Sensor's trigger with the engine's default window and lateness."""
    return compile_trigger(record_of(made), WINDOW_MS, LATENESS_MS)


def parameters_of(made: dict[str, Any], *events: Event) -> dict[str, str]:
    """Bind a firing of a Sensor's trigger that must be bound."""
    values = bind(firing_of(trigger_of(made).definition, "", events), Target(frozenset(), metaflow=True))
    assert not isinstance(values, Refusal), values
    return values
