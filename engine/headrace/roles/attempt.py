"""Attempt: one try to turn a firing into a run, at Kubernetes or as a local process."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from headrace.edges import metrics
from headrace.edges.kube.api import ApiUnreachable, KubeApi
from headrace.edges.kube.templates import Templates, TemplatesUnavailable
from headrace.edges.local.flow_inspection import inspect_flow
from headrace.model.dead_letter import Reason
from headrace.model.errors import TargetError
from headrace.model.firing import Firing
from headrace.stages.bind import Refusal, Target, bind
from headrace.stages.workflow import FIRING_ANNOTATION, Answer, classify, firing_of_workflow, workflow


@dataclass(frozen=True, slots=True)
class Started:
    """The run exists."""

    run: str
    """namespace/name of the Workflow."""
    parameters: dict[str, str]
    existed: bool = False
    """Whether an earlier try had created it already."""


@dataclass(frozen=True, slots=True)
class Startable:
    """A local process may start with these parameters."""

    flow: Path
    parameters: dict[str, str]
    environment: dict[str, str]
    """Variables for the process, beside the engine's own."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """It may work later."""

    message: str
    after_s: float | None = None
    """What the server asked for, seconds."""


Outcome = Started | Startable | TryAgain | Refusal


class TargetSystem(Protocol):
    """Where runs start."""

    @property
    def problem(self) -> str | None:
        """Why nothing can be started there just now; None where all is well."""

    async def attempt(self, firing: Firing) -> Outcome:
        """Try once. Trying again after any outcome never makes a second run."""


class Kubernetes:
    """Creates Workflows. The name is the firing's, so a second creation meets the first one."""

    def __init__(self, api: KubeApi, templates: Templates, namespaces: tuple[str, ...] | None) -> None:
        """Create through `api`, in `namespaces` only (None: everywhere)."""
        self._api = api
        self._templates = templates
        self._namespaces = namespaces

    @property
    def problem(self) -> str | None:
        """Why the templates are not known, which is so while the API server cannot be reached."""
        return self._templates.problem

    async def attempt(self, firing: Firing) -> Outcome:
        """Create the Workflow of `firing`."""
        try:
            return await self._attempt(firing)
        except ApiUnreachable as error:
            return TryAgain(str(error))

    async def _attempt(self, firing: Firing) -> Outcome:
        definition = firing.definition
        namespace = definition.run_namespace
        if self._namespaces is not None and namespace not in self._namespaces:
            allowed = ", ".join(self._namespaces)
            message = f"workflows may start in {allowed}, not in {namespace}: extend HEADRACE_NAMESPACES"
            return Refusal(Reason.NAMESPACE_NOT_ALLOWED, message)
        target = await self._templates.target(definition.run_kind, namespace, definition.run_target)
        if isinstance(target, TemplatesUnavailable):
            return TryAgain(target.message)
        if target is None:
            where = f" in namespace {namespace}" if definition.run_kind == "workflowTemplate" else ""
            message = f"there is no {definition.run_kind} {definition.run_target}{where}: create it, then retry"
            return Refusal(Reason.UNKNOWN_TEMPLATE, message)
        parameters = bind(firing, target)
        if isinstance(parameters, Refusal):
            return parameters
        made = workflow(firing, parameters)
        if isinstance(made, Refusal):
            return made
        began_s = time.perf_counter()
        reply = await self._api.create_workflow(made.namespace, made.body)
        metrics.SUBMIT_SECONDS.observe(time.perf_counter() - began_s)
        answer, message = classify(reply.status, reply.body)
        match answer:
            case Answer.CREATED:
                return Started(f"{made.namespace}/{made.name}", parameters)
            case Answer.EXISTS:
                return await self._existing(firing, made.namespace, made.name, parameters)
            case Answer.RETRY:
                return TryAgain(message, reply.retry_after_s)
            case Answer.REFUSED:
                return Refusal(Reason.REFUSED_BY_API, f"the API server refuses the Workflow: {message}")

    async def _existing(self, firing: Firing, namespace: str, name: str, parameters: dict[str, str]) -> Outcome:
        reply = await self._api.get_workflow(namespace, name)
        if reply.status == 404:
            return TryAgain(f"the Workflow {namespace}/{name} existed and is gone")
        if reply.status != 200:
            return TryAgain(f"the Workflow {namespace}/{name} exists and cannot be read: HTTP {reply.status}")
        owner = firing_of_workflow(reply.body)
        if owner == firing.id:
            return Started(f"{namespace}/{name}", parameters, existed=True)
        made_by = f"firing {owner}" if owner else "somebody else"
        return Refusal(Reason.NAME_TAKEN, f"a Workflow {namespace}/{name} exists already, made by {made_by}")


class Nowhere:
    """Stands for Kubernetes where there are no credentials."""

    problem = None

    async def attempt(self, firing: Firing) -> Outcome:
        """Refuse, and say what is missing."""
        return Refusal(
            Reason.NO_TARGET,
            f"{firing.definition.run_kind} {firing.definition.run_target} needs Kubernetes, and no credentials are "
            "set: set KUBECONFIG or run in a cluster, then retry",
        )


class LocalFlows:
    """Prepares local processes of Metaflow files; the submitter starts them, once the intent is durable."""

    problem = None

    async def attempt(self, firing: Firing) -> Outcome:
        """Bind the parameters of the flow."""
        flow = Path(firing.definition.run_target)
        try:
            inspected = await inspect_flow(flow)
        except TargetError as error:
            return Refusal(Reason.UNKNOWN_FLOW, str(error))
        parameters = bind(firing, Target(inspected.parameters, metaflow=True, local=True))
        if isinstance(parameters, Refusal):
            return parameters
        return Startable(flow, parameters, {"METAFLOW_RUN_TAGS": _tags(firing)})


def _tags(firing: Firing) -> str:
    """Return what makes the run findable in Metaflow: the same two facts that a Workflow has as labels."""
    own = f"headrace.dev/trigger:{firing.definition.trigger} {FIRING_ANNOTATION}:{firing.id}"
    return f"{os.environ.get('METAFLOW_RUN_TAGS', '')} {own}".strip()
