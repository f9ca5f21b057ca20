"""The parameters of a Workflow that a Sensor describes, byte for byte as Argo Events would write them.

The rules are those of Argo Events' trigger parameters (pkg/sensors/triggers/params.go) for what Metaflow's Sensors
hold: a field goes through the template function `toRawJson`, so it is written as Go's encoding/json writes it, and the
whole payload keeps the text that its publisher wrote, as Go compacts it on the way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from headrace.model.event import Event
from headrace.model.json_raw import compact, raw_members
from headrace.model.sensor import SensorParameter, SensorRun

FILLED_FIELDS = frozenset({"name", "id", "timestamp"})
"""Fields that Metaflow puts into every event. Where a payload comes without them, the event's own stand in."""

_GO_EXPONENT_BELOW, _GO_EXPONENT_FROM = 1e-6, 1e21
_IN_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_HTML_ESCAPES = str.maketrans(_IN_HTML)
_LINE_ESCAPES = str.maketrans({sign: _IN_HTML[sign] for sign in "\u2028\u2029"})


class _Integer(str):
    """An integer's digits as they stand in the payload, however many there are."""


class _NoNumber(Exception):
    """A number that JSON can write and a float cannot hold."""


def sensor_parameters(run: SensorRun, events: Iterable[Event]) -> dict[str, str]:
    """Return the Workflow's parameters by name, in the Sensor's order.

    Raises:
        ValueError: a payload cannot be read, since it is nested too deeply.
    """
    by_name = {event.name: event for event in events}
    payloads = {name: _fields(event) for name, event in by_name.items()}
    values = dict(run.arguments)
    for rule in run.parameters:
        if rule.field is None:
            text: str | None = carried_payload(by_name[rule.event])
        else:
            text = _field(payloads[rule.event], rule)
        # Inside a JSON string the escape reads back as the same text, and Argo's template engine does not see it.
        values[rule.parameter] = rule.default if text is None else text.replace("{{", "\\u007b\\u007b")
    return values


def carried_payload(event: Event) -> str:
    """Return the payload behind `current.trigger`, with the fields that Metaflow's runtime looks for.

    What the publisher wrote stands as it was written. Two of its own fields give way, where the event is not one of
    Metaflow's: a `name` that is not the event's, by which flows look it up, and a `timestamp` that is no number, by
    which Metaflow sorts.
    """
    members = raw_members(event.payload)
    ours = {name: json.dumps(value) for name, value in _filled(event).items()}
    kept = {name: members[name] for name in ours if name in members and _usable(name, event, members)}
    if kept.keys() == ours.keys():
        return compact(event.payload).translate(_HTML_ESCAPES)
    whole = {**ours, **kept, **{name: text for name, text in members.items() if name not in ours}}
    text = ",".join(f"{json.dumps(name, ensure_ascii=False)}:{value}" for name, value in whole.items())
    return compact("{" + text + "}").translate(_HTML_ESCAPES)


def _filled(event: Event) -> dict[str, Any]:
    return {"name": event.name, "id": event.id, "timestamp": event.time_ms // 1000}


def _usable(name: str, event: Event, members: dict[str, str]) -> bool:
    if name == "name":
        return bool(json.loads(members[name]) == event.name) if members[name].startswith('"') else False
    if name == "timestamp" and members.get("id", "") != json.dumps(event.id):
        return members[name][0] in "-0123456789"
    return True


def _fields(event: Event) -> dict[str, Any]:
    try:
        payload = json.loads(event.payload, parse_int=_Integer)
    except RecursionError:
        raise ValueError(f"the payload of {event.id} is nested too deeply") from None
    filled = {name: _Integer(v) if isinstance(v, int) else v for name, v in _filled(event).items()}
    return {**filled, **payload}


def _field(payload: dict[str, Any], rule: SensorParameter) -> str | None:
    if rule.field not in payload:
        return None
    value = payload[rule.field]
    try:
        text = go_json(value)
    except _NoNumber:
        return None
    except RecursionError:
        raise ValueError(f"the field {rule.field} is nested too deeply") from None
    holds_text = isinstance(value, str) and not isinstance(value, _Integer)
    return go_json(text) if rule.quoted and not holds_text else text


def go_json(value: Any) -> str:
    """Write a value as Go's encoding/json does without its HTML escapes: names sorted, numbers in their own form."""
    match value:
        case _Integer():
            return value[:]
        case str():
            return json.dumps(value, ensure_ascii=False).translate(_LINE_ESCAPES)
        case float():
            return _go_float(value)
        case dict():
            return "{" + ",".join(f"{go_json(name)}:{go_json(value[name])}" for name in sorted(value)) + "}"
        case list():
            return "[" + ",".join(map(go_json, value)) + "]"
        case _:
            return json.dumps(value)


def _go_float(value: float) -> str:
    if not math.isfinite(value):
        raise _NoNumber
    if value and not _GO_EXPONENT_BELOW <= abs(value) < _GO_EXPONENT_FROM:
        digits, _, exponent = repr(value).partition("e")
        sign, power = exponent[0], exponent[1:].lstrip("0")
        return f"{digits.removesuffix('.0')}e{sign}{power}"
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
