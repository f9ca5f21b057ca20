"""Flow files: what a Metaflow file declares by @trigger or @trigger_on_finish, as a trigger that runs it locally."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from headrace.edges.local.flow_inspection import FlowInspection, inspect_flow
from headrace.edges.trigger_file import LoadedTrigger
from headrace.model.errors import TargetError, TriggerError
from headrace.model.trigger import TriggerFile

# What Metaflow's own compiler for Argo takes as the name of a payload's field.
_FIELD = re.compile(r"[A-Za-z0-9_]+")
_NOTE = "Flows deployed on Argo Workflows publish {} as they succeed; local runs publish no such event."


def load_flow(file: str) -> LoadedTrigger:
    """Read the trigger that a Metaflow file declares. The file's code is run, as an import.

    Raises:
        TriggerError: the file is no flow, declares no trigger, or one that this version cannot honour.
    """
    inspection = inspect_file(file)
    return flow_trigger(inspection, Path(file), f"{file}:{inspection.line}" if inspection.line else file)


def inspect_file(file: str) -> FlowInspection:
    """Read what a Metaflow file declares. The file's code is run, as an import.

    Raises:
        TriggerError: the file is no flow.
    """
    path = Path(file)
    if not path.is_file():
        raise TriggerError(f"{file} cannot be read: it {'is no file' if path.exists() else 'does not exist'}")
    try:
        return asyncio.run(inspect_flow(path))
    except TargetError as error:
        raise TriggerError(str(error)) from None


def flow_trigger(inspection: FlowInspection, path: Path, source: str) -> LoadedTrigger:
    """Turn what a flow declares into a trigger.

    Args:
        inspection: what Metaflow says of the file.
        path: the file, which the trigger's run is to be.
        source: the file and line where the flow begins, for messages.

    Raises:
        TriggerError: it declares no trigger, or one that this version cannot honour.
    """
    try:
        events, note = _events(inspection)
        value = {
            "apiVersion": "headrace.dev/v1",
            "kind": "Trigger",
            "metadata": {"name": _name(inspection.name)},
            "spec": {"events": events, "run": {"flow": path.name}},
        }
        return LoadedTrigger(TriggerFile.model_validate(value), source, path.absolute().parent, note)
    except ValidationError as error:
        reasons = dict.fromkeys(detail["msg"].removeprefix("Value error, ") for detail in error.errors())
        raise TriggerError(f"{source}: {'; '.join(reasons)}") from None
    except TriggerError as error:
        raise TriggerError(f"{source}: {error}") from None


def declared_events(inspection: FlowInspection) -> list[str]:
    """Return the names of the events that a flow waits for, as its deployment names them.

    Raises:
        TriggerError: it declares no trigger, or one that Metaflow cannot deploy.
    """
    trigger = _declared(inspection)
    if trigger["decorator"] == "trigger":
        return [event["name"] for event in trigger["triggers"]]
    return [_end_event(inspection, upstream) for upstream in trigger["triggers"]]


def _name(flow: str) -> str:
    """Name the trigger as Metaflow names the flow's template: Kubernetes has neither capitals nor underscores."""
    return flow.replace("_", "").lower()


def _declared(inspection: FlowInspection) -> dict[str, Any]:
    """Return the flow's one decorator that triggers it."""
    flow, declared = inspection.name, inspection.triggers
    if not declared:
        raise TriggerError(f"the flow {flow} has neither @trigger nor @trigger_on_finish, so no event can start it")
    if len(declared) > 1:
        raise TriggerError(
            f"the flow {flow} has both @trigger and @trigger_on_finish, which Metaflow does not deploy: choose one"
        )
    (trigger,) = declared
    if "error" in trigger:
        raise TriggerError(f"the flow {flow}: {trigger['error']}")
    return trigger


def _events(inspection: FlowInspection) -> tuple[list[dict[str, Any]], str | None]:
    """Return the trigger's dependencies, and what else should be known about them."""
    trigger = _declared(inspection)
    if trigger.get("options"):
        options = ", ".join(trigger["options"])
        raise TriggerError(
            f"the flow {inspection.name}: @{trigger['decorator']} has the options {options}, which local runs do "
            "not honour: leave them away, or write a trigger file with `run.flow`"
        )
    if trigger["decorator"] == "trigger":
        return _mapped(inspection, trigger["triggers"]), None
    ends = [_end_event(inspection, upstream) for upstream in trigger["triggers"]]
    # Metaflow passes nothing of these events as parameters, so the default mapping has to be switched off.
    return [{"name": end, "parameters": {}} for end in ends], _NOTE.format(" and ".join(ends))


def _mapped(inspection: FlowInspection, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events of @trigger with their mappings, held to the rules of Metaflow's compiler for Argo."""
    # Metaflow finds parameters without regard to case; a command line does not.
    known = {parameter.lower(): parameter for parameter in inspection.parameters}
    mapped: set[str] = set()
    dependencies = []
    for event in events:
        mapping: dict[str, str] = {}
        for parameter, source in (event.get("parameters") or {}).items():
            what = f"the flow {inspection.name}: @trigger maps the field {source!r} of {event['name']} to {parameter!r}"
            if not _FIELD.fullmatch(source):
                raise TriggerError(f"{what}; Metaflow allows letters, digits and underscores in a field's name")
            if parameter.lower() not in known:
                raise TriggerError(f"{what}, which is none of its parameters ({', '.join(sorted(known)) or 'none'})")
            if parameter.lower() in mapped:
                raise TriggerError(f"{what}, which is mapped twice")
            mapped.add(parameter.lower())
            mapping[known[parameter.lower()]] = source
        # An empty mapping is none: Metaflow then passes fields by name, where the event is the only one.
        dependencies.append({"name": event["name"], **({"parameters": mapping} if mapping else {})})
    return dependencies


def _end_event(inspection: FlowInspection, upstream: dict[str, Any]) -> str:
    """Return the name of the event that a deployed flow publishes as it ends, as Metaflow makes it."""
    project, branch = upstream.get("project") or inspection.project, upstream.get("branch") or inspection.branch
    if bool(project) != bool(branch):
        raise TriggerError(
            f"the flow {inspection.name}: @trigger_on_finish names only one of project and project_branch for "
            f"{upstream['flow']}; name both, or use @project"
        )
    return ".".join(["metaflow", *(part for part in (project, branch, upstream["flow"]) if part), "end"])
