"""What a person may write as a trigger, and what is refused by name."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headrace.model import bounds
from headrace.model.errors import TriggerError
from headrace.model.frame import Frame, Match, decode, encode_frame
from headrace.model.trigger import TriggerFile, TriggerRecord, TriggerSpec
from headrace.stages.route import compile_trigger
from tests.unit.stages.build import make_event, make_record

RUN = {"workflowTemplate": "model-refresh"}
FILE: dict[str, Any] = {
    "apiVersion": "headrace.dev/v1",
    "kind": "Trigger",
    "metadata": {"name": "model-refresh", "namespace": "ml"},
    "spec": {"events": ["data_updated"], "run": RUN},
}


def spec(**fields: Any) -> TriggerSpec:
    return TriggerSpec.model_validate({"events": ["a"], "run": RUN, **fields})


def refusal(**fields: Any) -> str:
    """Return the message with which a spec is refused."""
    with pytest.raises(ValidationError) as refused:
        spec(**fields)
    return str(refused.value)


def test_defaults() -> None:
    made = spec()
    assert (made.window, made.match, made.require, made.paused, made.max_age) == (None, "latest", "all", False, None)
    (dependency,) = made.events
    assert (dependency.name, dependency.filter, dependency.key, dependency.parameters) == ("a", None, None, None)
    assert (made.run.kind, made.run.target, made.run.parameters) == ("workflowTemplate", "model-refresh", {})


def test_the_designs_example_is_read_but_for_what_comes_later() -> None:
    made = spec(
        events=[
            {
                "name": "data_updated",
                "filter": "event.rows > 1000",
                "key": "event.region",
                "parameters": {"window": "how_many_days"},
            },
            {"name": "phase_of_the_moon", "key": "event.region"},
        ],
        window="1h",
        match="latest",
        require="all",
        run={"workflowTemplate": "model-refresh", "parameters": {"tier": "prod"}},
        paused=False,
    )
    assert made.dependency_names() == ["data_updated", "phase_of_the_moon"]


def test_a_file_is_read() -> None:
    made = TriggerFile.model_validate(FILE)
    assert (made.metadata.name, made.metadata.namespace) == ("model-refresh", "ml")


@pytest.mark.parametrize(
    "change",
    [
        {"apiVersion": "headrace.dev/v2"},
        {"kind": "Sensor"},
        {"status": {}},
        {"metadata": {}},
        {"metadata": {"name": ""}},
        {"metadata": {"name": "a", "labels": {}}},
        {"spec": {"events": ["a"]}},
        {"spec": {"run": RUN}},
    ],
)
def test_a_file_that_is_no_trigger_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TriggerFile.model_validate({**FILE, **change})


@pytest.mark.parametrize(
    ("fields", "unknown"),
    [
        ({"windw": "1h"}, "windw"),
        ({"events": [{"name": "a", "filtr": "true"}]}, "filtr"),
        ({"run": {**RUN, "template": "x"}}, "template"),
    ],
)
def test_unknown_fields_are_refused_by_name(fields: dict[str, Any], unknown: str) -> None:
    assert unknown in refusal(**fields)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"deadline": {"after": "30m", "then": "fire"}}, "deadline"),
        ({"limits": {"rate": "10/s"}}, "limits"),
        ({"match": "collect"}, "collect"),
        ({"require": "any"}, "require"),
        ({"require": {"atLeast": 2}}, "require"),
        ({"require": "sequence"}, "require"),
    ],
)
def test_later_features_are_refused_by_name(fields: dict[str, Any], named: str) -> None:
    message = refusal(**fields)
    assert named in message
    assert "not supported by this version" in message


@pytest.mark.parametrize(
    "fields",
    [
        {"events": []},
        {"events": ["a"] * (bounds.DEPENDENCIES_PER_TRIGGER_MAX + 1)},
        {"events": "a"},
        {"events": ["a b"]},
        {"events": [{"filter": "true"}]},
        {"events": [{"name": "a", "filter": ""}]},
        {"events": [{"name": "a", "key": ""}]},
        {"events": [{"name": "a", "parameters": {"x": 5}}]},
        {"window": "soon"},
        {"window": 60},
        {"maxAge": "-1h"},
        {"match": "first"},
        {"run": {}},
        {"run": {"workflowTemplate": "a", "flow": "b.py"}},
        {"run": {"workflowTemplate": ""}},
        {"paused": "perhaps"},
    ],
)
def test_bad_values_are_refused(fields: dict[str, Any]) -> None:
    refusal(**fields)


@pytest.mark.parametrize("kind", ["workflowTemplate", "clusterWorkflowTemplate", "flow"])
def test_there_are_three_targets(kind: str) -> None:
    made = spec(run={kind: "x"}).run
    assert (made.kind, made.target) == (kind, "x")


def test_a_repeated_event_gets_numbered_dependencies() -> None:
    assert spec(events=["a", "b", "a", "a"]).dependency_names() == ["a", "b", "a#2", "a#3"]


int64s = st.integers(-(2**63), 2**64 - 1)
constants = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.recursive(
        st.one_of(st.none(), st.booleans(), int64s, st.floats(allow_nan=False, allow_infinity=False), st.text()),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
        max_leaves=6,
    ),
    max_size=4,
)
specs = st.fixed_dictionaries(
    {
        "events": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["a", "b.c", "d_e"])},
                optional={
                    "filter": st.sampled_from(["event.x > 1", "true"]),
                    "key": st.just("event.k"),
                    "parameters": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
                },
            ),
            min_size=1,
            max_size=4,
        ),
        "run": st.fixed_dictionaries({"workflowTemplate": st.just("w")}, optional={"parameters": constants}),
    },
    optional={
        "window": st.sampled_from(["0s", "1h30m", "5ms"]),
        "match": st.sampled_from(["latest", "each"]),
        "maxAge": st.just("1d"),
        "paused": st.booleans(),
    },
)


@given(specs, st.dictionaries(st.sampled_from(["a", "b"]), st.dictionaries(st.just("0"), st.integers(0)), max_size=2))
def test_a_record_reads_back(fields: dict[str, Any], starts: dict[str, dict[str, int]]) -> None:
    record = make_record(fields, starts=starts, source="file.yaml")
    assert TriggerRecord.model_validate_json(record.encode()) == record


@pytest.mark.parametrize("value", [2**63, 2**64, 2**80, -(2**80), 1e22, 1.1, None, [None], {"a": 2**70}])
def test_a_constant_that_is_accepted_travels_unchanged(value: Any) -> None:
    """A trigger that can be deployed must not fail later, where its first match is written."""
    try:
        record = make_record({"events": ["a", "b"], "run": {**RUN, "parameters": {"x": value}}}, creation=uuid4().hex)
        trigger = compile_trigger(record, 1, 1)
    except (TriggerError, ValidationError):
        return
    match = Match(trigger.definition, make_event("e", "a"), (0,), "")
    assert decode(encode_frame([match])) == Frame((match,))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_constant_that_json_has_not_is_refused(value: float) -> None:
    refusal(run={**RUN, "parameters": {"x": value}})


@pytest.mark.parametrize("window", ["99999999999999999999d", "9" * 5_000 + "s"])
def test_a_window_beyond_all_bounds_is_refused_as_a_trigger(window: str) -> None:
    with pytest.raises((TriggerError, ValidationError)):
        compile_trigger(make_record({"events": ["a", "b"], "window": window}), 1, 1)
