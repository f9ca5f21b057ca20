"""What exceeds a bound of the join goes to a dead letter that says so, and what is within it is untouched."""

from __future__ import annotations

import pytest

from headrace.model import bounds
from headrace.model.dead_letter import Reason
from headrace.model.frame import Frame, Match, Tick
from headrace.stages import changelog
from headrace.stages.head import UsedIds
from headrace.stages.join import Joined, JoinState
from tests.unit.stages.build import make_definition, make_event

DEFINITION = make_definition(window_ms=100, match="each")


def arrive(state: JoinState, name: str, time_ms: int, *, key: str = "", payload: str = "{}") -> Joined:
    """Let one event arrive."""
    event = make_event(f"{name}{time_ms}", name, time_ms, payload=payload)
    return state.apply(state.offset + 1, Frame((Match(DEFINITION, event, ("ab".index(name),), key),)))


def outcome(joined: Joined) -> tuple[list[str], list[tuple[str | None, Reason]]]:
    """What fired, and what was set aside."""
    return (
        [" ".join(event.id for event in firing.events) for firing in joined.firings],
        [(letter.event_id, letter.reason) for letter in joined.dead_letters],
    )


def test_pending_events_of_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "PENDING_EVENTS_PER_KEY_MAX", 2)
    state = JoinState(0)
    for time_ms in (1, 2):
        assert outcome(arrive(state, "a", time_ms)) == ([], [])
    assert outcome(arrive(state, "a", 3)) == ([], [("a3", Reason.TOO_MANY_PENDING)])
    assert outcome(arrive(state, "a", 4, key="1")) == ([], [])
    assert outcome(arrive(state, "b", 5)) == (["a1 b5"], [])
    assert outcome(arrive(state, "a", 6)) == ([], [])
    assert outcome(arrive(state, "b", 7)) == (["a2 b7"], [])


def test_expired_events_do_not_count_as_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "PENDING_EVENTS_PER_KEY_MAX", 1)
    state = JoinState(0)
    arrive(state, "a", 1)
    state.apply(1, Tick(102))
    assert outcome(arrive(state, "a", 50)) == ([], [])


def test_keys_of_a_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "KEYS_PER_PARTITION_MAX", 2)
    state = JoinState(0)
    for key in ("1", "2"):
        assert outcome(arrive(state, "a", 1, key=key)) == ([], [])
    assert outcome(arrive(state, "a", 1, key="3")) == ([], [("a1", Reason.TOO_MANY_KEYS)])
    assert outcome(arrive(state, "b", 2, key="2")) == (["a1 b2"], [])
    state.apply(state.offset + 1, Tick(1_000))
    assert outcome(arrive(state, "a", 1_000, key="3")) == ([], [])


def test_ids_that_a_key_has_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "USED_IDS_PER_KEY_MAX", 4)
    state = JoinState(0)
    for time_ms in (1, 2, 3):
        arrive(state, "a", time_ms)
    assert outcome(arrive(state, "b", 1)) == (["a1 b1"], [])
    assert outcome(arrive(state, "b", 2)) == (["a2 b2"], [])
    assert outcome(arrive(state, "b", 3)) == ([], [("b3", Reason.TOO_MANY_USED)])
    assert state.pending_count == 1
    state.apply(state.offset + 1, Tick(103))
    assert outcome(arrive(state, "b", 4)) == (["a3 b4"], [])


def test_ids_that_have_expired_do_not_count_as_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in memory, nor in a sealed segment that goes only as a whole, nor after a restart."""
    monkeypatch.setattr(bounds, "USED_IDS_PER_KEY_MAX", 8)
    monkeypatch.setattr(changelog, "OPEN_IDS_MAX", 3)
    state, restarted = JoinState(0), JoinState(0)
    for time_ms in (1, 2, 90, 91):
        for joined in (arrive(state, "a", time_ms), arrive(state, "b", time_ms)):
            for key, value in joined.changes:
                restarted.restore(key, value)
    assert outcome(arrive(state, "a", 92))[1] == []
    assert outcome(arrive(state, "b", 92))[1] == [("b92", Reason.TOO_MANY_USED)]
    for living in (state, restarted):
        living.apply(living.next_offset or 0, Tick(150))
        if living is restarted:
            arrive(living, "a", 92)
        assert outcome(arrive(living, "b", 93)) == (["a92 b93"], [])
        arrive(living, "a", 94)
        assert outcome(arrive(living, "b", 94)) == (["a94 b94"], [])
        arrive(living, "a", 95)
        assert outcome(arrive(living, "b", 95)) == ([], [("b95", Reason.TOO_MANY_USED)])


def test_at_the_bound_ids_are_counted_once_for_each_join_time() -> None:
    used = UsedIds()
    for number in range(100):
        used.add(make_event(f"e{number}", time_ms=number))
    assert used.live_count(40) == 60
    used.add(make_event("late", time_ms=39))
    used.add(make_event("e0", time_ms=50))
    used.add(make_event("new", time_ms=60))
    assert used.live_count(40) == 62
    assert used.live_count(60) == 41
    used.expire(55)
    assert used.live_count(60) == 41
    used.rebuild(60)
    assert (used.live_count(60), len(used.times)) == (41, 41)


def test_bytes_of_a_firing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "FIRING_BYTES_MAX", 40)
    state = JoinState(0)
    large, small = '{"x":"' + "y" * 30 + '"}', "{}"
    arrive(state, "a", 1, payload=large)
    assert outcome(arrive(state, "b", 2, payload=small)) == (["a1 b2"], [])
    arrive(state, "a", 3, payload=large)
    fired, letters = outcome(arrive(state, "b", 4, payload=large))
    assert fired == []
    assert ("b4", Reason.FIRING_TOO_LARGE) in letters
    assert state.pending_count == 0


def test_the_bytes_of_a_firing_are_bytes_and_not_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "FIRING_BYTES_MAX", 40)
    state = JoinState(0)
    arrive(state, "a", 1, payload='{"x":"' + "ü" * 15 + '"}')
    assert outcome(arrive(state, "b", 2)) == (["a1 b2"], [])
    arrive(state, "a", 3, payload='{"x":"' + "ü" * 25 + '"}')
    fired, letters = outcome(arrive(state, "b", 4))
    assert fired == []
    assert ("b4", Reason.FIRING_TOO_LARGE) in letters


def test_every_event_of_a_set_that_is_too_large_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing goes silently away: the event that waited is lost to the trigger, too."""
    monkeypatch.setattr(bounds, "FIRING_BYTES_MAX", 10)
    state = JoinState(0)
    arrive(state, "a", 1, payload='{"x":"yyyyyyyy"}')
    fired, letters = outcome(arrive(state, "b", 2, payload='{"x":"zzzzzzzz"}'))
    assert fired == []
    assert sorted(letters) == [("a1", Reason.FIRING_TOO_LARGE), ("b2", Reason.FIRING_TOO_LARGE)]


def test_a_tick_looks_at_so_many_heads_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.stages.join.EXPIRED_HEADS_PER_TICK_MAX", 3)
    state = JoinState(0)
    for number in range(7):
        arrive(state, "a", 1, key=str(number))
    left = []
    for _ in range(3):
        state.apply(state.offset + 1, Tick(1_000))
        left.append(len(state.heads))
    assert left == [4, 1, 0]


def test_what_a_tick_left_for_the_next_is_expired_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.stages.join.EXPIRED_HEADS_PER_TICK_MAX", 0)
    state = JoinState(0)
    arrive(state, "a", 1)
    state.apply(1, Tick(102))
    assert outcome(arrive(state, "b", 50)) == ([], [])
