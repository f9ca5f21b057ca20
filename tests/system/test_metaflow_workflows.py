"""The Workflows of Metaflow's flows, held against what Argo Events would create from the same Sensor and events."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from headrace_publisher import Publisher
from tests.support.metaflow_team import Team
from tests.support.tenant import Bare, parameters_of

Workflow = dict[str, Any]
PAYLOAD = {"latest": "2026-05-01", "window": 7, "more": {"ü": [1, None, True]}}


def assert_is_argo_events(workflow: Workflow, sensor: Mapping[str, Any], mapped: Mapping[str, str]) -> dict[str, Any]:
    """Assert that a Workflow is the Sensor's, with these parameters changed; return the payloads it carries besides."""
    (trigger,) = sensor["spec"]["triggers"]
    template = trigger["template"]
    expected = copy.deepcopy(template["k8s"]["source"]["resource"])
    found = copy.deepcopy(workflow)
    payloads = {}
    for parameter in expected["spec"]["arguments"]["parameters"]:
        name = parameter["name"]
        if name in {dependency["name"] for dependency in sensor["spec"]["dependencies"]}:
            payloads[name] = json.loads(parameters_of(workflow)[name])
            parameter["value"] = parameters_of(workflow)[name]
        parameter["value"] = mapped.get(name, parameter["value"])
        assert parameters_of(workflow)[name] == parameter["value"], name
    assert found["spec"] == expected["spec"]
    assert (found["apiVersion"], found["kind"]) == (expected["apiVersion"], expected["kind"])
    assert found["metadata"]["namespace"] == expected["metadata"]["namespace"]
    assert found["metadata"]["name"].startswith(expected["metadata"]["generateName"])
    labels, annotations = (
        {name: value for name, value in found["metadata"][kind].items() if not name.startswith("headrace.dev/")}
        for kind in ("labels", "annotations")
    )
    assert labels.pop("events.argoproj.io/action-timestamp").isdigit()
    ours = {"events.argoproj.io/sensor": sensor["metadata"]["name"], "events.argoproj.io/trigger": template["name"]}
    assert labels == {**expected["metadata"].get("labels", {}), **ours}
    assert annotations == expected["metadata"]["annotations"]
    return payloads


def by_topic(team: Team, event: str) -> str:
    team.tenant.produce([Bare(event, json.dumps(PAYLOAD).encode())])
    return f"{event}:0:0"


def by_publisher(team: Team, event: str) -> str:
    with Publisher(bootstrap_servers=team.tenant.engine.bootstrap_servers) as publisher:
        return publisher.publish(event, PAYLOAD)


def by_http(team: Team, event: str) -> str:
    return team.publish(event, payload=PAYLOAD, ignore_errors=False)


def by_extension(team: Team, event: str) -> str:
    kafka = {"HEADRACE_BOOTSTRAP_SERVERS": team.tenant.engine.bootstrap_servers}
    # Nobody listens there: it is Kafka or nothing.
    nowhere = {"METAFLOW_ARGO_EVENTS_WEBHOOK_URL": "http://127.0.0.1:1/"}
    return team.publish(event, environment={**kafka, **nowhere}, payload=PAYLOAD, ignore_errors=False)


@pytest.mark.parametrize("publish", [by_topic, by_publisher, by_http, by_extension])
def test_all_ways_in_make_the_workflow_of_argo_events(team: Team, publish: Callable[[Team, str], str]) -> None:
    team.deploy("model_refresh_flow.py")
    event = team.tenant.event("data_updated")
    sent = publish(team, event)
    (workflow,) = team.tenant.wait_for_workflows(1)
    payloads = assert_is_argo_events(
        workflow, team.sensor("modelrefreshflow"), {"latest": '"2026-05-01"', "window": "7"}
    )
    (payload,) = payloads.values()
    assert (payload["name"], payload["id"]) == (event, sent)
    assert isinstance(payload["timestamp"], int)
    assert {name: payload[name] for name in PAYLOAD} == PAYLOAD


def test_without_a_payload_parameters_keep_their_defaults(team: Team) -> None:
    team.deploy("model_refresh_flow.py")
    sent = team.publish(team.tenant.event("data_updated"), ignore_errors=False)
    (workflow,) = team.tenant.wait_for_workflows(1)
    (payload,) = assert_is_argo_events(workflow, team.sensor("modelrefreshflow"), {}).values()
    assert payload["id"] == sent


def test_a_mapping_takes_each_type_and_switches_passing_by_name_off(team: Team) -> None:
    tenant = team.tenant
    team.deploy("mapped_flow.py")
    sent = {
        "place": 'Zürich "{{x}}" <&>\u2028',
        "count": 9007199254740993,
        "of": 1e-7,
        "dry": None,
        "settings": {"b": [True, {"c": "{{=1+1}}"}]},
        "unmapped": "not passed",
    }
    tenant.produce([Bare(tenant.event("measured"), json.dumps(sent).encode())])
    (workflow,) = tenant.wait_for_workflows(1)
    expected = {
        # Go writes this separator so, always.
        "region": '"Zürich \\"\\u007b\\u007bx}}\\" <&>\\u2028"',
        "count": "9007199254740993",
        "ratio": "1e-7",
        "dry": "null",
        # A parameter of this type is JSON within a JSON string.
        "settings": '"{\\"b\\":[true,{\\"c\\":\\"\\u007b\\u007b=1+1}}\\"}]}"',
    }
    assert_is_argo_events(workflow, team.sensor("mappedflow"), expected)


def test_without_a_required_field_there_is_no_run_and_a_reason(team: Team) -> None:
    tenant = team.tenant
    team.deploy("mapped_flow.py")
    tenant.produce([Bare(tenant.event("measured"), b'{"count": 2}'), Bare(tenant.event("measured"), b'{"place": "x"}')])
    (workflow,) = tenant.wait_for_workflows(1)
    assert_is_argo_events(workflow, team.sensor("mappedflow"), {"region": '"x"'})
    tenant.engine.wait_until(
        lambda: [row["reason"] for row in tenant.dead_letters()] == ["missing-field"], "the reason"
    )


@pytest.mark.parametrize("by", ["http", "kafka"])
def test_safe_publish_publishes_in_deployed_flows_only(team: Team, by: str) -> None:
    team.deploy("model_refresh_flow.py")
    event = team.tenant.event("data_updated")
    kafka = {"HEADRACE_BOOTSTRAP_SERVERS": team.tenant.engine.bootstrap_servers} if by == "kafka" else {}
    assert team.publish(event, "safe_publish", kafka) == "None"
    sent = team.publish(event, "safe_publish", {**kafka, "ARGO_WORKFLOW_TEMPLATE": "any"})
    (workflow,) = team.tenant.wait_for_workflows(1)
    (payload,) = assert_is_argo_events(workflow, team.sensor("modelrefreshflow"), {}).values()
    assert payload["id"] == sent


def test_a_changed_flow_waits_for_what_it_names_now(team: Team) -> None:
    tenant = team.tenant
    team.deploy("model_refresh_flow.py")
    team.create("model_refresh_flow.py", EVENT_WORD="data_moved")
    record = team.wait_for_trigger("modelrefreshflow", generation=2)
    assert list(record["starts"]) == [tenant.event("data_moved")]
    # In this order: were the first still awaited, it would start a Workflow before the second.
    tenant.produce([Bare(tenant.event("data_updated"), b"{}")])
    tenant.produce([Bare(tenant.event("data_moved"), b'{"window": 9}')])
    (workflow,) = tenant.wait_for_workflows(1)
    assert_is_argo_events(workflow, team.sensor("modelrefreshflow"), {"window": "9"})


def test_an_event_that_waits_outlives_a_new_deployment(team: Team) -> None:
    tenant = team.tenant
    team.deploy("two_events_flow.py")
    tenant.produce([Bare(tenant.event("another_event"), b'{"timestamp": "2026-05-01"}')])
    team.create("two_events_flow.py", WINDOW_DEFAULT="5")
    team.wait_for_trigger("twoeventsflow", generation=2)
    tenant.produce([Bare(tenant.event("one_event"), b"{}")])
    (workflow,) = tenant.wait_for_workflows(1)
    assert_is_argo_events(workflow, team.sensor("twoeventsflow"), {"latest": '"2026-05-01"'})
    assert parameters_of(workflow)["window"] == "5"
