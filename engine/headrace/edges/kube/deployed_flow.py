"""A flow that Metaflow has deployed: the Sensor that came with it, found by what the flow's file declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from headrace.edges.kube.api import ApiUnreachable, KubeApi, RequestRefused, argo_path
from headrace.edges.kube.pages import pages, words
from headrace.edges.local.flow_file import declared_events
from headrace.edges.local.flow_inspection import FlowInspection
from headrace.model.errors import TargetError, TriggerError
from headrace.stages.sensor import template_settings

_TEMPLATES = {"labelSelector": "app.kubernetes.io/name=metaflow-flow"}
# A template holds the commands of all its steps, so a page of them may be megabytes.
_PAGE_OBJECTS = 50


@dataclass(frozen=True, slots=True)
class DeployedFlow:
    """What is in Kubernetes of one flow."""

    sensor: dict[str, Any]
    template_settings: dict[str, str]
    """The settings for Headrace that its WorkflowTemplate carries, annotations and tags, by name."""
    file_events: frozenset[str]
    """The events that the flow's file names now, which may be others than those of its deployment."""


async def find_deployed(inspection: FlowInspection) -> DeployedFlow:
    """Find the flow's deployment where Metaflow puts it: that of its project and of the branch which is the default.

    Raises:
        TriggerError: the flow is not deployed there, or without a Sensor.
        TargetError: the API server cannot be asked.
    """
    namespace = inspection.namespace
    api = await KubeApi.connect()
    try:
        template = await _template(api, inspection, namespace)
        annotations = template["metadata"]["annotations"]
        name = annotations.get("metaflow/sensor_name")
        if not name:
            raise TriggerError(f"the flow {inspection.name} was deployed without a trigger: {_advice()}")
        sensors = argo_path("sensors", annotations.get("metaflow/sensor_namespace") or namespace)
        reply = await api.get(f"{sensors}/{quote(name)}")
        if reply.status == 404:
            raise TriggerError(f"the Sensor {name} of the flow {inspection.name} does not exist any more: {_advice()}")
        if reply.status != 200:
            raise RequestRefused(reply, f"the Sensor {name} cannot be read: {words(reply)}")
        settings = template_settings(annotations)
        return DeployedFlow(orjson.loads(reply.body), settings, frozenset(declared_events(inspection)))
    except (ApiUnreachable, RequestRefused) as error:
        raise TargetError(str(error)) from None
    finally:
        await api.close()


async def _template(api: KubeApi, inspection: FlowInspection, namespace: str) -> dict[str, Any]:
    # Metaflow alone knows how it names templates, and has changed it; what it writes on them says whose they are.
    wanted = (inspection.name, inspection.project, inspection.branch if inspection.project else None)
    branches = []
    parts = pages(api, argo_path("workflowtemplates", namespace), _TEMPLATES, _PAGE_OBJECTS)
    template: dict[str, Any]
    async for template in (template async for part in parts for template in part["items"]):
        said = template["metadata"].get("annotations") or {}
        found = (said.get("metaflow/flow_name"), said.get("metaflow/project_name"), said.get("metaflow/branch_name"))
        if found == wanted:
            return template
        if found[:2] == wanted[:2] and found[2] is not None:
            branches.append(str(found[2]))
    branch = f" in the branch {inspection.branch} of {inspection.project}" if inspection.project else ""
    others = f" (it is in {', '.join(sorted(branches))})" if branches else ""
    raise TriggerError(
        f"the flow {inspection.name} is not deployed{branch} in the namespace {namespace}{others}: {_advice()}, "
        "or `--local` runs it on this machine"
    )


def _advice() -> str:
    return "`python FLOW argo-workflows create` deploys it"
