"""What is said of templates is what a real API server holds, with all rights or few, and however it fails."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import CustomObjectsApi

from headrace.edges.kube import mirror
from headrace.edges.kube import templates as templates_module
from headrace.edges.kube.api import KubeApi
from headrace.edges.kube.templates import Templates, TemplatesUnavailable, target_of
from headrace.stages.bind import Target
from tests.support.kube import ARGO_GROUP, ARGO_VERSION, KubeServer, apply_yaml, create_workflow_template
from tests.support.kube_gateway import Fault, KubeGateway, write_kubeconfig

DEADLINE_S = 60.0
DAY = Target(frozenset({"day"}), metaflow=False)
WatchTemplates = Callable[..., Awaitable[Templates]]


@pytest.fixture
async def gateway(kube: KubeServer) -> AsyncIterator[KubeGateway]:
    async with KubeGateway(kube) as running:
        yield running


@pytest.fixture
async def watch_templates(
    kube: KubeServer, gateway: KubeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[WatchTemplates]:
    """Begins to watch through the gateway, with the admin's rights or another token's."""
    opened: list[tuple[KubeApi, Templates]] = []

    async def begin(namespaces: Sequence[str] | None, token: str = "") -> Templates:
        file = write_kubeconfig(tmp_path / "config", gateway.url, {"token": token or kube.admin_token})
        monkeypatch.setenv("KUBECONFIG", str(file))
        api = await KubeApi.connect()
        templates = Templates(api, namespaces)
        opened.append((api, templates))
        templates.start()
        return templates

    yield begin
    for api, templates in opened:
        await templates.close()
        await api.close()


async def wait_until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        outcome = condition()
        if outcome if isinstance(outcome, bool) else await outcome:
            return
        assert time.monotonic() < deadline_s, f"not so after {DEADLINE_S:g} s"
        await asyncio.sleep(0.02)


def reads_of(gateway: KubeGateway, name: str) -> int:
    """How often the template was asked for directly."""
    return gateway.count(f"/workflowtemplates/{name}")


def replace_parameters(kube: KubeServer, namespace: str, name: str, parameters: list[str]) -> None:
    body: dict[str, Any] = {"spec": {"arguments": {"parameters": [{"name": p} for p in parameters]}}}
    CustomObjectsApi(kube.admin).patch_namespaced_custom_object(
        ARGO_GROUP, ARGO_VERSION, namespace, "workflowtemplates", name, body
    )


def delete(kube: KubeServer, namespace: str, name: str) -> None:
    CustomObjectsApi(kube.admin).delete_namespaced_custom_object(
        ARGO_GROUP, ARGO_VERSION, namespace, "workflowtemplates", name
    )


def grant(kube: KubeServer, namespace: str, user: str, resources: list[str], verbs: list[str]) -> None:
    apply_yaml(
        kube,
        f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: some-rights, namespace: {namespace}}}
rules:
  - {{apiGroups: [argoproj.io], resources: {resources}, verbs: {verbs}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: some-rights, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: some-rights}}
subjects:
  - {{kind: User, name: {user}}}
""",
    )


async def test_follows_creation_change_and_deletion(
    kube: KubeServer, gateway: KubeGateway, kube_namespace: str, watch_templates: WatchTemplates
) -> None:
    create_workflow_template(kube, kube_namespace, "before", {"region": None, "rows": "5"})
    templates = await watch_templates([kube_namespace])
    assert not templates.synced
    assert templates.problem is not None and "has not been listed yet" in templates.problem
    await wait_until(lambda: templates.synced)
    assert templates.problem is None

    async def known(name: str) -> Target | TemplatesUnavailable | None:
        return await templates.target("workflowTemplate", kube_namespace, name)

    assert await known("before") == Target(frozenset({"region", "rows"}), metaflow=False)
    assert reads_of(gateway, "before") == 0

    # One that the watch may not have brought yet is found all the same.
    create_workflow_template(kube, kube_namespace, "after", {"day": None})
    assert await known("after") == DAY

    async def changed() -> bool:
        return await known("before") == Target(frozenset({"other"}), metaflow=False)

    replace_parameters(kube, kube_namespace, "before", ["other"])
    await wait_until(changed)
    assert reads_of(gateway, "before") == 0

    async def gone() -> bool:
        return await known("before") is None

    delete(kube, kube_namespace, "before")
    await wait_until(gone)


async def test_absence_is_not_remembered(
    kube: KubeServer, kube_namespace: str, watch_templates: WatchTemplates
) -> None:
    templates = await watch_templates([kube_namespace])
    assert await templates.target("workflowTemplate", kube_namespace, "late") is None
    create_workflow_template(kube, kube_namespace, "late", {})
    assert await templates.target("workflowTemplate", kube_namespace, "late") == Target(frozenset(), metaflow=False)


async def test_all_namespaces_and_many_pages(
    kube: KubeServer,
    gateway: KubeGateway,
    kube_namespace: str,
    watch_templates: WatchTemplates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mirror, "_PAGE_OBJECTS", 2)
    for number in range(7):
        create_workflow_template(kube, kube_namespace, f"page-{number}", {f"p{number}": None})
    create_workflow_template(kube, "", f"of-{kube_namespace}", {"c": None}, cluster=True)
    templates = await watch_templates(None)
    await wait_until(lambda: templates.synced)
    for number in range(7):
        found = await templates.target("workflowTemplate", kube_namespace, f"page-{number}")
        assert found == Target(frozenset({f"p{number}"}), metaflow=False)
    of_cluster = await templates.target("clusterWorkflowTemplate", kube_namespace, f"of-{kube_namespace}")
    assert of_cluster == Target(frozenset({"c"}), metaflow=False)
    assert gateway.count("continue=") >= 3
    assert gateway.count("templates/") == 0


async def test_namespace_that_is_not_watched_is_asked(
    kube: KubeServer, gateway: KubeGateway, kube_namespace: str, watch_templates: WatchTemplates
) -> None:
    create_workflow_template(kube, kube_namespace, "other", {"day": None})
    templates = await watch_templates(["default"])
    await wait_until(lambda: templates.synced)
    assert await templates.target("workflowTemplate", kube_namespace, "other") == DAY
    assert reads_of(gateway, "other") == 1


async def test_right_to_get_alone_suffices(
    kube: KubeServer,
    gateway: KubeGateway,
    kube_namespace: str,
    watch_templates: WatchTemplates,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    grant(kube, kube_namespace, "headrace-tester", ["workflowtemplates"], ["get"])
    create_workflow_template(kube, kube_namespace, "daily", {"day": None})
    monkeypatch.setattr(mirror, "_FORBIDDEN_DELAY_S", 0.01)
    with caplog.at_level(logging.WARNING, "headrace"):
        templates = await watch_templates([kube_namespace], kube.user_tokens["headrace-tester"])
        await wait_until(lambda: templates.synced and gateway.count("limit=") > 4)
    assert [record.getMessage().count("is forbidden") for record in caplog.records] == [1, 1], "once for each kind"

    async def found() -> bool:
        # The server learns of new rights a moment later.
        return await templates.target("workflowTemplate", kube_namespace, "daily") == DAY

    await wait_until(found)
    monkeypatch.setattr(templates_module, "_ANSWER_AGE_MAX_S", DEADLINE_S)
    assert await found()
    reads = reads_of(gateway, "daily")
    assert [await found() for _ in range(5)] == [True] * 5
    assert reads_of(gateway, "daily") == reads, "answers are kept for a moment"
    monkeypatch.setattr(templates_module, "_ANSWER_AGE_MAX_S", 0.0)
    replace_parameters(kube, kube_namespace, "daily", ["night"])
    assert not await found()


async def test_rights_granted_later_are_used(
    kube: KubeServer,
    gateway: KubeGateway,
    kube_namespace: str,
    watch_templates: WatchTemplates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mirror, "_FORBIDDEN_DELAY_S", 0.05)
    create_workflow_template(kube, kube_namespace, "daily", {"day": None})
    templates = await watch_templates([kube_namespace], kube.user_tokens["headrace-tester"])
    await wait_until(lambda: templates.synced)
    unavailable = await templates.target("workflowTemplate", kube_namespace, "daily")
    assert isinstance(unavailable, TemplatesUnavailable)
    assert f"workflowTemplate {kube_namespace}/daily cannot be read (HTTP 403: " in unavailable.message
    assert "grant the rights of deploy/rbac.yaml" in unavailable.message

    grant(kube, kube_namespace, "headrace-tester", ["workflowtemplates"], ["list", "watch"])

    async def found() -> bool:
        return await templates.target("workflowTemplate", kube_namespace, "daily") == DAY

    await wait_until(found)


async def test_unreachable_server_leaves_what_is_known(
    kube: KubeServer, gateway: KubeGateway, kube_namespace: str, watch_templates: WatchTemplates
) -> None:
    create_workflow_template(kube, kube_namespace, "daily", {"day": None})
    templates = await watch_templates([kube_namespace])
    await wait_until(lambda: templates.synced)
    await gateway.close()
    assert await templates.target("workflowTemplate", kube_namespace, "daily") == DAY
    unavailable = await templates.target("workflowTemplate", kube_namespace, "unknown")
    assert isinstance(unavailable, TemplatesUnavailable)
    assert "could not be reached" in unavailable.message or "did not answer" in unavailable.message


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        (Fault("/workflowtemplates/daily", 404, b"404 page not found\n"), "install Argo Workflows' definitions"),
        (Fault("/workflowtemplates/daily", 500, b'{"message": "etcd is down"}'), "HTTP 500: etcd is down"),
        (Fault("/workflowtemplates/daily", 200, b"<html>"), "not understood"),
    ],
    ids=["Argo is not installed", "server error", "no JSON"],
)
async def test_answers_that_say_nothing_of_the_template(
    gateway: KubeGateway, kube_namespace: str, watch_templates: WatchTemplates, fault: Fault, advice: str
) -> None:
    templates = await watch_templates([kube_namespace])
    gateway.fail_next(fault)
    unavailable = await templates.target("workflowTemplate", kube_namespace, "daily")
    assert isinstance(unavailable, TemplatesUnavailable)
    assert advice in unavailable.message


def test_target_of_metaflow_and_of_malformed_templates() -> None:
    spec = {"arguments": {"parameters": [{"name": "day", "value": "1"}]}}
    labelled = {"metadata": {"labels": {"app.kubernetes.io/name": "metaflow-flow"}}, "spec": spec}
    annotated = {"metadata": {"annotations": {"metaflow/flow_name": "Refresh"}}, "spec": spec}
    other = {"metadata": {"labels": {"app.kubernetes.io/name": "other"}, "annotations": None}, "spec": spec}
    assert [target_of(template) for template in (labelled, annotated, other)] == [
        Target(frozenset({"day"}), metaflow=True),
        Target(frozenset({"day"}), metaflow=True),
        Target(frozenset({"day"}), metaflow=False),
    ]
    parameter_without_name: dict[str, Any] = {"spec": {"arguments": {"parameters": [{"name": []}]}}}
    malformed_templates: list[dict[str, Any]] = [{}, {"spec": None}, {"spec": []}, parameter_without_name]
    for malformed in malformed_templates:
        assert target_of(malformed) == Target(frozenset(), metaflow=False)
