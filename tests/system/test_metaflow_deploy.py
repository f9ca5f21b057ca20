"""`headrace deploy flow.py` where Kubernetes is configured: the flow's own deployment becomes the trigger."""

from __future__ import annotations

from pathlib import Path

from tests.support.engine import Engine, Said
from tests.support.kube import KubeServer
from tests.support.metaflow_cluster import ObjectStore
from tests.support.metaflow_team import FLOWS, Team
from tests.support.tenant import Bare, Tenant


def deploy(team: Team, flow: str, **environment: str) -> Said:
    """Deploy in a process of its own: what a file declares is remembered, and these declare by the environment."""
    own = {**team.environment, **team.tenant.engine.environment, **environment}
    return team.tenant.engine.cli("deploy", str(FLOWS / flow), **own)


def test_without_sync_a_flow_file_registers_its_deployment(
    idle_engine: Engine, kube: KubeServer, store: ObjectStore, tmp_path: Path
) -> None:
    idle_engine.start_and_wait("route", "join", "submit")
    tenant = Tenant(idle_engine, kube, {"bootstrap.servers": idle_engine.bootstrap_servers})
    team = Team(tenant, store, tmp_path)
    assert "is not deployed in the namespace" in deploy(team, "model_refresh_flow.py").refusal()
    team.create("model_refresh_flow.py")
    said = deploy(team, "model_refresh_flow.py").expect(0)
    assert f"{tenant.namespace}/modelrefreshflow deployed (generation 1)" in said.stdout
    event = tenant.event("data_updated")
    assert f"starts workflowTemplate modelrefreshflow when the event {event} is published" in said.stdout
    tenant.produce([Bare(event, b'{"window": 9}')])
    (workflow,) = tenant.wait_for_workflows(1)
    assert workflow["metadata"]["labels"]["events.argoproj.io/sensor"] == "modelrefreshflow"
    # The file says something else by now than what is deployed.
    moved = deploy(team, "model_refresh_flow.py", EVENT_WORD="data_moved").refusal()
    assert f"is deployed for {event}, but its file waits for {tenant.event('data_moved')}" in moved


def test_beside_sync_it_is_the_same_trigger(team: Team) -> None:
    tenant = team.tenant
    team.deploy("observed_flow.py")
    assert "(generation 2)" in deploy(team, "observed_flow.py").expect(0).stdout
    tenant.produce([Bare(tenant.event(word), b'{"day": "2026-05-01"}') for word in ("one_event", "another_event")])
    tenant.wait_for_workflows(1)
    team.create("observed_flow.py", METAFLOW_USER="somebody", USER="somebody")
    team.delete("observed_flow.py")
    refused = deploy(team, "observed_flow.py").refusal()
    assert "in the branch user.tester of shop" in refused and "(it is in user.somebody)" in refused
    assert len(tenant.workflows()) == 1


def test_a_trigger_by_hand_of_the_same_name_stays(team: Team) -> None:
    tenant = team.tenant
    tenant.template("any", {})
    tenant.deploy(tenant.trigger("modelrefreshflow", [tenant.event("other")], "any"))
    team.create("model_refresh_flow.py")
    assert "was deployed by hand" in deploy(team, "model_refresh_flow.py").refusal()
