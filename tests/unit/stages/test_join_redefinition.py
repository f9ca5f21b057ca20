"""A trigger that changes while events wait for each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headrace.model.definition import Definition
from headrace.model.frame import Frame, Match, Tick
from headrace.stages.join import Joined, JoinState
from tests.unit.stages.build import make_definition, make_event, make_record

OLD = make_definition(generation=1, signature="one", constants={"tier": "old"})
SAME = make_definition(generation=2, signature="one", constants={"tier": "new"})
CHANGED = make_definition(generation=2, signature="two", constants={"tier": "new"})


def arrive(state: JoinState, definition: Definition, name: str, time_ms: int) -> Joined:
    """Let one event of dependency `name` arrive, matched under `definition`."""
    event = make_event(f"{name}@{time_ms}", name, time_ms)
    index = definition.dependencies.index(name)
    return state.apply(state.offset + 1, Frame((Match(definition, event, (index,), ""),)))


def ids(joined: Joined) -> list[str]:
    return [" ".join(event.id for event in firing.events) for firing in joined.firings]


def test_a_changed_trigger_with_the_same_signature_keeps_what_waits() -> None:
    state = JoinState(0)
    arrive(state, OLD, "a", 1)
    joined = arrive(state, SAME, "b", 2)
    assert ids(joined) == ["a@1 b@2"]
    assert joined.firings[0].definition == SAME


def test_a_changed_signature_drops_what_waits_and_counts_it() -> None:
    state = JoinState(0)
    arrive(state, OLD, "a", 1)
    arrive(state, OLD, "a", 2)
    joined = arrive(state, CHANGED, "b", 3)
    assert ids(joined) == []
    assert joined.counts["superseded"] == 2
    assert ids(arrive(state, CHANGED, "a", 4)) == ["a@4 b@3"]


def test_an_older_generation_after_a_newer_one_changes_nothing() -> None:
    state = JoinState(0)
    arrive(state, CHANGED, "a", 1)
    joined = arrive(state, OLD, "b", 2)
    assert ids(joined) == []
    assert joined.counts["superseded"] == 1
    assert ids(arrive(state, CHANGED, "b", 3)) == ["a@1 b@3"]


def test_what_was_used_before_the_change_stays_used() -> None:
    state = JoinState(0)
    arrive(state, OLD, "a", 1)
    arrive(state, OLD, "b", 2)
    assert ids(arrive(state, CHANGED, "a", 1)) == []
    assert ids(arrive(state, CHANGED, "b", 3)) == []


def test_dependencies_may_grow() -> None:
    wider = make_definition("abc", generation=2, signature="two")
    state = JoinState(0)
    arrive(state, OLD, "a", 1)
    for name, time_ms in (("a", 2), ("b", 3)):
        assert ids(arrive(state, wider, name, time_ms)) == []
    assert ids(arrive(state, wider, "c", 4)) == ["a@2 b@3 c@4"]


def test_a_longer_lateness_does_not_bring_expired_events_back() -> None:
    """Whether an expired event has been taken out of memory yet is chance, so it must not decide anything."""
    patient = replace(SAME, lateness_ms=1_000)
    ticked, restarted = JoinState(0), JoinState(0)
    changes = arrive(ticked, OLD, "a", 1).changes
    changes += ticked.apply(1, Tick(12)).changes
    for key, value in changes:
        # A crash before the expiry was written leaves the head as the frame wrote it.
        if value is not None:
            restarted.restore(key, value)
    restarted.apply(0, Frame(()))
    assert ids(arrive(ticked, patient, "b", 3)) == ids(arrive(restarted, patient, "b", 3)) == []


def test_the_signature_says_what_waiting_events_depend_on() -> None:
    base: dict[str, Any] = {"events": [{"name": "a", "key": "event.k"}, {"name": "b"}]}
    keeping: list[dict[str, Any]] = [
        {"run": {"workflowTemplate": "other"}},
        {"run": {"workflowTemplate": "model-refresh", "parameters": {"x": 1}}},
        {"paused": True},
        {"maxAge": "1h"},
        {"events": [{"name": "a", "key": "event.k", "parameters": {"p": "f"}}, {"name": "b"}]},
        # The design lists events, key and window; how sets are chosen is none of these.
        {"match": "each"},
    ]
    dropping: list[dict[str, Any]] = [
        {"events": [{"name": "a", "key": "event.other"}, {"name": "b"}]},
        {"events": [{"name": "a"}, {"name": "b"}]},
        {"events": [{"name": "a", "key": "event.k", "filter": "event.x > 1"}, {"name": "b"}]},
        {"events": [{"name": "b"}, {"name": "a", "key": "event.k"}]},
        {"events": [{"name": "a", "key": "event.k"}]},
    ]
    signature = make_record(base).spec.signature(10)
    for change in keeping:
        assert make_record({**base, **change}).spec.signature(10) == signature, change
    for change in dropping:
        assert make_record({**base, **change}).spec.signature(10) != signature, change
    assert make_record(base).spec.signature(11) != signature
