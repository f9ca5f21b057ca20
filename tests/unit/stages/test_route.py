"""Routing: filters, starts, single-event triggers, several dependencies, and triggers that change."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.model import bounds
from headrace.model.dead_letter import Reason
from headrace.model.errors import TriggerError
from headrace.model.frame import Frame, Match
from headrace.stages.join import JoinState
from headrace.stages.route import CompiledTrigger, Routed, Routes
from tests.unit.stages.build import LATENESS_MS, WINDOW_MS, make_trigger, read_event


def route(trigger: CompiledTrigger, value: bytes = b"{}", **fields: Any) -> Routed:
    """Route one record of the topic a, unless another is given, through one trigger."""
    return Routes([trigger]).route(read_event(value, **{"topic": "a", **fields}))


def places(routed: Routed) -> list[tuple[tuple[int, ...], str]]:
    return [(match.dependencies, match.key) for match in routed.matches]


def test_an_event_that_no_trigger_waits_for_leads_to_nothing() -> None:
    routed = route(make_trigger({"events": ["a", "b"]}), topic="c")
    assert (routed.matches, routed.firings, routed.rejected) == ([], [], [])


def test_a_match_carries_the_definition_the_event_and_its_place() -> None:
    trigger = make_trigger({"events": ["b", "a"]})
    read = read_event(b'{"x": 1.10}', topic="a")
    (match,) = Routes([trigger]).route(read).matches
    assert match == Match(trigger.definition, read.event, (1,), "")


def test_defaults_are_resolved_in_the_definition() -> None:
    definition = make_trigger({"events": ["a", "b"]}).definition
    assert (definition.window_ms, definition.lateness_ms, definition.match) == (WINDOW_MS, LATENESS_MS, "latest")
    assert (definition.trigger, definition.creation, definition.generation) == ("ml/model-refresh", "creation-1", 1)
    assert definition.horizon_ms == WINDOW_MS + LATENESS_MS
    assert definition.max_age_ms is None
    definition = make_trigger({"events": ["a", "b"], "window": "1m30s", "match": "each", "maxAge": "1d"}).definition
    assert (definition.window_ms, definition.match, definition.max_age_ms) == (90_000, "each", 86_400_000)


def test_the_definition_resolves_the_run() -> None:
    spec = {
        "events": ["a", {"name": "b", "parameters": {"p": "f"}}],
        "run": {"clusterWorkflowTemplate": "shared", "parameters": {"tier": "prod"}},
    }
    definition = make_trigger(spec).definition
    assert (definition.run_kind, definition.run_target) == ("clusterWorkflowTemplate", "shared")
    assert definition.mappings == (None, {"p": "f"})
    assert definition.constants == {"tier": "prod"}


@pytest.mark.parametrize(
    ("value", "passes", "counted"),
    [
        (b'{"rows": 1001}', True, {}),
        (b'{"rows": 1000}', False, {"filtered": 1}),
        (b"{}", False, {"filter_failed": 1}),
        (b'{"rows": "many"}', False, {"filter_failed": 1}),
        (b'{"rows": null}', False, {"filter_failed": 1}),
        (b'{"rows": 1001, "huge": 18446744073709551616, "large": 18446744073709551615}', True, {}),
    ],
)
def test_a_filter_lets_pass_what_it_is_true_for(value: bytes, passes: bool, counted: dict[str, int]) -> None:
    routed = route(make_trigger({"events": [{"name": "a", "filter": "event.rows > 1000"}, "b"]}), value)
    assert bool(routed.matches) is passes
    assert routed.counts == counted
    assert routed.rejected == []


@pytest.mark.parametrize("value", [b'{"x": 1}', b'{"x": "true"}', b'{"x": {}}', b'{"x": null}'])
def test_only_true_is_true(value: bytes) -> None:
    assert route(make_trigger({"events": [{"name": "a", "filter": "event.x"}, "b"]}), value).matches == []


def test_filters_see_headers() -> None:
    trigger = make_trigger({"events": [{"name": "a", "filter": "headers.team == 'growth'"}, "b"]})
    assert route(trigger, team="growth").matches
    assert not route(trigger, team="core").matches
    assert not route(trigger).matches


@pytest.mark.parametrize("place", ["filter", "key"])
def test_a_bad_expression_refuses_the_trigger(place: str) -> None:
    with pytest.raises(TriggerError):
        make_trigger({"events": [{"name": "a", place: "event."}, "b"]})
    with pytest.raises(TriggerError):
        make_trigger({"events": [{"name": "a", "parameters": {"p": "=event."}}]})


def test_a_single_event_fires_at_once() -> None:
    trigger = make_trigger({"events": [{"name": "a", "filter": "event.rows > 1"}]})
    routed = route(trigger, b'{"rows": 2}')
    (firing,) = routed.firings
    assert (firing.definition, [event.id for event in firing.events]) == (trigger.definition, ["a:2:7"])
    assert routed.matches == []
    assert route(trigger, b'{"rows": 1}').firings == []


def test_the_same_single_event_always_gives_the_same_firing() -> None:
    trigger = make_trigger({"events": ["a"]})
    first, again = (route(trigger, ce_id="x", offset=offset).firings[0] for offset in (1, 2))
    assert first.id == again.id


def test_a_single_event_is_never_late() -> None:
    assert route(make_trigger({"events": ["a"]}), ce_time="1999-01-01T00:00:00Z").firings


@pytest.mark.parametrize(("offset", "seen"), [(6, False), (7, True), (8, True)])
@pytest.mark.parametrize("events", [["a"], ["a", "b"]])
def test_events_before_the_start_are_not_seen(events: list[str], offset: int, seen: bool) -> None:
    trigger = make_trigger({"events": events}, starts={"a": {"2": 7}, "b": {"2": 100}})
    routed = route(trigger, offset=offset)
    assert bool(routed.matches or routed.firings) is seen


def test_a_partition_without_a_start_counts_from_its_first_record() -> None:
    trigger = make_trigger({"events": ["a", "b"]}, starts={"a": {"2": 7}})
    assert route(trigger, partition=3, offset=0).matches


def test_one_event_may_pass_several_dependencies_of_one_trigger() -> None:
    spec = {"events": ["b", {"name": "a", "filter": "event.x > 1"}, {"name": "a", "filter": "event.x > 2"}]}
    trigger = make_trigger(spec)
    assert trigger.definition.dependencies == ("b", "a", "a#2")
    assert places(route(trigger, b'{"x": 3}')) == [((1, 2), "")]
    assert places(route(trigger, b'{"x": 2}')) == [((1,), "")]
    assert places(route(trigger, b'{"x": 0}')) == []


def test_an_event_is_used_once_for_a_trigger_whatever_its_keys() -> None:
    """
    The event 1->2 passes both dependencies under different keys. It may be used once only, though both 0->1 and 2->3
    have come.
    """
    spec = {"events": [{"name": "a", "key": "event.to"}, {"name": "a", "key": "event.from"}], "match": "each"}
    routes, state, used = Routes([make_trigger(spec)]), JoinState(0), []
    for offset, (start, end) in enumerate([(0, 1), (2, 3), (1, 2)]):
        value = b'{"from": %d, "to": %d}' % (start, end)
        matches = routes.route(read_event(value, topic="a", offset=offset)).matches
        joined = state.apply(offset, Frame(tuple(matches)))
        used += [event.id for firing in joined.firings for event in firing.events]
    assert len(used) == len(set(used))


def test_one_event_reaches_every_trigger_that_waits_for_it() -> None:
    first = make_trigger({"events": ["a", "b"]}, name="ml/first")
    second = make_trigger({"events": ["a"]}, name="ml/second")
    third = make_trigger({"events": ["b"]}, name="ml/third")
    routed = Routes([first, second, third]).route(read_event(b"{}", topic="a"))
    assert [match.definition.trigger for match in routed.matches] == ["ml/first"]
    assert [firing.definition.trigger for firing in routed.firings] == ["ml/second"]


def test_a_fan_out_beyond_its_bound_is_rejected_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MATCHES_PER_EVENT_MAX", 2)
    triggers = [make_trigger({"events": ["a", "b"]}, name=f"ml/t{number}") for number in range(3)]
    assert len(Routes(triggers[:2]).route(read_event(b"{}", topic="a")).matches) == 2
    routed = Routes(triggers).route(read_event(b"{}", topic="a"))
    assert routed.matches == []
    assert [(rejected.trigger, rejected.reason) for rejected in routed.rejected] == [(None, Reason.TOO_MANY_MATCHES)]


def test_headers_travel_only_where_a_mapping_reads_them() -> None:
    plain = make_trigger({"events": ["a", "b"]}, name="ml/plain")
    reading = make_trigger({"events": [{"name": "a", "parameters": {"p": "=headers.team"}}, "b"]}, name="ml/reading")
    routed = Routes([plain, reading]).route(read_event(b"{}", topic="a", team="growth"))
    assert [match.event.headers for match in routed.matches] == [None, {"team": "growth"}]


def test_changed_routes_are_new_and_leave_the_old_alone() -> None:
    old = Routes([make_trigger({"events": ["a", "b"]})])
    changed = old.changed({"ml/model-refresh": make_trigger({"events": ["c", "b"]}, generation=2)})
    assert (old.events, changed.events) == ({"a", "b"}, {"b", "c"})
    assert list(changed.triggers) == ["ml/model-refresh"]
    assert old.route(read_event(b"{}", topic="a")).matches
    assert changed.route(read_event(b"{}", topic="a")).matches == []
    (match,) = changed.route(read_event(b"{}", topic="c")).matches
    assert match.definition.generation == 2


def test_a_removed_trigger_matches_nothing() -> None:
    routes = Routes([make_trigger({"events": ["a"]})])
    gone = routes.changed({"ml/model-refresh": None})
    assert (gone.events, gone.triggers) == (set(), {})
    assert gone.route(read_event(b"{}", topic="a")).firings == []
    assert gone.changed({"ml/unknown": None}).events == set()


def test_the_start_of_a_partition_is_the_least_of_its_triggers() -> None:
    first = make_trigger({"events": ["a"]}, name="ml/first", starts={"a": {"0": 5, "1": 9}})
    second = make_trigger({"events": ["a"]}, name="ml/second", starts={"a": {"0": 7}})
    routes = Routes([first, second])
    assert [routes.start_of("a", partition) for partition in (0, 1, 2)] == [5, 0, 0]
    assert Routes([first]).start_of("a", 1) == 9
    assert Routes().start_of("a", 0) == 0
