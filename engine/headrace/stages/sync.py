"""Sync: the triggers that Sensors are, and what must be written so that the registry says what the Sensors say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.model.errors import TriggerError
from headrace.model.trigger import RefusedTrigger, TriggerRecord
from headrace.stages.route import compile_trigger
from headrace.stages.sensor import compile_sensor

Held = TriggerRecord | RefusedTrigger


@dataclass(slots=True)
class Plan:
    """What to write."""

    register: list[TriggerRecord] = field(default_factory=list)
    """Drafts of triggers that are new or have changed."""
    write: dict[str, RefusedTrigger | None] = field(default_factory=dict)
    """By name: refusals, and None for what is to be deleted."""
    taken: set[str] = field(default_factory=set)
    """Names that a trigger has which no Sensor made. It stays."""


def draft(
    sensor: Mapping[str, Any], template_settings: Mapping[str, str], window_ms: int, lateness_ms: int, now_ms: int
) -> Held:
    """Return the trigger that a Sensor is, not yet registered, or why it cannot be one.

    Args:
        sensor: the object as the API server has it.
        template_settings: the settings for Headrace of the WorkflowTemplate that it starts.
        window_ms, lateness_ms: the engine's defaults.
        now_ms: the time of the deployment.
    """
    metadata = sensor["metadata"]
    name = f"{metadata['namespace']}/{metadata['name']}"
    source = f"Sensor {name}"
    try:
        compiled = compile_sensor(sensor, template_annotations=template_settings)
        record = TriggerRecord(
            name=compiled.name,
            # A Sensor that was deleted and made anew is another one, also if nobody saw it happen.
            creation=metadata["uid"],
            generation=1,
            spec=compiled.spec,
            starts={},
            deployed_ms=now_ms,
            source=source,
            sensor=compiled.sensor,
        )
        compile_trigger(record, window_ms, lateness_ms)
    except TriggerError as error:
        return RefusedTrigger(name=name, refused=str(error), source=source)
    return record


def plan(found: Mapping[str, Held], held: Mapping[str, Held], watched: Callable[[str], bool]) -> Plan:
    """Compare what the Sensors say with what the registry holds.

    Args:
        found: by name, the draft of each Sensor's trigger, or why it cannot be one.
        held: the whole registry.
        watched: whether the Sensors of a namespace are in `found`, if there are any; what others hold is left alone.
    """
    result = Plan()
    for name, wanted in found.items():
        have = held.get(name)
        if isinstance(have, TriggerRecord) and have.sensor is None:
            result.taken.add(name)
        elif isinstance(wanted, RefusedTrigger):
            if wanted != have:
                result.write[name] = wanted
        elif not _same(wanted, have):
            result.register.append(wanted)
    for name, have in held.items():
        ours = isinstance(have, RefusedTrigger) or have.sensor is not None
        if ours and name not in found and watched(name.partition("/")[0]):
            result.write[name] = None
    return result


def _same(wanted: TriggerRecord, have: Held | None) -> bool:
    return (
        isinstance(have, TriggerRecord)
        and have.creation == wanted.creation
        and have.spec == wanted.spec
        and have.sensor == wanted.sensor
    )
