"""What the engine creates at the Kubernetes API, and that it does so once, even when the way there fails."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from kubernetes.client import CustomObjectsApi

from headrace.model.times import instant_ms, instant_text
from tests.support.engine import Engine
from tests.support.kafka import DEADLINE_S, KafkaServer
from tests.support.kube import ARGO_GROUP, ARGO_VERSION, KubeServer, watch_workflow_uids
from tests.support.kube_gateway import write_kubeconfig
from tests.support.tcp_proxy import LOOPBACK, TcpProxy
from tests.support.tenant import Bare, Tenant, parameters_of
from tests.system.engine_fixtures import new_engine

NAME_CHARACTERS_MAX = 63


@pytest.fixture(scope="module")
def wire(kube: KubeServer) -> Iterator[TcpProxy]:
    """The way to the API server, which tests may cut."""
    address = urlsplit(kube.url)
    assert address.hostname is not None and address.port is not None
    with TcpProxy(address.hostname, address.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def engine(
    kafka: KafkaServer, kube: KubeServer, wire: TcpProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """An engine that reaches the API server through the wire."""
    directory = tmp_path_factory.mktemp("engine")
    kubeconfig = write_kubeconfig(
        directory / "kubeconfig", f"https://{LOOPBACK}:{wire.port}", {"token": kube.admin_token}, ca_file=kube.ca_file
    )
    running = new_engine(kafka, kube, directory, KUBECONFIG=str(kubeconfig))
    try:
        running.start_and_wait()
        yield running
        running.stop()
    finally:
        running.abandon()


@pytest.fixture(autouse=True)
def mended_wire(wire: TcpProxy) -> Iterator[None]:
    """A test that fails while the wire is cut does not take the next ones along."""
    yield
    if not wire.whole:
        wire.cut()
        wire.mend()


def test_the_shape_of_a_workflow(tenant: Tenant) -> None:
    template = "model-refresh-with-a-name-that-is-so-long-that-no-workflow-could-have-it"
    tenant.template(template, {"window": None, "region": None, "nested": None, "tier": "dev", "unused": "default"})
    left, right = tenant.event("data_updated"), tenant.event("phase_of_the_moon")
    events = [
        {"name": left, "key": "event.region", "parameters": {"window": "range.days", "size": "=size(event.parts)"}},
        {"name": right, "key": "event.region"},
    ]
    run = {"workflowTemplate": template, "parameters": {"tier": "prod", "limits": {"cpu": 2}}}
    tenant.deploy(tenant.trigger("model-refresh", events, run))
    at = instant_text(time.time_ns() // 1_000_000 - 60_000).encode()
    tenant.produce(
        [
            Bare(left, b'{"region": "eu", "range": {"days": 7}, "parts": [1, 2], "tier": "x"}', [("ce_time", at)]),
            Bare(right, b'{"region": "eu", "nested": {"phase": 0.5}}', [("ce_id", b"moon-1")]),
        ]
    )
    (workflow,) = tenant.wait_for_workflows(1)

    assert set(workflow["spec"]) == {"workflowTemplateRef", "arguments"}
    assert workflow["spec"]["workflowTemplateRef"] == {"name": template}
    assert set(workflow["spec"]["arguments"]) == {"parameters"}
    # A mapping switches the passing by name off for its own event; the other event's fields are still passed.
    assert parameters_of(workflow) == {
        "window": "7",
        "size": "2",
        "region": "eu",
        "nested": '{"phase":0.5}',
        "tier": "prod",
        "limits": '{"cpu":2}',
    }
    metadata = workflow["metadata"]
    firing = metadata["labels"]["headrace.dev/firing"]
    assert metadata["labels"] == {"headrace.dev/trigger": "model-refresh", "headrace.dev/firing": firing}
    assert metadata["annotations"]["headrace.dev/firing"] == firing
    assert metadata["annotations"]["headrace.dev/trigger"] == tenant.full("model-refresh")
    name, _, identity = metadata["name"].rpartition("-")
    assert template.startswith(name) and firing.startswith(identity) and len(identity) >= 16
    assert len(metadata["name"]) <= NAME_CHARACTERS_MAX
    used = json.loads(metadata["annotations"]["headrace.dev/events"])
    assert [(event["id"], event["name"]) for event in used] == [(f"{left}:0:0", left), ("moon-1", right)]
    assert instant_ms(used[0]["time"]) == instant_ms(at.decode())
    (row,) = tenant.runs("model-refresh")
    assert (row["run"], row["firing"]) == (f"{tenant.namespace}/{metadata['name']}", firing)
    assert row["key"] == '"eu"' and row["parameters"] == parameters_of(workflow)


def test_a_workflow_of_that_name_made_by_somebody_else_is_no_success(tenant: Tenant) -> None:
    tenant.template("flow", {"n": None})
    event = tenant.event("n")
    tenant.deploy(tenant.trigger("n", [event], "flow"))
    tenant.produce([Bare(event, b'{"n": 1}')])
    (first,) = tenant.wait_for_workflows(1)
    characters = len(first["metadata"]["name"]) - len("flow-")

    # A firing that is held tells its id, and so the name that it will want.
    tenant.deploy(tenant.trigger("n", [event], "flow", paused=True))
    tenant.produce([Bare(event, b'{"n": 2}')])
    tenant.settle(event)
    (held,) = [row for row in tenant.runs("n") if row["state"] == "queued"]
    name = f"flow-{held['firing'][:characters]}"
    foreign = {
        "apiVersion": f"{ARGO_GROUP}/{ARGO_VERSION}",
        "kind": "Workflow",
        "metadata": {"name": name, "annotations": {"headrace.dev/firing": "another"}},
        "spec": {},
    }
    api = CustomObjectsApi(tenant.kube.admin)
    api.create_namespaced_custom_object(ARGO_GROUP, ARGO_VERSION, tenant.namespace, "workflows", foreign)
    tenant.deploy(tenant.trigger("n", [event], "flow", paused=False))
    tenant.wait_for_state("n", "refused")
    (letter,) = tenant.dead_letters()
    assert letter["reason"] == "name-taken" and name in letter["message"] and "firing another" in letter["message"]
    states = [(row["firing"], row["state"]) for row in tenant.runs("n")]
    assert (held["firing"], "refused") in states
    (kept,) = [workflow for workflow in tenant.workflows() if workflow["metadata"]["name"] == name]
    assert kept["spec"] == {}


def test_an_event_that_comes_again_after_its_workflow_was_deleted_runs_no_second_time(tenant: Tenant) -> None:
    tenant.template("flow", {"n": None})
    event = tenant.event("n")
    tenant.deploy(tenant.trigger("n", [event], "flow"))
    again = Bare(event, b'{"n": 1}', [("ce_id", b"the-same")])
    tenant.produce([again])
    tenant.wait_for_state("n", "started")
    (workflow,) = tenant.workflows()
    # As Argo does with workflows that have ended, some time later.
    CustomObjectsApi(tenant.kube.admin).delete_namespaced_custom_object(
        ARGO_GROUP, ARGO_VERSION, tenant.namespace, "workflows", workflow["metadata"]["name"]
    )
    with watch_workflow_uids(tenant.kube, tenant.namespace) as watch:
        tenant.produce([again])
        tenant.settle(event)
        # A submitter that starts anew has to read what it must not repeat.
        assert tenant.engine.terminate("submit") == 0
        tenant.engine.start_and_wait("submit")
        tenant.produce([again, Bare(event, b'{"n": 2}')])
        seen = watch.wait_for(1, DEADLINE_S)
        tenant.settle(event)
        assert [parameters_of(w) for w in seen.values()] == [{"n": "2"}]
        assert len(watch.seen) == 1


def test_while_the_api_server_is_away_runs_wait_and_are_created_once_it_is_back(tenant: Tenant, wire: TcpProxy) -> None:
    tenant.template("flow", {"n": None})
    event = tenant.event("n")
    tenant.deploy(tenant.trigger("n", [event], "flow"))
    with watch_workflow_uids(tenant.kube, tenant.namespace) as watch:
        wire.cut()
        tenant.produce(Bare(event, json.dumps({"n": n}).encode()) for n in range(3))
        # Waiting firings release their offsets, so the engine settles though nothing could be created.
        tenant.settle(event)
        assert [row["state"] for row in tenant.runs("n")] == ["queued"] * 3
        assert watch.seen == {}
        # One that is being tried again is not counted for that moment.
        queued = "headrace_runs_queued"
        tenant.engine.wait_until(lambda: tenant.engine.metrics("submit")[queued] == 3, "three queued runs")
        # What waits is in Kafka and survives its submitter.
        tenant.engine.kill("submit")
        wire.mend()
        seen = watch.wait_for(3, DEADLINE_S)
        tenant.wait_for_state("n", "started", count=3)
        assert sorted(parameters_of(workflow)["n"] for workflow in seen.values()) == ["0", "1", "2"]
        tenant.settle(event)
        assert len(watch.seen) == 3
    states = [state for _, _, state in tenant.run_records()]
    assert sorted(states) == ["queued"] * 3 + ["started"] * 3
    assert tenant.dead_letters() == []


def test_a_creation_whose_answer_never_came_is_recognised_and_not_repeated(tenant: Tenant, wire: TcpProxy) -> None:
    engine = tenant.engine
    tenant.template("flow", {"n": None})
    event = tenant.event("n")
    tenant.deploy(tenant.trigger("n", [event], "flow"))
    tenant.produce([Bare(event, b'{"n": 1}')])
    tenant.settle(event)
    ticks = "headrace_ticks_total"
    with watch_workflow_uids(tenant.kube, tenant.namespace) as watch:
        wire.lose_answers()
        tenant.produce([Bare(event, b'{"n": 2}')])
        watch.wait_for(2, DEADLINE_S)
        # Time enough for committing the firing, if anybody did that before its run is recorded.
        struck = engine.metrics("route")[ticks]
        engine.wait_until(lambda: engine.metrics("route")[ticks] >= struck + 3, "three ticks")
        assert [row["state"] for row in tenant.runs("n")] == ["started"]
        engine.kill("submit")
        wire.cut()
        wire.mend()
        tenant.wait_for_state("n", "started", count=2)
        assert len(watch.seen) == 2
    assert engine.metrics("submit")['headrace_submissions_total{outcome="existed"}'] == 1
    assert [state for _, _, state in tenant.run_records()].count("started") == 2
    assert tenant.dead_letters() == []
