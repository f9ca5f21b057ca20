"""A firing's id: the same decision always has the same one, and another decision another."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.firing import firing_of
from tests.unit.stages.build import make_definition, make_event

DEFINITION = make_definition("ab")
EVENTS = (make_event("x", "a"), make_event("y", "b"))


def test_an_id_is_32_hexadecimal_digits() -> None:
    firing_id = firing_of(DEFINITION, "", EVENTS).id
    assert len(firing_id) == 32
    assert set(firing_id) <= set("0123456789abcdef")


def test_an_id_depends_on_the_trigger_its_creation_and_the_events_of_each_dependency() -> None:
    ids = [
        firing_of(DEFINITION, "", EVENTS).id,
        firing_of(replace(DEFINITION, trigger="ml/other"), "", EVENTS).id,
        firing_of(replace(DEFINITION, creation="creation-2"), "", EVENTS).id,
        firing_of(DEFINITION, "", EVENTS, "replay-1").id,
        firing_of(DEFINITION, "", EVENTS, "replay-2").id,
        firing_of(DEFINITION, "", (EVENTS[0], make_event("z", "b"))).id,
        firing_of(DEFINITION, "", (make_event("y", "a"), make_event("x", "b"))).id,
        firing_of(replace(DEFINITION, dependencies=("a", "c")), "", EVENTS).id,
    ]
    assert len(set(ids)) == len(ids)


def test_an_id_depends_on_nothing_else() -> None:
    firing_id = firing_of(DEFINITION, "", EVENTS).id
    changed = replace(DEFINITION, generation=9, signature="other", window_ms=99, run_target="other", constants={"x": 1})
    assert firing_of(changed, "key", EVENTS).id == firing_id
    republished = tuple(replace(event, time_ms=5, offset=9, partition=3, payload='{"x":1}') for event in EVENTS)
    assert firing_of(DEFINITION, "", republished).id == firing_id


def test_the_order_in_which_dependencies_are_listed_does_not_matter() -> None:
    turned = replace(DEFINITION, dependencies=("b", "a"))
    assert firing_of(turned, "", EVENTS[::-1]).id == firing_of(DEFINITION, "", EVENTS).id


@given(st.lists(st.text(max_size=3), min_size=4, max_size=4), st.lists(st.text(max_size=3), min_size=4, max_size=4))
def test_parts_do_not_run_into_each_other(one: list[str], other: list[str]) -> None:
    def firing_id(parts: list[str]) -> str:
        definition = replace(DEFINITION, trigger=parts[0], creation=parts[1])
        return firing_of(definition, "", (make_event(parts[2]), make_event(parts[3]))).id

    assert (firing_id(one) == firing_id(other)) == (one == other)


def test_ids_never_change() -> None:
    """A literal: after an upgrade a replayed firing must still find the Workflow of its first attempt."""
    assert firing_of(DEFINITION, "", EVENTS).id == "3eb585b1069ea83918a479b6d13d8deb"


def test_a_firing_needs_one_event_for_each_dependency() -> None:
    with pytest.raises(ValueError):
        firing_of(DEFINITION, "", EVENTS[:1])


def test_a_firings_time_is_its_newest_events() -> None:
    events = (make_event("x", time_ms=7), make_event("y", time_ms=3))
    assert firing_of(DEFINITION, "", events).time_ms == 7
