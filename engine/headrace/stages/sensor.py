"""Sensor: an Argo Events Sensor that Metaflow made becomes a trigger, or a reason why it cannot.

It understands what Metaflow's compiler writes for `@trigger` and `@trigger_on_finish`. Whatever else a Sensor holds is
refused by name: a filter that is not understood must not become one that lets everything pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from headrace.model.errors import TriggerError
from headrace.model.names import trigger_name
from headrace.model.sensor import Reset, SensorRun
from headrace.model.trigger import TriggerSpec
from headrace.stages.expression import Expression
from headrace.stages.resets import Schedule
from headrace.stages.sensor_parts import (
    ListenedEvent,
    SensorError,
    each,
    listened_event,
    mapping,
    only,
    parameter_rule,
    text,
    texts,
)

ANNOTATIONS = "headrace.dev/"
STATUS_ANNOTATION = "headrace.dev/status"
"""What Headrace itself writes on a Sensor; no setting."""
_SETTINGS = {"window": "window", "match": "match", "key": "key", "max-age": "maxAge", "paused": "paused"}
# How Argo Events would run the Sensor's own pod; Headrace needs none.
_OF_THE_POD = ("template", "replicas", "revisionHistoryLimit", "eventBusName", "loggingFields")
_OPERATIONS = {"k8s": "create", "argoWorkflow": "submit"}


@dataclass(frozen=True, slots=True)
class SensorTrigger:
    """A Sensor as a trigger: the parts of a trigger's record that the Sensor decides."""

    name: str
    """namespace/name of the Sensor."""
    spec: TriggerSpec
    sensor: SensorRun


def compile_sensor(
    sensor: Mapping[str, Any], *, template_annotations: Mapping[str, str] | None = None
) -> SensorTrigger:
    """Read a Sensor.

    Args:
        sensor: the object as the API server has it; `metadata.namespace` must be set.
        template_annotations: annotations of the WorkflowTemplate, whose `headrace.dev/*` settings count where the
            Sensor has none of its own.

    Raises:
        SensorError: something in it is not understood, or cannot work; the message names it.
    """
    metadata = mapping(sensor.get("metadata"), "metadata")
    sensor_name, namespace = text(metadata, "name", "metadata"), text(metadata, "namespace", "metadata")
    try:
        spec = only(mapping(sensor.get("spec"), "spec"), "spec", "dependencies", "triggers", ignored=_OF_THE_POD)
        events = _events(spec)
        run, kind, target = _run(spec, sensor_name, namespace, events)
        settings = _settings(metadata.get("annotations") or {}, "Sensor")
        settings = {**_settings(template_annotations or {}, "WorkflowTemplate"), **settings}
        trigger_spec = _trigger_spec(events, settings, {kind: target})
        return SensorTrigger(trigger_name(sensor_name, namespace), trigger_spec, run)
    except TriggerError as error:
        raise SensorError(f"the Sensor {namespace}/{sensor_name} cannot be a trigger: {error}") from None


def template_of(sensor: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return namespace and name of the WorkflowTemplate that a Sensor starts; None where it names none."""
    try:
        resource = _resource(mapping(sensor["spec"]["triggers"][0]["template"], "template"), "")[1]
        namespace = resource.get("metadata", {}).get("namespace") or sensor["metadata"]["namespace"]
        reference = resource["spec"]["workflowTemplateRef"]
        return None if reference.get("clusterScope") else (str(namespace), str(reference["name"]))
    except (KeyError, IndexError, TypeError, AttributeError, SensorError):
        return None


def template_settings(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return the settings for Headrace among the annotations of a WorkflowTemplate that Metaflow made.

    Metaflow writes templates anew at each deployment, and keeps the flow's tags in an annotation; so the tag
    `headrace.dev/window:6h` says the same as an annotation of that name, which stands above it.
    """
    settings: dict[str, str] = {}
    with suppress(orjson.JSONDecodeError):
        tags = orjson.loads(annotations.get("metaflow/tags", "[]"))
        for tag in tags if isinstance(tags, list) else ():
            name, colon, value = str(tag).partition(":")
            if colon and name.startswith(ANNOTATIONS):
                settings[name] = value
    settings.update({name: value for name, value in annotations.items() if name.startswith(ANNOTATIONS)})
    return settings


def _events(spec: Mapping[str, Any]) -> dict[str, ListenedEvent]:
    """Return the events by the names that the Sensor has for them."""
    events: dict[str, ListenedEvent] = {}
    for where, dependency in each(spec, "dependencies", "spec"):
        name = text(dependency, "name", where)
        if name in events:
            raise SensorError(f"{where}.name {name!r} stands twice")
        event = listened_event(dependency, where)
        if any(event.name == other.name for other in events.values()):
            raise SensorError(f"two dependencies wait for the event {event.name}")
        events[name] = event
    return events


def _run(
    spec: Mapping[str, Any], sensor_name: str, namespace: str, events: Mapping[str, ListenedEvent]
) -> tuple[SensorRun, str, str]:
    triggers = each(spec, "triggers", "spec")
    if len(triggers) != 1:
        raise SensorError(f"it has {len(triggers)} triggers; one is supported")
    where, trigger = triggers[0]
    only(trigger, where, "template")
    where = f"{where}.template"
    template = mapping(trigger.get("template"), where)
    resets = _resets(template, where)
    action, resource = _resource(template, where)
    where = f"{where}.{action}"
    given = mapping(template[action], where)
    metadata = only(
        mapping(resource.get("metadata"), f"{where} metadata"),
        f"{where} metadata",
        *("generateName", "namespace", "labels", "annotations"),
    )
    arguments = _arguments(mapping(resource.get("spec"), f"{where} spec"), where)
    sources = {name: event.name for name, event in events.items()}
    run = SensorRun(
        name=sensor_name,
        trigger=text(template, "name", where),
        namespace=metadata.get("namespace") or namespace,
        labels=texts(metadata.get("labels"), f"{where} labels"),
        annotations=texts(metadata.get("annotations"), f"{where} annotations"),
        arguments=arguments,
        parameters=[
            parameter_rule(parameter, at, sources, list(arguments))
            for at, parameter in each(given, "parameters", where, empty=True)
        ],
        requires={event.name: list(event.requires) for event in events.values() if event.requires},
        resets=resets,
    )
    reference = mapping(resource["spec"].get("workflowTemplateRef"), f"{where} workflowTemplateRef")
    only(reference, f"{where} workflowTemplateRef", "name", "clusterScope")
    kind = "clusterWorkflowTemplate" if reference.get("clusterScope") else "workflowTemplate"
    return run, kind, text(reference, "name", f"{where} workflowTemplateRef")


def _resets(template: Mapping[str, Any], where: str) -> list[Reset]:
    resets = []
    for at, criterion in each(template, "conditionsReset", where, empty=True):
        only(criterion, at, "byTime")
        by_time = only(mapping(criterion.get("byTime"), f"{at}.byTime"), f"{at}.byTime", "cron", "timezone")
        reset = Reset(cron=text(by_time, "cron", at), timezone=by_time.get("timezone") or "UTC")
        Schedule(reset)
        resets.append(reset)
    return resets


def _resource(template: Mapping[str, Any], where: str) -> tuple[str, Mapping[str, Any]]:
    """Return the kind of action and the Workflow that it creates."""
    only(template, where, "name", "conditionsReset", *_OPERATIONS)
    actions = [action for action in _OPERATIONS if template.get(action) is not None]
    if len(actions) != 1:
        raise SensorError(f"{where} needs exactly one of k8s and argoWorkflow")
    action = actions[0]
    where = f"{where}.{action}"
    given = only(
        mapping(template[action], where),
        where,
        *("operation", "group", "version", "resource", "source", "parameters"),
    )
    if given.get("operation") not in (None, _OPERATIONS[action]):
        raise SensorError(f"{where}.operation {given['operation']} is not supported; {_OPERATIONS[action]} is")
    source = only(mapping(given.get("source"), f"{where}.source"), f"{where}.source", "resource")
    where = f"{where}.source.resource"
    resource = only(mapping(source.get("resource"), where), where, "apiVersion", "kind", "metadata", "spec")
    if (resource.get("apiVersion"), resource.get("kind")) != ("argoproj.io/v1alpha1", "Workflow"):
        raise SensorError(f"{where} is no argoproj.io/v1alpha1 Workflow")
    return action, resource


def _arguments(spec: Mapping[str, Any], where: str) -> dict[str, str]:
    only(spec, f"{where} spec", "arguments", "workflowTemplateRef")
    where = f"{where} arguments"
    given = only(mapping(spec.get("arguments") or {}, where), where, "parameters")
    arguments: dict[str, str] = {}
    for at, parameter in each(given, "parameters", where, empty=True):
        only(parameter, at, "name", "value")
        name = text(parameter, "name", at)
        if name in arguments:
            raise SensorError(f"{at}.name {name!r} stands twice")
        arguments[name] = text(parameter, "value", at, empty=True)
    return arguments


def _settings(annotations: Mapping[str, Any], whose: str) -> dict[str, str]:
    settings: dict[str, str] = {}
    for name, value in annotations.items():
        if not name.startswith(ANNOTATIONS) or name == STATUS_ANNOTATION:
            continue
        word = name.removeprefix(ANNOTATIONS)
        if word not in _SETTINGS:
            known = ", ".join(f"{ANNOTATIONS}{word}" for word in _SETTINGS)
            raise SensorError(f"the {whose}'s annotation {name} is not supported; there are {known}")
        settings[word] = str(value)
    return settings


def _trigger_spec(
    events: Mapping[str, ListenedEvent], settings: Mapping[str, str], target: Mapping[str, str]
) -> TriggerSpec:
    key = settings.get("key")
    if key is not None:
        Expression(key)
    fields: dict[str, Any] = {_SETTINGS[word]: value for word, value in settings.items() if word != "key"}
    dependencies = [{"name": event.name, "filter": event.filter, "key": key} for event in events.values()]
    try:
        return TriggerSpec.model_validate({"events": dependencies, "run": dict(target), **fields})
    except ValidationError as error:
        raise SensorError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    detail = error.errors()[0]
    words = {field: f"the annotation {ANNOTATIONS}{word}" for word, field in _SETTINGS.items()}
    place = ".".join(words.get(str(part), str(part)) for part in detail["loc"])
    shown = orjson.dumps(detail["input"], default=str).decode()[:60]
    return f"{place}: {detail['msg'].removeprefix('Value error, ')} (it is {shown})"
