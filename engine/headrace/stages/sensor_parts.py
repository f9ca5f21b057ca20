"""The parts of a Sensor, read strictly: what a dependency waits for, and how an event fills a parameter.

The forms are those that Metaflow's Sensor compiler writes (metaflow/plugins/argo/argo_workflows.py, 2.19).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from headrace.model.errors import TriggerError
from headrace.model.sensor import SensorParameter
from headrace.stages.sensor_parameters import FILLED_FIELDS

_PAYLOAD = "body.payload"
_FIELD = re.compile(r"[A-Za-z0-9_-]+")
_EQUALS = re.compile(r"""\s*([A-Za-z_]\w*)\s*==\s*(?:'([^'"\\]*)'|"([^'"\\]*)")\s*""", re.ASCII)
_EXISTS = re.compile(r"\s*true\s*==\s*true\s*")
_NAMED = re.compile(r"spec\.arguments\.parameters\.#\(name==?([^()\"\\]+)\)\.value")
_NUMBERED = re.compile(r"spec\.arguments\.parameters\.([0-9]{1,4})\.value")
_TEMPLATE_FIELD = re.compile(r'\$\.Input\.body\.payload "([^"\\]+)"')
_GET = '(get $.Input.body.payload "{0}"{1})'
_WITH_DEFAULT = (
    '{{{{ if (hasKey $.Input.body.payload "{0}") }}}}{1}{{{{- else -}}}}{{{{ (fail "use-default-instead") }}}}'
    "{{{{- end -}}}}"
)


class SensorError(TriggerError):
    """A Sensor cannot become a trigger."""


@dataclass(frozen=True, slots=True)
class ListenedEvent:
    """What one dependency waits for."""

    name: str
    """The event's name, as its publishers know it."""
    requires: tuple[str, ...]
    """Fields that the payload must have."""
    filter: str | None
    """CEL over the payload."""


def listened_event(dependency: Mapping[str, Any], where: str) -> ListenedEvent:
    """Read a dependency's filters.

    Raises:
        SensorError: one is not of Metaflow's kinds, or none says which event it is.
    """
    only(dependency, where, "name", "filters", ignored=("eventName", "eventSourceName"))
    filters = only(mapping(dependency.get("filters"), f"{where}.filters"), f"{where}.filters", "exprs")
    names: list[str] = []
    required: list[str] = []
    equal: dict[str, str] = {}
    for at, expression in each(filters, "exprs", f"{where}.filters"):
        variable, field = _filter_field(expression, at)
        comparison = text(expression, "expr", at)
        found = _EQUALS.fullmatch(comparison)
        if found is not None and found[1] == variable:
            value = found[2] if found[2] is not None else found[3]
            if field == "name":
                names.append(value)
            elif equal.setdefault(field, value) != value:
                raise SensorError(f"{at}: the field {field} cannot equal both {equal[field]!r} and {value!r}")
        elif _EXISTS.fullmatch(comparison):
            required.append(field)
        else:
            raise SensorError(f"{at}.expr {comparison!r} is not supported; equality with a text is, and true == true")
    if len(set(names)) != 1:
        raise SensorError(f"{where}.filters must say by one comparison of {_PAYLOAD}.name which event it waits for")
    conditions = [f"{_quoted(field)} in event && event[{_quoted(field)}] == {_quoted(v)}" for field, v in equal.items()]
    # An event without one of these fields gets its own, so they are never missing.
    needed = tuple(field for field in dict.fromkeys(required) if field not in FILLED_FIELDS)
    return ListenedEvent(names[0], needed, " && ".join(conditions) or None)


def _filter_field(expression: Mapping[str, Any], where: str) -> tuple[str, str]:
    """Return a filter's variable and the payload's field that it stands for."""
    only(expression, where, "expr", "fields")
    fields = each(expression, "fields", where)
    if len(fields) != 1:
        raise SensorError(f"{where} compares {len(fields)} fields; one is supported")
    at, field = fields[0]
    only(field, at, "name", "path")
    return text(field, "name", at), _payload_field(text(field, "path", at), at)


def _payload_field(path: str, where: str) -> str:
    field = path.removeprefix(f"{_PAYLOAD}.")
    if field == path or not _FIELD.fullmatch(field):
        raise SensorError(f"{where}.path {path!r} is not supported; {_PAYLOAD}. and a field's name is")
    return field


def parameter_rule(
    parameter: Mapping[str, Any], where: str, events: Mapping[str, str], arguments: Sequence[str]
) -> SensorParameter:
    """Read how an event fills a parameter of the Workflow.

    Args:
        parameter: one entry of the trigger's parameters.
        where: its place in the Sensor, for messages.
        events: names of the events by their dependencies' names.
        arguments: names of the Workflow's parameters, in order.

    Raises:
        SensorError: it is not of the forms that Metaflow writes, or names what is not there.
    """
    only(parameter, where, "src", "dest")
    at = f"{where}.src"
    source = only(
        mapping(parameter.get("src"), at), at, "dependencyName", "dataKey", "dataTemplate", "value", "useRawData"
    )
    if source.get("useRawData"):
        raise SensorError(f"{at}.useRawData is not supported")
    dependency = text(source, "dependencyName", at)
    if dependency not in events:
        raise SensorError(f"{at}.dependencyName {dependency!r} is no dependency of the Sensor")
    field, quoted = _source_field(source, at)
    return SensorParameter(
        parameter=_destination(text(parameter, "dest", where), where, arguments),
        event=events[dependency],
        field=field,
        quoted=quoted,
        default=text(source, "value", at, empty=True),
    )


def _source_field(source: Mapping[str, Any], where: str) -> tuple[str | None, bool]:
    key, template = source.get("dataKey") or None, source.get("dataTemplate") or None
    if key == _PAYLOAD and template is None:
        return None, False
    if key is not None or not isinstance(template, str):
        raise SensorError(f"{where} needs either dataKey {_PAYLOAD!r} or a dataTemplate of Metaflow's; it has {key!r}")
    found = _TEMPLATE_FIELD.search(template)
    field = found[1] if found is not None else ""
    if template == metaflow_template(field, quoted=False):
        return field, False
    if template == metaflow_template(field, quoted=True):
        return field, True
    raise SensorError(f"{where}.dataTemplate is not one that Metaflow 2.19 writes: {template[:200]!r}")


def metaflow_template(field: str, *, quoted: bool) -> str:
    """Return the template by which Metaflow reads a payload's field; `quoted` for parameters of its JSON type."""
    if not quoted:
        value = "{{-" + " " + _GET.format(field, " | toRawJson") + " -}}"
    else:
        value = (
            "{{- $pv:=" + _GET.format(field, "") + ' -}}{{ if kindIs "string" $pv }}'
            "{{- $pv | toRawJson -}}{{- else -}}{{ $pv | toRawJson | toRawJson }}{{- end -}}"
        )
    return _WITH_DEFAULT.format(field, value)


def _destination(dest: str, where: str, arguments: Sequence[str]) -> str:
    named, numbered = _NAMED.fullmatch(dest), _NUMBERED.fullmatch(dest)
    if named is not None and named[1] in arguments:
        return named[1]
    if numbered is not None and int(numbered[1]) < len(arguments):
        return arguments[int(numbered[1])]
    raise SensorError(f"{where}.dest {dest!r} is no value of a parameter that the Workflow has")


def _quoted(value: str) -> str:
    return orjson.dumps(value).decode()


def only(given: Mapping[str, Any], where: str, *known: str, ignored: Sequence[str] = ()) -> Mapping[str, Any]:
    """Return `given` if it has no other fields than these; empty ones do not count.

    Raises:
        SensorError: there is another one.
    """
    for name, value in given.items():
        if name not in known and name not in ignored and value not in (None, "", [], {}, False):
            raise SensorError(f"{where}.{name} is not supported by this version of Headrace")
    return given


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """Return `value` if it is an object.

    Raises:
        SensorError: it is missing, or something else.
    """
    if not isinstance(value, Mapping):
        raise SensorError(f"{where} is {'missing' if value is None else 'no object'}")
    return value


def each(
    given: Mapping[str, Any], name: str, where: str, *, empty: bool = False
) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the objects of a list, each with its place.

    Raises:
        SensorError: it is no list of objects, or has none although it must.
    """
    values = given.get(name) or []
    if not isinstance(values, list) or not (values or empty):
        raise SensorError(f"{where}.{name} is {'no list' if values else 'missing or empty'}")
    places = [f"{where}.{name}[{index}]" for index in range(len(values))]
    return [(place, mapping(value, place)) for place, value in zip(places, values, strict=True)]


def text(given: Mapping[str, Any], name: str, where: str, *, empty: bool = False) -> str:
    """Return a field that must be a text, and unless `empty` not an empty one.

    Raises:
        SensorError: it is none.
    """
    value = given.get(name)
    if not isinstance(value, str) or not (value or empty):
        raise SensorError(f"{where}.{name} is {'missing' if value in (None, '') else 'no text'}")
    return value


def texts(value: Any, where: str) -> dict[str, str]:
    """Return an object whose values are all texts, such as labels; a missing one is empty.

    Raises:
        SensorError: a value is something else.
    """
    given = mapping(value or {}, where)
    return {name: text(given, name, where, empty=True) for name in given}
