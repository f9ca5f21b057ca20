"""The rights of deploy/rbac.yaml suffice for what Headrace does, none is spare, and they reach no further."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
import yaml

from headrace.edges.kube.api import ARGO_PATH, KubeApi, RequestRefused
from headrace.edges.kube.templates import Templates, TemplatesUnavailable
from headrace.stages.bind import Target
from tests.support.kube import KubeServer, apply_yaml, create_namespace, create_workflow_template, token_for

DEPLOY = Path(__file__).parents[2] / "deploy"
ACCOUNT = "headrace"
DEADLINE_S = 60.0
FORBIDDEN = 403
DAY = Target(frozenset({"day"}), metaflow=False)
Connect = Callable[[], Awaitable[KubeApi]]
RIGHTS = [
    (resource, verb)
    for document in yaml.safe_load_all((DEPLOY / "rbac.yaml").read_text())
    if document["kind"] == "Role"
    for rule in document["rules"]
    for resource in rule["resources"]
    for verb in rule["verbs"]
]


@pytest.fixture
def home(kube: KubeServer, kube_namespace: str) -> str:
    """Where Headrace itself runs: another namespace than that of the workflows."""
    name = f"{kube_namespace}-home"
    create_namespace(kube, name)
    return name


@pytest.fixture
async def connect(
    kube: KubeServer, home: str, kube_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Connect]:
    """Connects as Headrace's ServiceAccount, once it exists."""
    opened: list[KubeApi] = []

    async def as_headrace() -> KubeApi:
        token = token_for(kube, home, ACCOUNT)
        monkeypatch.setenv("KUBECONFIG", str(kube.kubeconfig_for(token, kube_namespace)))
        opened.append(await KubeApi.connect())
        return opened[-1]

    yield as_headrace
    for api in opened:
        await api.close()


def documents(name: str, home: str, namespace: str) -> list[dict[str, Any]]:
    """A file of deploy/ with the namespaces of this test, as its comments tell people to make it."""
    text = (DEPLOY / name).read_text()
    text = text.replace("namespace: headrace", f"namespace: {home}").replace("namespace: ml", f"namespace: {namespace}")
    return [document for document in yaml.safe_load_all(text) if document]


def apply(kube: KubeServer, objects: list[dict[str, Any]]) -> None:
    apply_yaml(kube, yaml.safe_dump_all(objects))


def grant_cluster_templates(kube: KubeServer, home: str, namespace: str, verbs: list[str]) -> None:
    """Apply the cluster's file under a name of this test's own, with these verbs."""
    role, binding = documents("rbac-cluster-templates.yaml", home, namespace)
    role["metadata"]["name"] = binding["metadata"]["name"] = binding["roleRef"]["name"] = home
    role["rules"][0]["verbs"] = verbs
    apply(kube, [role, binding])


async def wait_until(condition: Callable[[], Awaitable[bool]]) -> None:
    """The server takes a moment to learn of new rights."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not await condition():
        assert time.monotonic() < deadline_s, f"not so after {DEADLINE_S:g} s"
        await asyncio.sleep(0.02)


def a_workflow(name: str) -> bytes:
    metadata = {"name": name}
    return orjson.dumps({"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": metadata, "spec": {}})


async def watch_status(api: KubeApi, path: str) -> int:
    stream = api.watch(f"{path}?watch=true&timeoutSeconds=30", DEADLINE_S)
    try:
        assert await anext(stream) == b""
        return 200
    except RequestRefused as refused:
        return refused.reply.status
    finally:
        await stream.aclose()


async def status_of(api: KubeApi, namespace: str, resource: str, verb: str) -> int:
    """Use one right as Headrace's edges use it, and return the server's answer."""
    path = f"{ARGO_PATH}/namespaces/{namespace}/{resource}"
    match verb:
        case "create":
            assert resource == "workflows"
            return (await api.create_workflow(namespace, a_workflow(f"try-{time.monotonic_ns()}"))).status
        case "get":
            return (await api.get(f"{path}/any")).status
        case "list":
            return (await api.get(path)).status
        case "watch":
            return await watch_status(api, path)
    raise AssertionError(f"deploy/rbac.yaml grants {verb} on {resource}, which this test does not know")


async def test_the_files_suffice(kube: KubeServer, home: str, kube_namespace: str, connect: Connect) -> None:
    create_workflow_template(kube, kube_namespace, "daily", {"day": None})
    apply(kube, documents("rbac.yaml", home, kube_namespace))
    api = await connect()

    async def may_create() -> bool:
        return (await api.create_workflow(kube_namespace, a_workflow("first"))).status != FORBIDDEN

    await wait_until(may_create)
    assert (await api.get_workflow(kube_namespace, "first")).status == 200
    assert (await api.create_workflow(kube_namespace, a_workflow("first"))).status == 409

    templates = Templates(api, [kube_namespace])
    templates.start()

    async def synced() -> bool:
        return templates.synced

    try:
        await wait_until(synced)
        assert await templates.target("workflowTemplate", kube_namespace, "daily") == DAY
        # Rights on cluster templates are not among them; nothing else minds, and what is missing is said.
        unavailable = await templates.target("clusterWorkflowTemplate", kube_namespace, "daily")
        assert isinstance(unavailable, TemplatesUnavailable)
        assert "grant the rights of deploy/rbac-cluster-templates.yaml" in unavailable.message
    finally:
        await templates.close()


@pytest.mark.parametrize("right", RIGHTS, ids=lambda right: "-".join(right))
async def test_no_right_is_spare(
    kube: KubeServer, home: str, kube_namespace: str, connect: Connect, right: tuple[str, str]
) -> None:
    account, role, binding = documents("rbac.yaml", home, kube_namespace)
    for rule in role["rules"]:
        rule["verbs"] = [verb for verb in rule["verbs"] if (rule["resources"][0], verb) != right]
    apply(kube, [account, role, binding])
    api = await connect()

    async def refused() -> set[tuple[str, str]]:
        statuses = [await status_of(api, kube_namespace, *used) for used in RIGHTS]
        return {used for used, status in zip(RIGHTS, statuses, strict=True) if status == FORBIDDEN}

    async def settled() -> bool:
        return await refused() == {right}

    await wait_until(settled)


async def test_rights_reach_no_further(kube: KubeServer, home: str, kube_namespace: str, connect: Connect) -> None:
    apply(kube, documents("rbac.yaml", home, kube_namespace))
    api = await connect()

    async def may_list() -> bool:
        return await status_of(api, kube_namespace, "workflows", "list") == 200

    await wait_until(may_list)
    assert await status_of(api, home, "workflows", "create") == FORBIDDEN
    for path in (
        f"{ARGO_PATH}/namespaces/{home}/workflowtemplates",
        f"{ARGO_PATH}/workflows",
        f"{ARGO_PATH}/workflowtemplates",
        f"{ARGO_PATH}/clusterworkflowtemplates",
        f"{ARGO_PATH}/namespaces/{kube_namespace}/cronworkflows",
        f"/api/v1/namespaces/{kube_namespace}/secrets",
        f"/api/v1/namespaces/{kube_namespace}/pods",
        f"/api/v1/namespaces/{home}/serviceaccounts",
    ):
        assert (await api.get(path)).status == FORBIDDEN, path


async def test_cluster_templates_with_get_alone_and_with_the_file(
    kube: KubeServer, home: str, kube_namespace: str, connect: Connect
) -> None:
    name = f"of-{kube_namespace}"
    create_workflow_template(kube, "", name, {"day": None}, cluster=True)
    apply(kube, documents("rbac.yaml", home, kube_namespace))
    grant_cluster_templates(kube, home, kube_namespace, ["get"])
    api = await connect()
    templates = Templates(api, [kube_namespace])
    templates.start()

    async def found() -> bool:
        return await templates.target("clusterWorkflowTemplate", kube_namespace, name) == DAY

    async def synced() -> bool:
        return templates.synced

    try:
        await wait_until(found)
        await wait_until(synced)
        assert await templates.target("clusterWorkflowTemplate", kube_namespace, "unknown") is None
    finally:
        await templates.close()

    file = documents("rbac-cluster-templates.yaml", home, kube_namespace)
    verbs = cast(list[str], file[0]["rules"][0]["verbs"])
    grant_cluster_templates(kube, home, kube_namespace, verbs)
    path = f"{ARGO_PATH}/clusterworkflowtemplates"

    async def all_granted() -> bool:
        return (await api.get(path)).status == 200 and await watch_status(api, path) == 200

    await wait_until(all_granted)
