"""Flows that the real Metaflow deploys: their Sensors become triggers, and events start their Workflows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.kafka import KafkaServer
from tests.support.kube import KubeServer, apply_yaml
from tests.support.kube_objects import request_json, token_for
from tests.support.metaflow_cluster import ObjectStore
from tests.support.metaflow_team import Team
from tests.support.tenant import Bare, Tenant, parameters_of
from tests.system.engine_fixtures import new_engine

STATUS = "headrace.dev/status"
DEPLOY = Path(__file__).parents[2] / "deploy"


def test_a_bare_event_starts_a_flow_that_waits_for_it(team: Team) -> None:
    tenant = team.tenant
    said = team.create("fresh_data_flow.py")
    assert "What will trigger execution of the workflow" in said
    record = team.wait_for_trigger("freshdataflow")
    assert [event["name"] for event in record["spec"]["events"]] == [tenant.event("data_updated")]
    tenant.produce([Bare(tenant.event("data_updated"), b'{"rows": 9007199254740993}')])
    (workflow,) = tenant.wait_for_workflows(1)
    assert workflow["spec"]["workflowTemplateRef"] == {"name": "freshdataflow"}
    assert workflow["metadata"]["labels"]["headrace.dev/trigger"] == "freshdataflow"
    (payload,) = [value for value in parameters_of(workflow).values() if "rows" in value]
    assert "9007199254740993" in payload
    assert team.sensor("freshdataflow")["metadata"]["annotations"][STATUS] == "deployed"


def test_two_events_fill_their_parameters(team: Team) -> None:
    tenant = team.tenant
    team.create("two_events_flow.py")
    team.wait_for_trigger("twoeventsflow")
    tenant.produce(
        [
            Bare(tenant.event("one_event"), b'{"how_many_days": 7}'),
            Bare(tenant.event("another_event"), b'{"timestamp": "2026-05-01"}'),
        ]
    )
    (workflow,) = tenant.wait_for_workflows(1)
    parameters = parameters_of(workflow)
    assert (json.loads(parameters["window"]), json.loads(parameters["latest"])) == (7, "2026-05-01")


def arguments(workflow: dict[str, Any]) -> dict[str, Any]:
    """The Workflow's parameters as the flow's code sees them."""
    return {name: json.loads(value) for name, value in parameters_of(workflow).items() if name in ("latest", "window")}


def test_fields_fill_parameters_of_their_names_and_others_keep_their_defaults(team: Team) -> None:
    tenant = team.tenant
    team.create("model_refresh_flow.py")
    team.wait_for_trigger("modelrefreshflow")
    event = tenant.event("data_updated")
    for value in (b'{"latest": "2026-05-01", "window": 7}', b'{"window": 5, "more": [1]}', b"{}"):
        tenant.produce([Bare(event, value)])
    seen = [arguments(workflow) for workflow in tenant.wait_for_workflows(3)]
    assert sorted(seen, key=str) == [
        {"latest": "2023-05-01", "window": 3},
        {"latest": "2023-05-01", "window": 5},
        {"latest": "2026-05-01", "window": 7},
    ]


def test_two_flows_may_wait_for_one_event(team: Team) -> None:
    tenant = team.tenant
    team.create("fresh_data_flow.py")
    team.create("model_refresh_flow.py")
    team.wait_for_trigger("freshdataflow")
    team.wait_for_trigger("modelrefreshflow")
    tenant.produce([Bare(tenant.event("data_updated"), b"{}")])
    started = [workflow["spec"]["workflowTemplateRef"]["name"] for workflow in tenant.wait_for_workflows(2)]
    assert sorted(started) == ["freshdataflow", "modelrefreshflow"]


def test_a_flow_that_is_deleted_is_triggered_no_more(team: Team) -> None:
    team.create("fresh_data_flow.py")
    team.wait_for_trigger("freshdataflow")
    team.delete("fresh_data_flow.py")
    team.tenant.engine.wait_until(lambda: team.triggers() == {}, "the trigger's deletion")


def test_what_changed_while_nobody_watched_is_made_up_for(team: Team) -> None:
    team.create("fresh_data_flow.py")
    team.create("two_events_flow.py")
    creation = team.wait_for_trigger("freshdataflow")["creation"]
    team.wait_for_trigger("twoeventsflow")
    team.tenant.engine.kill("sync")
    team.delete("two_events_flow.py")
    team.delete("fresh_data_flow.py")
    team.create("fresh_data_flow.py")
    team.tenant.engine.start_and_wait("sync")
    team.tenant.engine.wait_until(
        lambda: set(team.triggers()) == {"freshdataflow"} and team.triggers()["freshdataflow"]["creation"] != creation,
        "the triggers of the Sensors that are there",
    )


def test_an_annotation_sets_the_window(team: Team) -> None:
    team.create("two_events_flow.py")
    team.wait_for_trigger("twoeventsflow")
    path = f"/apis/argoproj.io/v1alpha1/namespaces/{team.tenant.namespace}/sensors/twoeventsflow"
    change = {"metadata": {"annotations": {"headrace.dev/window": "6h"}}}
    request_json(team.tenant.kube, "PATCH", path, change, content_type="application/merge-patch+json")
    assert team.wait_for_trigger("twoeventsflow", generation=2)["spec"]["window"] == "6h"


def test_a_tag_of_the_flow_sets_the_window(team: Team) -> None:
    team.create("two_events_flow.py", "--tag", "headrace.dev/window:6h", "--tag", "headrace.dev/match:each")
    team.tenant.engine.wait_until(
        lambda: team.triggers().get("twoeventsflow", {}).get("spec", {}).get("window") == "6h", "the window"
    )
    assert team.triggers()["twoeventsflow"]["spec"]["match"] == "each"


def test_a_sensor_that_cannot_be_a_trigger_says_why(team: Team) -> None:
    tenant = team.tenant
    sensor = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Sensor",
        "metadata": {
            "name": "odd",
            "namespace": tenant.namespace,
            "labels": {"app.kubernetes.io/name": "metaflow-sensor"},
        },
        "spec": {"dependencies": [], "triggers": [{"template": {"name": "odd", "http": {"url": "any"}}}]},
    }
    apply_yaml(tenant.kube, json.dumps(sensor))
    tenant.engine.wait_until(lambda: "odd" in team.triggers(), "the refusal")
    assert "refused" in team.triggers()["odd"]
    assert "odd" in tenant.engine.here("triggers").expect(0).stdout
    tenant.engine.wait_until(
        lambda: team.sensor("odd")["metadata"].get("annotations", {}).get(STATUS, "").startswith("refused: "),
        "the reason on the Sensor",
    )


def test_a_sensors_trigger_is_changed_through_the_sensor_only(team: Team) -> None:
    tenant = team.tenant
    team.create("fresh_data_flow.py")
    team.wait_for_trigger("freshdataflow")
    name = tenant.full("freshdataflow")
    assert "delete the Sensor" in tenant.engine.here("delete", name).refusal()
    written = tenant.trigger("freshdataflow", [tenant.event("other")], "any")
    assert "Sensor" in tenant.engine.here("deploy", "-", stdin=written).refusal()


def test_the_rights_of_the_deployment_suffice(
    kafka: KafkaServer, kube: KubeServer, store: ObjectStore, tmp_path: Path
) -> None:
    own = new_engine(kafka, kube, tmp_path / "engine")
    try:
        own.start_and_wait("route")
        tenant = Tenant(own, kube, {"bootstrap.servers": own.bootstrap_servers})
        text = (DEPLOY / "sync.yaml").read_text().replace("namespace: ml", f"namespace: {tenant.namespace}")
        apply_yaml(kube, (DEPLOY / "sensor-crd.yaml").read_text())
        apply_yaml(kube, text.replace("namespace: headrace", f"namespace: {tenant.namespace}"))
        token = token_for(kube, tenant.namespace, "headrace-sync")
        own.start_and_wait("sync", KUBECONFIG=str(kube.kubeconfig_for(token)), HEADRACE_NAMESPACES=tenant.namespace)
        team = Team(tenant, store, tmp_path)
        team.create("fresh_data_flow.py")
        own.wait_until(lambda: "freshdataflow" in team.triggers(), "the trigger")
        own.wait_until(
            lambda: team.sensor("freshdataflow")["metadata"]["annotations"].get(STATUS) == "deployed", "the status"
        )
        own.stop()
    finally:
        own.abandon()
