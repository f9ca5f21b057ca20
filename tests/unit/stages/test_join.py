"""The join over time: duplicates, lateness, expiry, keys, and the log it must not skip. Window 10 ms, lateness 5 ms."""

from __future__ import annotations

import pytest

from headrace.model.dead_letter import Reason
from headrace.model.errors import RecordError
from headrace.model.event import Event
from headrace.model.frame import Frame, Match, Tick
from headrace.stages.join import Joined, JoinState
from tests.unit.stages.build import make_definition, make_event
from tests.unit.stages.timeline import play

DEFINITION = make_definition(lateness_ms=5)


def frame(*arrivals: tuple[str, int, str]) -> Frame:
    """A frame of events, each of one dependency, with its time and key; its id says all three."""
    return Frame(
        tuple(
            Match(DEFINITION, make_event(f"{name}@{time_ms}{key}", name, time_ms), ("ab".index(name),), key)
            for name, time_ms, key in arrivals
        )
    )


def fired(joined: Joined) -> list[str]:
    return [" ".join(event.id for event in firing.events) for firing in joined.firings]


def test_a_duplicate_of_a_waiting_event_changes_nothing() -> None:
    join = play(match="each")
    assert join.arrive("a@4 a@4 b@5 b@6") == ["a@4 b@5"]
    assert join.counts["duplicate"] == 1


@pytest.mark.parametrize("match", ["latest", "each"])
def test_a_duplicate_of_a_used_event_changes_nothing(match: str) -> None:
    join = play(match=match)
    assert join.arrive("a@4 b@5 a@4 b@5 b@5 a@4") == ["a@4 b@5"]
    assert join.waiting == ""
    assert join.counts["duplicate"] == 4


def test_a_duplicate_of_a_dropped_event_changes_nothing() -> None:
    """
    a: 1  4                        a@1 was dropped when a@4 fired; its duplicate must not wait for b@6
    b:      5  6
    """
    join = play(match="latest")
    assert join.arrive("a@1 a@4 b@5 a@1 b@6") == ["a@4 b@5"]


def test_a_duplicate_within_one_frame_changes_nothing() -> None:
    joined = JoinState(0).apply(0, frame(("a", 1, ""), ("b", 2, ""), ("a", 1, ""), ("b", 2, ""), ("b", 3, "")))
    assert fired(joined) == ["a@1 b@2"]


def test_used_ids_are_known_for_window_and_lateness() -> None:
    """
    Join time 19 is the last at which an event at 4 still counts: 19 - 10 - 5 = 4.
    """
    join = play(lateness_ms=5)
    join.arrive("a@4 b@5 tick@19 a@4 b@6 b@5")
    assert join.fired == ["a@4 b@5"]
    assert join.late == []
    assert join.arrive("tick@20 a@4 a@7") == ["a@7 b@6"]
    assert join.late == ["a@4"]


def test_nothing_is_late_before_the_first_tick() -> None:
    assert play().arrive("a@1000000 a@3 b@4") == ["a@3 b@4"]


def test_a_late_event_becomes_a_dead_letter() -> None:
    state = JoinState(0)
    state.apply(0, Tick(30))
    joined = state.apply(1, frame(("a", 14, ""), ("a", 15, "")))
    (letter,) = joined.dead_letters
    assert (letter.reason, letter.event_id, letter.trigger) == (Reason.LATE, "a@14", "ml/model-refresh")
    assert (letter.topic, letter.partition, letter.offset) == ("a", 0, 0)
    assert joined.counts["late"] == 1
    assert state.pending_count == 1


def test_only_ticks_move_join_time() -> None:
    assert play().arrive("a@5000 b@4 a@4") == ["a@4 b@4"]


def test_ticks_move_join_time_only_forwards() -> None:
    join = play()
    join.arrive("tick@40 tick@3 a@29 a@30")
    assert join.late == ["a@29"]


def test_pending_events_expire_after_window_and_lateness() -> None:
    """
    a:  4                          alive at join time 19 (4 + 10 + 5), expired at 20
    b:            13
    """
    join = play(lateness_ms=5)
    assert join.arrive("a@4 tick@19 b@13") == ["a@4 b@13"]
    join = play(lateness_ms=5)
    assert join.arrive("a@4 tick@20 b@13") == []
    assert join.waiting == "b@13"
    assert join.counts["expired"] == 1


def test_expiry_is_counted_once_for_each_event() -> None:
    join = play()
    join.arrive("a@1 a@2 b@90 tick@50 tick@60 tick@70")
    assert join.counts["expired"] == 2
    assert join.state.pending_count == 1


def test_of_one_key_each_event_expires_and_counts_on_its_own() -> None:
    join = play()
    assert join.arrive("a@1 a@30 tick@15 tick@16 tick@35 b@38") == ["a@30 b@38"]
    assert join.counts["expired"] == 1
    join.arrive("a@60 a@90 tick@75 tick@76 tick@120 tick@121")
    assert join.counts["expired"] == 3


def test_a_quiet_key_is_forgotten_wholly() -> None:
    join = play(lateness_ms=5)
    join.arrive("a@1 a@3 b@4 b@20 tick@1000")
    assert len(join.state.heads) == 0
    assert join.state.pending_count == 0


def test_keys_do_not_mix() -> None:
    state = JoinState(0)
    joined = state.apply(0, frame(("a", 1, '"eu"'), ("b", 2, '"us"'), ("b", 3, '"eu"')))
    assert fired(joined) == ['a@1"eu" b@3"eu"']
    assert joined.firings[0].key == '"eu"'


def test_triggers_do_not_mix() -> None:
    other = make_definition(trigger="ml/other")
    a, b = make_event("x", "a", 1), make_event("y", "b", 2)
    state = JoinState(0)
    joined = state.apply(0, Frame((Match(DEFINITION, a, (0,), ""), Match(other, b, (1,), ""))))
    assert joined.firings == []
    joined = state.apply(1, Frame((Match(other, a, (0,), ""), Match(DEFINITION, b, (1,), ""))))
    assert [firing.definition.trigger for firing in joined.firings] == ["ml/other", "ml/model-refresh"]
    assert joined.firings[0].id != joined.firings[1].id


def test_events_of_two_topics_may_have_the_same_id() -> None:
    """An event is a record on its topic: two producers that both count 1, 2, 3 must not hide each other's events."""
    orders, payments = make_event("1", "orders", 1), make_event("1", "payments", 2)
    definition = make_definition(("orders", "payments"))
    joined = JoinState(0).apply(0, Frame((Match(definition, orders, (0,), ""), Match(definition, payments, (1,), ""))))
    assert [firing.events for firing in joined.firings] == [(orders, payments)]


def test_a_firing_carries_its_definition_key_and_events_in_the_order_of_the_dependencies() -> None:
    a, b = make_event("x", "a", 3, payload='{"n":1.10}'), make_event("y", "b", 2)
    (firing,) = JoinState(0).apply(0, Frame((Match(DEFINITION, b, (1,), "7"), Match(DEFINITION, a, (0,), "7")))).firings
    assert (firing.definition, firing.key, firing.events, firing.time_ms) == (DEFINITION, "7", (a, b), 3)


def test_a_gap_in_the_log_is_an_error_and_changes_nothing() -> None:
    state = JoinState(3)
    state.apply(10, frame(("a", 1, "")))
    with pytest.raises(RecordError, match=r"partition 3 .* from offset 10 to 12"):
        state.apply(12, frame(("b", 2, "")))
    assert (state.offset, state.pending_count) == (10, 1)
    assert fired(state.apply(11, frame(("b", 3, "")))) == ["a@1 b@3"]


def test_a_record_that_is_applied_already_is_passed_over() -> None:
    state = JoinState(0)
    state.apply(4, frame(("a", 1, "")))
    state.apply(5, frame(("b", 2, "")))
    for offset in (4, 5):
        joined = state.apply(offset, frame(("a", 3, ""), ("b", 3, "")))
        assert (joined.firings, joined.changes, joined.counts["replayed"]) == ([], [], 1)
    assert state.offset == 5


def test_the_first_record_of_a_partition_may_have_any_offset() -> None:
    assert JoinState(0).apply(500, frame(("a", 1, ""))).dead_letters == []


def test_an_event_of_a_trigger_made_anew_does_not_meet_the_old_ones() -> None:
    anew = make_definition(lateness_ms=5, creation="creation-2")
    a, b = Event("x", "a", 1, 0, 0, "{}"), Event("y", "b", 2, 0, 0, "{}")
    state = JoinState(0)
    state.apply(0, Frame((Match(DEFINITION, a, (0,), ""),)))
    assert state.apply(1, Frame((Match(anew, b, (1,), ""),))).firings == []
