"""The Workflow of a firing, and what the API server's answers mean."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.model import bounds
from headrace.model.dead_letter import Reason
from headrace.stages.bind import Refusal
from headrace.stages.workflow import (
    Answer,
    Workflow,
    classify,
    firing_of_workflow,
    label_value,
    retry_delay_s,
    workflow,
    workflow_name,
)
from tests.unit.stages.build import make_event, make_firing

DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
kubernetes_names = st.lists(labels, min_size=1, max_size=4).map(".".join).filter(lambda name: len(name) <= 253)
firing_ids = st.text(alphabet="0123456789abcdef", min_size=32, max_size=32)


def built(parameters: dict[str, str] | None = None, **fields: Any) -> tuple[Workflow, dict[str, Any]]:
    """Build a Workflow; return it and its parsed body."""
    result = workflow(make_firing("{}", "{}", **fields), parameters or {})
    assert isinstance(result, Workflow), result
    return result, json.loads(result.body)


def test_a_workflow_holds_reference_arguments_labels_and_annotations_only() -> None:
    made, body = built({"x": "1", "y": "ü"})
    firing = make_firing("{}", "{}")
    assert (body["apiVersion"], body["kind"]) == ("argoproj.io/v1alpha1", "Workflow")
    assert body["spec"] == {
        "workflowTemplateRef": {"name": "model-refresh"},
        "arguments": {"parameters": [{"name": "x", "value": "1"}, {"name": "y", "value": "ü"}]},
    }
    metadata = body["metadata"]
    assert set(metadata) == {"name", "namespace", "labels", "annotations"}
    assert (metadata["name"], metadata["namespace"]) == (made.name, made.namespace)
    assert made.namespace == "ml"
    assert metadata["labels"] == {"headrace.dev/trigger": "model-refresh", "headrace.dev/firing": firing.id}
    assert json.loads(metadata["annotations"]["headrace.dev/events"]) == [
        {"id": "id-a", "name": "a", "time": "1970-01-01T00:00:00.000Z"},
        {"id": "id-b", "name": "b", "time": "1970-01-01T00:00:01.000Z"},
    ]


def test_a_cluster_template_is_referenced_as_such() -> None:
    _, body = built(run_kind="clusterWorkflowTemplate", run_target="shared")
    assert body["spec"]["workflowTemplateRef"] == {"name": "shared", "clusterScope": True}


def test_a_workflow_says_which_firing_made_it() -> None:
    made, _ = built()
    assert firing_of_workflow(made.body) == make_firing("{}", "{}").id
    assert firing_of_workflow(b'{"metadata": {"name": "x"}}') is None
    assert firing_of_workflow(b'{"metadata": {"annotations": null}}') is None
    assert firing_of_workflow(b"{}") is None


def test_an_event_id_cannot_smuggle_a_template_into_the_annotations() -> None:
    made, body = built(ids=["{{workflow.name}}", "{{{=1}}"])
    assert b"{{" not in made.body
    events = json.loads(body["metadata"]["annotations"]["headrace.dev/events"])
    assert [event["id"] for event in events] == ["{{workflow.name}}", "{{{=1}}"]


@given(kubernetes_names, firing_ids)
@example("t" * 253, "0" * 32)
@example("t" * 41 + ".-t", "0" * 32)
def test_a_name_is_legal_fixed_and_no_longer_than_63(template: str, firing_id: str) -> None:
    name = workflow_name(template, firing_id)
    assert len(name) <= 63
    assert DNS_NAME.fullmatch(name)
    assert name == workflow_name(template, firing_id)
    assert template.startswith(name.rpartition("-")[0])


@given(st.lists(firing_ids, min_size=2, max_size=2, unique_by=lambda firing_id: firing_id[:16]))
def test_different_firings_have_different_names(ids: list[str]) -> None:
    for template in ("t", "t" * 100):
        assert workflow_name(template, ids[0]) != workflow_name(template, ids[1])


@given(kubernetes_names)
def test_a_label_value_is_legal_and_short_names_stay(name: str) -> None:
    value = label_value(name)
    assert len(value) <= 63
    assert LABEL_VALUE.fullmatch(value)
    if len(name) <= 63:
        assert value == name


def test_long_names_that_differ_have_labels_that_differ() -> None:
    assert label_value("n" * 70 + "a") != label_value("n" * 70 + "b")


def test_a_body_may_be_as_large_as_its_bound_and_no_larger() -> None:
    firing = make_firing("{}")
    empty = workflow(firing, {"x": ""})
    assert isinstance(empty, Workflow)
    room = bounds.WORKFLOW_BYTES_MAX - len(empty.body)
    assert isinstance(workflow(firing, {"x": "y" * room}), Workflow)
    refusal = workflow(firing, {"x": "y" * (room + 1)})
    assert isinstance(refusal, Refusal)
    assert refusal.reason == Reason.WORKFLOW_TOO_LARGE
    assert str(bounds.WORKFLOW_BYTES_MAX) in refusal.message


@pytest.mark.parametrize(
    ("status", "reason", "answer"),
    [
        (200, "", Answer.CREATED),
        (201, "", Answer.CREATED),
        (202, "", Answer.CREATED),
        (409, "AlreadyExists", Answer.EXISTS),
        (409, "Conflict", Answer.RETRY),
        (401, "Unauthorized", Answer.RETRY),
        (403, "Forbidden", Answer.RETRY),
        (408, "Timeout", Answer.RETRY),
        (429, "TooManyRequests", Answer.RETRY),
        (500, "InternalError", Answer.RETRY),
        (503, "ServiceUnavailable", Answer.RETRY),
        (504, "Timeout", Answer.RETRY),
        (400, "BadRequest", Answer.REFUSED),
        (404, "NotFound", Answer.REFUSED),
        (413, "RequestEntityTooLarge", Answer.REFUSED),
        (422, "Invalid", Answer.REFUSED),
    ],
)
def test_answers_are_classified(status: int, reason: str, answer: Answer) -> None:
    body = json.dumps({"kind": "Status", "reason": reason, "message": "in its own words"}).encode()
    outcome, message = classify(status, body)
    assert outcome is answer
    if answer is not Answer.CREATED:
        assert "in its own words" in message


@given(st.integers(100, 599), st.one_of(st.binary(max_size=50), st.sampled_from([b"[]", b"null", b'"x"', b"5", b"{}"])))
def test_any_answer_is_classified(status: int, body: bytes) -> None:
    outcome, _ = classify(status, body)
    assert (outcome is Answer.CREATED) == (200 <= status < 300)
    assert outcome is not Answer.EXISTS
    if status >= 500:
        assert outcome is Answer.RETRY


@given(st.integers(1, 1_000_000), st.floats(0, 1, exclude_max=True))
def test_retries_wait_longer_up_to_a_bound(attempts: int, share: float) -> None:
    assert 0 < retry_delay_s(attempts, share) <= 60
    assert retry_delay_s(attempts + 1, share) >= retry_delay_s(attempts, share)
    assert retry_delay_s(attempts, 0.9) > retry_delay_s(attempts, 0.1)


def test_events_of_any_readable_time_can_be_annotated() -> None:
    firing = make_firing("{}")
    old = make_event("old", "a", -62_135_596_800_000)
    made = workflow(type(firing)(firing.id, firing.definition, "", (old,)), {})
    assert isinstance(made, Workflow)
    assert b"0001-01-01T00:00:00.000Z" in made.body
