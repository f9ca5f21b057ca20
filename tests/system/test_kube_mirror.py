"""A copy of objects stays true to a real API server through expired versions and lost connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from kubernetes.client import CustomObjectsApi

from headrace.edges.kube.api import ARGO_PATH, KubeApi, RequestRefused
from headrace.edges.kube.mirror import Mirror
from tests.support.kube import ARGO_GROUP, ARGO_VERSION, KubeServer, create_workflow_template, request_json
from tests.support.kube_gateway import Fault, KubeGateway, write_kubeconfig

DEADLINE_S = 60.0
WATCH = "watch=true"
LIST = "limit="


@pytest.fixture
async def gateway(kube: KubeServer) -> AsyncIterator[KubeGateway]:
    async with KubeGateway(kube) as running:
        yield running


@pytest.fixture
async def api(
    kube: KubeServer, gateway: KubeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[KubeApi]:
    file = write_kubeconfig(tmp_path / "config", gateway.url, {"token": kube.admin_token})
    monkeypatch.setenv("KUBECONFIG", str(file))
    connected = await KubeApi.connect()
    yield connected
    await connected.close()


@pytest.fixture
async def mirror(api: KubeApi, kube_namespace: str) -> AsyncIterator[Mirror[str]]:
    """Keeps each template's label `version`; the test starts it."""

    def version(template: dict[str, Any]) -> str:
        return str(template["metadata"].get("labels", {}).get("version"))

    made = Mirror(api, path_of(kube_namespace), version)
    yield made
    await made.close()


def path_of(namespace: str) -> str:
    return f"{ARGO_PATH}/namespaces/{namespace}/workflowtemplates"


async def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"not so after {DEADLINE_S:g} s"
        await asyncio.sleep(0.02)


def create(kube: KubeServer, namespace: str, name: str, version: str) -> None:
    create_workflow_template(kube, namespace, name, {}, labels={"version": version})


def change(kube: KubeServer, namespace: str, name: str, version: str) -> None:
    body = {"metadata": {"labels": {"version": version}}}
    CustomObjectsApi(kube.admin).patch_namespaced_custom_object(
        ARGO_GROUP, ARGO_VERSION, namespace, "workflowtemplates", name, body
    )


async def test_follows_the_server(kube: KubeServer, kube_namespace: str, mirror: Mirror[str]) -> None:
    create(kube, kube_namespace, "first", "1")
    assert not mirror.fresh
    mirror.start()
    await wait_until(lambda: dict(mirror.objects) == {(kube_namespace, "first"): "1"})
    assert mirror.fresh
    create(kube, kube_namespace, "second", "1")
    change(kube, kube_namespace, "first", "2")
    await wait_until(lambda: dict(mirror.objects) == {(kube_namespace, "first"): "2", (kube_namespace, "second"): "1"})
    request_json(kube, "DELETE", f"{path_of(kube_namespace)}/first")
    await wait_until(lambda: dict(mirror.objects) == {(kube_namespace, "second"): "1"})
    assert mirror.problem is None


GONE = b'{"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}\n'


@pytest.mark.parametrize(
    "fault",
    [
        Fault(WATCH, 410, b'{"code": 410, "message": "too old resource version"}'),
        Fault(WATCH, 200, GONE),
        Fault(WATCH, 504, b'{"code": 504, "message": "Too large resource version"}'),
    ],
    ids=["410 at once", "410 as an event", "version from before a restored backup"],
)
async def test_lists_again_where_a_watch_cannot_go_on(
    kube: KubeServer, gateway: KubeGateway, kube_namespace: str, mirror: Mirror[str], fault: Fault
) -> None:
    gateway.fail_next(fault)
    mirror.start()
    await wait_until(lambda: gateway.count(LIST) == 2 and gateway.count(WATCH) == 2)
    create(kube, kube_namespace, "later", "1")
    await wait_until(lambda: (kube_namespace, "later") in mirror.objects)
    assert (gateway.count(LIST), mirror.problem) == (2, None)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(WATCH, 200, b"<html>Please log in</html>\n"),
        Fault(WATCH, 429, b"{}", {"Retry-After": "0"}),
        Fault(WATCH, 200, b""),
        Fault(WATCH, 200, b'{"type": "ADDED", "obj'),
    ],
    ids=["no JSON", "busy", "nothing", "half an event"],
)
async def test_resumes_a_watch_that_failed_otherwise(
    kube: KubeServer, gateway: KubeGateway, kube_namespace: str, mirror: Mirror[str], fault: Fault
) -> None:
    gateway.fail_next(fault)
    mirror.start()
    await wait_until(lambda: gateway.count(WATCH) == 2)
    create(kube, kube_namespace, "later", "1")
    await wait_until(lambda: (kube_namespace, "later") in mirror.objects)
    assert (gateway.count(LIST), mirror.problem) == (1, None)


async def test_misses_nothing_while_cut_off(
    kube: KubeServer, gateway: KubeGateway, kube_namespace: str, mirror: Mirror[str]
) -> None:
    create(kube, kube_namespace, "first", "1")
    mirror.start()
    await wait_until(lambda: gateway.cut_streams() > 0)
    change(kube, kube_namespace, "first", "2")
    create(kube, kube_namespace, "second", "1")
    await wait_until(lambda: dict(mirror.objects) == {(kube_namespace, "first"): "2", (kube_namespace, "second"): "1"})
    assert gateway.count(LIST) == 1, "a watch that was cut is resumed"
    assert mirror.problem is None


async def test_list_that_expires_between_pages_starts_over(
    kube: KubeServer, gateway: KubeGateway, kube_namespace: str, mirror: Mirror[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.edges.kube.mirror._PAGE_OBJECTS", 1)
    gateway.fail_next(Fault("continue=", 410, b'{"code": 410, "message": "the continue token is too old"}'))
    names = {(kube_namespace, name) for name in ("a", "b", "c")}
    for _, name in names:
        create(kube, kube_namespace, name, "1")
    mirror.start()
    await wait_until(lambda: set(mirror.objects) == names)
    assert gateway.count(LIST) == 5


async def test_what_the_real_server_says_of_an_expired_version(
    kube: KubeServer, kube_namespace: str, api: KubeApi
) -> None:
    """The faults above imitate this."""
    lines = api.watch(f"{path_of(kube_namespace)}?watch=true&resourceVersion=1&timeoutSeconds=30", DEADLINE_S)
    try:
        assert await anext(lines) == b""
        event = orjson.loads(await anext(lines))
        said = event["type"], event["object"]["code"]
    except RequestRefused as refused:
        said = "ERROR", refused.reply.status
    await lines.aclose()
    assert said == ("ERROR", 410)
