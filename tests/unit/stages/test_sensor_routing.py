"""Which events count for a Sensor's trigger, and what it makes of the events that join."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from headrace.model.dead_letter import Reason
from headrace.model.firing import firing_of
from headrace.stages.bind import Refusal
from headrace.stages.route import Routed, Routes
from headrace.stages.workflow import Workflow, workflow
from tests.unit.stages.build import make_event, read_event
from tests.unit.stages.sensor_files import parameters_of, sensor, trigger_of

FINISHED = {"auto-generated-by-metaflow": "True", "project_name": "warehouse", "branch_name": "user.tester"}
UPSTREAM = "metaflow.warehouse.user.tester.UpstreamFlow.end"


def routed(made: dict[str, Any], topic: str, payload: dict[str, Any], **fields: Any) -> Routed:
    """Route one bare event to a Sensor's trigger."""
    return Routes([trigger_of(made)]).route(read_event(orjson.dumps(payload), topic=topic, **fields))


@pytest.mark.parametrize("region", ["eu", "", None, 0, False, [], {}])
def test_a_required_field_counts_whatever_it_holds(region: Any) -> None:
    result = routed(sensor("one"), "data_updated", {"region": region})
    assert (len(result.firings), result.rejected, result.counts) == (1, [], {})


def test_without_a_required_field_there_is_no_run_and_a_reason() -> None:
    result = routed(sensor("one"), "data_updated", {"regions": "eu"})
    assert (result.firings, result.matches, result.counts) == ([], [], {"missing_field": 1})
    (rejected,) = result.rejected
    assert (rejected.trigger, rejected.reason) == ("events/oneflow", Reason.MISSING_FIELD)
    assert rejected.message == "the payload has no field region, which a required parameter needs"


def test_a_field_of_another_name_than_its_parameter_is_required() -> None:
    assert routed(sensor("mapped"), "some.event-v2", {"layout": 1}).counts == {"missing_field": 1}
    assert len(routed(sensor("mapped"), "some.event-v2", {"shape": None}).firings) == 1


@pytest.mark.parametrize(
    ("changes", "fires"),
    [
        ({}, True),
        ({"more": 1}, True),
        ({"project_name": "other"}, False),
        ({"branch_name": None}, False),
        ({"auto-generated-by-metaflow": True}, False),
    ],
)
def test_a_finished_flow_counts_for_its_project_and_branch_only(changes: dict[str, Any], fires: bool) -> None:
    result = routed(sensor("finish"), UPSTREAM, {**FINISHED, **changes})
    assert len(result.firings) == fires
    assert result.counts == ({} if fires else {"filtered": 1})


def test_a_finished_flow_without_a_branch_is_filtered() -> None:
    assert routed(sensor("finish"), UPSTREAM, {"project_name": "warehouse"}).counts == {"filtered": 1}


def key_at(time: str, made: dict[str, Any] | None = None, **payload: Any) -> str:
    """Return the key that an event of that time joins under."""
    result = routed(made or sensor("two"), "one_event", payload, ce_time=time, ce_specversion="1.0")
    (match,) = result.matches
    return match.key


def test_events_on_either_side_of_a_reset_have_different_keys() -> None:
    before, at, after = (key_at(f"2024-05-06T0{clock}Z") for clock in ("5:59:59", "6:00:00", "6:00:01"))
    assert (before, at) == ('{"since":"2024-05-03T06:00:00.000Z"}', '{"since":"2024-05-06T06:00:00.000Z"}')
    assert after == at == key_at("2024-05-07T05:59:59.999Z")


def test_a_key_joins_within_the_period_only() -> None:
    made = sensor("two")
    made["metadata"]["annotations"]["headrace.dev/key"] = "event.region"
    assert key_at("2024-05-06T06:00:00Z", made, region="eu") == '{"key":"eu","since":"2024-05-06T06:00:00.000Z"}'


def test_without_resets_the_key_is_as_anywhere() -> None:
    made = sensor("two")
    del made["spec"]["triggers"][0]["template"]["conditionsReset"]
    assert key_at("2024-05-06T06:00:00Z", made) == ""


def test_pending_events_are_kept_only_while_resets_and_required_fields_stay() -> None:
    def signature(made: dict[str, Any]) -> str:
        return trigger_of(made).definition.signature

    later, same, required = sensor("two"), sensor("two"), sensor("one")
    later["spec"]["triggers"][0]["template"]["conditionsReset"][0]["byTime"]["cron"] = "0 7 * * 1-5"
    same["spec"]["triggers"][0]["template"]["k8s"]["parameters"][0]["src"]["value"] = "4"
    required["spec"]["dependencies"][0]["filters"]["exprs"].pop()
    assert signature(same) == signature(sensor("two"))
    assert signature(later) != signature(sensor("two"))
    assert signature(required) != signature(sensor("one"))


def test_the_workflow_is_the_one_that_argo_events_would_create() -> None:
    made = sensor("one")
    resource = made["spec"]["triggers"][0]["template"]["k8s"]["source"]["resource"]
    resource["metadata"]["labels"] = {"team": "ml"}
    event = make_event("e", time_ms=1_700_000_000_123, payload='{"region":"eu"}')
    firing = firing_of(trigger_of(made).definition, "", (event,))
    parameters = parameters_of(made, event)
    body = json.loads(built(workflow(firing, parameters)).body)
    assert body == {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {
            "name": f"oneflow-{firing.id[:20]}",
            "namespace": "ml",
            "labels": {
                "team": "ml",
                "events.argoproj.io/sensor": "oneflow",
                "events.argoproj.io/trigger": "oneflow",
                "events.argoproj.io/action-timestamp": "1700000000123",
                "headrace.dev/trigger": "oneflow",
                "headrace.dev/firing": firing.id,
            },
            "annotations": {
                "metaflow/triggered_by": '[{"name": "data_updated", "type": "event"}]',
                "headrace.dev/trigger": "events/oneflow",
                "headrace.dev/firing": firing.id,
                "headrace.dev/events": '[{"id":"e","name":"data_updated","time":"2023-11-14T22:13:20.123Z"}]',
            },
        },
        "spec": {
            "workflowTemplateRef": {"name": "oneflow"},
            "arguments": {"parameters": [{"name": name, "value": value} for name, value in parameters.items()]},
        },
    }


def test_names_too_long_for_a_label_end_in_their_hash() -> None:
    made = sensor("finish")
    made["metadata"]["name"] = made["spec"]["triggers"][0]["template"]["name"] = "n" * 100
    event = make_event("e", UPSTREAM)
    body = json.loads(built(workflow(firing_of(trigger_of(made).definition, "", (event,)), {})).body)
    labels = body["metadata"]["labels"]
    assert len(labels["events.argoproj.io/sensor"]) == len(labels["events.argoproj.io/trigger"]) == 63


def built(result: Workflow | Refusal) -> Workflow:
    """Return a Workflow that must have been built."""
    assert isinstance(result, Workflow), result
    return result
