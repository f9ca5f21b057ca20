"""Bind: a firing and what its target declares become the run's parameters, or a reason why it cannot run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson

from headrace.model.dead_letter import Reason
from headrace.model.errors import TriggerError
from headrace.model.event import Event
from headrace.model.firing import Firing
from headrace.model.json_text import check_finite, dumps_exact, loads_exact
from headrace.model.sensor import SensorRun
from headrace.stages.expression import Expression, Failed, variables
from headrace.stages.sensor_parameters import sensor_parameters


@dataclass(frozen=True, slots=True)
class Target:
    """What a template or flow declares."""

    parameters: frozenset[str]
    """Names of its parameters."""
    metaflow: bool
    """Whether Metaflow made it: Metaflow's templates parse every value as JSON."""
    local: bool = False
    """Whether it runs as a local process: no template is evaluated there, and values are command-line texts."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a firing can never become a run as things are. It becomes a dead letter."""

    reason: Reason
    message: str


class _Missing:
    """Marks a field that the payload does not have; None would be its null."""


_MISSING = _Missing()


class _Refused(Exception):
    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(reason, message)


def bind(firing: Firing, target: Target) -> dict[str, str] | Refusal:
    """Return the run's parameters by name, or why there can be none.

    Constants give way to explicit mappings and stand above fields that are passed by name alone: a publisher changes
    what the trigger fixes only where the trigger says so.
    """
    try:
        if firing.definition.sensor is not None:
            return _as_sensor(firing, firing.definition.sensor)
        values: dict[str, Any] = {}
        payloads = _Payloads(firing.events)
        _by_name(firing, target, payloads, values)
        values.update(firing.definition.constants)
        for index, (event, mapping) in enumerate(zip(firing.events, firing.definition.mappings, strict=True)):
            for parameter, source in (mapping or {}).items():
                value = _computed(event, source[1:]) if source.startswith("=") else _field(payloads[index], source)
                if value is not _MISSING:
                    values[parameter] = _FromPayload(value)
        return {name: text for name, value in values.items() if (text := _text(name, value, target)) is not None}
    except _Refused as refused:
        return refused.refusal


def _as_sensor(firing: Firing, sensor: dict[str, Any]) -> dict[str, str]:
    try:
        return sensor_parameters(SensorRun.model_validate(sensor), firing.events)
    except ValueError as error:
        raise _Refused(Reason.BAD_MAPPING, f"the parameters cannot be made as the Sensor says: {error}") from None


@dataclass(frozen=True, slots=True)
class _FromPayload:
    """A value that a publisher wrote, which must never become a template."""

    value: Any


class _Payloads:
    """The payloads of a firing's events, each parsed when it is first asked for: most mappings ask for few."""

    def __init__(self, events: tuple[Event, ...]) -> None:
        self._events = events
        self._parsed: dict[int, dict[str, Any]] = {}

    def __getitem__(self, index: int) -> dict[str, Any]:
        payload = self._parsed.get(index)
        if payload is None:
            payload = self._parsed[index] = _payload(self._events[index])
        return payload


def _by_name(firing: Firing, target: Target, payloads: _Payloads, values: dict[str, Any]) -> None:
    mappings = firing.definition.mappings
    if (target.metaflow or target.local) and (len(mappings) > 1 or mappings[0] is not None):
        # Metaflow's own rule: by name only where there is one event, and it has no mapping.
        return
    if not target.parameters:
        return
    for index, mapping in enumerate(mappings):
        if mapping is not None:
            continue
        for name, value in payloads[index].items():
            if name in target.parameters and name not in values:
                values[name] = _FromPayload(value)


def _payload(event: Event) -> dict[str, Any]:
    try:
        payload = loads_exact(event.payload)
    except ValueError as error:
        raise _Refused(Reason.BAD_MAPPING, f"the payload of {event.id} cannot be read: {error}") from None
    assert isinstance(payload, dict)
    return payload


def _field(payload: dict[str, Any], source: str) -> Any:
    if source in payload:
        return payload[source]
    value: Any = payload
    for part in source.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isascii() and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return _MISSING
    return value


@lru_cache(maxsize=10_000)
def _expression(text: str) -> Expression:
    return Expression(text)


def _computed(event: Event, text: str) -> Any:
    try:
        value = _expression(text).evaluate(variables(event, orjson.loads(event.payload), event.headers or {}))
    except TriggerError as error:
        raise _Refused(Reason.BAD_MAPPING, str(error)) from None
    if isinstance(value, Failed):
        if value.missing:
            return _MISSING
        raise _Refused(Reason.BAD_MAPPING, f"the mapping {text!r} fails for event {event.id}: {value.message}")
    try:
        check_finite(value)
        return loads_exact(orjson.dumps(value))
    except (TypeError, ValueError) as error:
        raise _Refused(Reason.BAD_MAPPING, f"the mapping {text!r} gives no JSON value: {error}") from None


def _text(name: str, value: Any, target: Target) -> str | None:
    from_payload = isinstance(value, _FromPayload)
    plain = value.value if isinstance(value, _FromPayload) else value
    if target.local:
        return None if plain is None else plain if isinstance(plain, str) else _json_text(name, plain)
    if isinstance(plain, str) and not target.metaflow:
        if from_payload and "{{" in plain:
            raise _Refused(
                Reason.TEMPLATE_TEXT,
                f"the value for parameter {name} holds '{{{{', which Argo would evaluate as a template",
            )
        return plain
    text = _json_text(name, plain)
    # Inside a JSON string the escape reads back as the same text, and Argo's template engine does not see it.
    return text.replace("{{", "\\u007b\\u007b") if from_payload else text


def _json_text(name: str, value: Any) -> str:
    try:
        return dumps_exact(value)
    except ValueError as error:
        raise _Refused(Reason.BAD_MAPPING, f"the value for parameter {name} cannot be written: {error}") from None


def exact_constants(constants: Mapping[str, Any]) -> dict[str, Any]:
    """Return constants with numbers as `dumps_exact` writes them."""
    return {name: Decimal(str(value)) if isinstance(value, float) else value for name, value in constants.items()}
