"""What the WorkflowTemplates of a cluster declare, at hand without a question for each firing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from headrace.edges.kube.api import ApiUnreachable, KubeApi, Reply, argo_path
from headrace.edges.kube.mirror import Mirror
from headrace.edges.kube.pages import words
from headrace.stages.bind import Target

WORKFLOW_TEMPLATE = "workflowTemplate"
CLUSTER_WORKFLOW_TEMPLATE = "clusterWorkflowTemplate"
# Without the right to watch, a template's change is seen this much later at most.
_ANSWER_AGE_MAX_S = 2.0
_ANSWERS_MAX = 1000
_METAFLOW_LABEL = ("app.kubernetes.io/name", "metaflow-flow")
_METAFLOW_ANNOTATION = "metaflow/flow_name"


@dataclass(frozen=True, slots=True)
class TemplatesUnavailable:
    """Whether the template exists cannot be told now; it may be later."""

    message: str
    """Why, and what to do, in a sentence."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a direct question found, and when, in the event loop's seconds."""

    target: Target
    read_s: float


class Templates:
    """All templates of the allowed namespaces and, where permitted, the cluster's own."""

    def __init__(self, api: KubeApi, namespaces: Sequence[str] | None) -> None:
        """Prepare to watch the templates of `namespaces`, None meaning all; `start` begins."""
        self._api = api
        self._namespaced: dict[str | None, Mirror[Target]] = {
            namespace: Mirror(api, _path(WORKFLOW_TEMPLATE, namespace), target_of)
            for namespace in (dict.fromkeys(namespaces) if namespaces is not None else (None,))
        }
        self._of_cluster = Mirror(api, _path(CLUSTER_WORKFLOW_TEMPLATE, None), target_of)
        self._answers: dict[tuple[str, str, str], _Answer] = {}

    def start(self) -> None:
        """Begin to list and watch, in tasks of their own."""
        for mirror in self._mirrors():
            mirror.start()

    async def close(self) -> None:
        """Stop watching; the `KubeApi` stays open."""
        await asyncio.gather(*(mirror.close() for mirror in self._mirrors()))

    @property
    def synced(self) -> bool:
        """Whether every collection is either known completely and up to date, or known to be closed to us."""
        return all(mirror.fresh or not mirror.permitted for mirror in self._mirrors())

    @property
    def problem(self) -> str | None:
        """Why `synced` is not so, in a sentence; None while it is."""
        troubled = (m.problem or "nothing was heard lately" for m in self._mirrors() if m.permitted and not m.fresh)
        return next(troubled, None)

    async def target(self, kind: str, namespace: str, name: str) -> Target | TemplatesUnavailable | None:
        """Return what a template declares, None where there is no such template, or why that cannot be told now.

        A template that the copy does not hold is asked for directly, so that one created a moment ago is found;
        that there is none is never remembered.

        Args:
            kind: `workflowTemplate` or `clusterWorkflowTemplate`.
            namespace: not used for cluster templates.
        """
        if kind == CLUSTER_WORKFLOW_TEMPLATE:
            mirror: Mirror[Target] | None = self._of_cluster
            namespace = ""
        else:
            mirror = self._namespaced.get(namespace) or self._namespaced.get(None)
        if mirror is not None and mirror.fresh:
            known = mirror.objects.get((namespace, name))
            if known is not None:
                return known
        answer = self._answers.get((kind, namespace, name))
        if answer is not None and asyncio.get_running_loop().time() - answer.read_s < _ANSWER_AGE_MAX_S:
            return answer.target
        return await self._ask(kind, namespace, name)

    async def _ask(self, kind: str, namespace: str, name: str) -> Target | TemplatesUnavailable | None:
        key = (kind, namespace, name)
        asked_s = asyncio.get_running_loop().time()
        self._answers.pop(key, None)
        try:
            reply = await self._api.get(f"{_path(kind, namespace or None)}/{quote(name, safe='')}")
        except ApiUnreachable as error:
            return TemplatesUnavailable(str(error))
        if reply.status == 404 and _names_object(reply):
            return None
        if reply.status != 200:
            return TemplatesUnavailable(_refusal(kind, namespace, name, reply))
        try:
            target = target_of(orjson.loads(reply.body))
        except (orjson.JSONDecodeError, AttributeError):
            return TemplatesUnavailable(f"{kind} {name}: the answer of {self._api.server} was not understood")
        while len(self._answers) >= _ANSWERS_MAX:
            del self._answers[next(iter(self._answers))]
        self._answers[key] = _Answer(target, asked_s)
        return target

    def _mirrors(self) -> list[Mirror[Target]]:
        return [*self._namespaced.values(), self._of_cluster]


def target_of(template: dict[str, Any]) -> Target:
    """Return what a template, given as its JSON, declares; what is malformed declares nothing."""
    metadata = template.get("metadata") or {}
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    label, value = _METAFLOW_LABEL
    try:
        parameters = frozenset(p["name"] for p in template["spec"]["arguments"]["parameters"])
    except (KeyError, TypeError):
        parameters = frozenset()
    # Labels are often overwritten by what deploys things; Metaflow itself goes by the annotation.
    return Target(parameters, metaflow=_METAFLOW_ANNOTATION in annotations or labels.get(label) == value)


def _path(kind: str, namespace: str | None) -> str:
    if kind == CLUSTER_WORKFLOW_TEMPLATE:
        return argo_path("clusterworkflowtemplates")
    return argo_path("workflowtemplates", namespace)


def _names_object(reply: Reply) -> bool:
    """Say whether a 404 is about the object: without Argo's definitions the whole path is unknown."""
    try:
        details = orjson.loads(reply.body)["details"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return False
    return isinstance(details, dict) and "name" in details


def _refusal(kind: str, namespace: str, name: str, reply: Reply) -> str:
    what = f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
    match reply.status:
        case 404:
            advice = "install Argo Workflows' definitions in the cluster"
        case 401:
            advice = "renew the credentials of the kubeconfig or service account"
        case 403 if kind == CLUSTER_WORKFLOW_TEMPLATE:
            advice = "grant the rights of deploy/rbac-cluster-templates.yaml"
        case 403:
            advice = "grant the rights of deploy/rbac.yaml in that namespace"
        case _:
            advice = "look at the API server"
    return f"{what} cannot be read ({words(reply)}): {advice}"
