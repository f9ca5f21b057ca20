"""The join against brute force, and what must hold of every log."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.definition import Definition
from headrace.model.firing import Firing
from headrace.model.frame import Frame, Match
from headrace.stages.join import JoinState
from tests.unit.stages.build import make_definition, make_event
from tests.unit.stages.crash import waiting
from tests.unit.stages.logs import (
    REPUBLISHED_MS,
    Again,
    Records,
    Redefine,
    Step,
    definitions,
    logs,
    records,
    steps,
)
from tests.unit.stages.oracle import Fired, NaiveJoin

DROPPING = (Redefine(0, keeping=False), Redefine(1, keeping=False))
# A log is cheap to run, and its rare states are many.
MORE = settings(max_examples=3 * settings().max_examples)


def play(log: Records) -> tuple[list[Fired], list[str], JoinState]:
    """Run a log; return firings and late ids in their order, and the last state."""
    state = JoinState(0)
    fired: list[Fired] = []
    late: list[str] = []
    for offset, record in enumerate(log):
        joined = state.apply(offset, record)
        fired.extend((f.definition.trigger, f.key, tuple(e.id for e in f.events)) for f in joined.firings)
        late.extend(letter.event_id or "" for letter in joined.dead_letters)
    return fired, late, state


def check_against_brute_force(log: Records) -> None:
    """Compare firings, late events and what waits at the end."""
    oracle = NaiveJoin()
    for record in log:
        oracle.apply(record)
    fired, late, state = play(log)
    assert fired == oracle.fired
    assert late == oracle.late
    assert waiting(state) == oracle.waiting()


@MORE
@given(logs())
def test_the_join_decides_as_brute_force_does(log: Records) -> None:
    check_against_brute_force(log)


@MORE
@given(logs(shifts_ms=REPUBLISHED_MS))
def test_an_event_published_again_later_is_a_duplicate_within_the_horizon_and_new_beyond(log: Records) -> None:
    """A retried publication keeps its id but gets a later Kafka time. When memory is tidied must not show."""
    check_against_brute_force(log)


def firings_of(log: Records) -> list[Firing]:
    """Run a log; return its firings."""
    state = JoinState(0)
    return [firing for offset, record in enumerate(log) for firing in state.apply(offset, record).firings]


@MORE
@given(logs(shifts_ms=(0, 100)))
def test_every_firing_is_whole_and_within_its_window_and_uses_fresh_events(log: Records) -> None:
    used: Counter[tuple[str, str]] = Counter()
    for firing in firings_of(log):
        definition = firing.definition
        times = [event.time_ms for event in firing.events]
        assert len(firing.events) == len(definition.dependencies)
        assert max(times) - min(times) <= definition.window_ms
        used.update((definition.trigger, event.id) for event in firing.events)
    assert all(count == 1 for count in used.values())


@MORE
@given(definitions(), steps(), st.data())
def test_duplicates_change_nothing(
    triggers: tuple[Definition, Definition], taken: list[Step], data: st.DataObject
) -> None:
    # A late copy may come by the definition before; what waited under that one is dropped, so it is no duplicate then.
    plain = [step for step in taken if not isinstance(step, Again) and step not in DROPPING]
    doubled: list[Step] = []
    for step in plain:
        doubled.append(step)
        if data.draw(st.booleans()):
            doubled.append(Again(data.draw(st.integers(1, 8)), 0))
    expected, _, expected_state = play(records(triggers, plain))
    fired, _, state = play(records(triggers, doubled))
    assert fired == expected
    assert waiting(state) == waiting(expected_state)


@given(
    names=st.sampled_from(["ab", "abc"]),
    sets=st.integers(1, 12),
    window_ms=st.integers(1, 100),
    data=st.data(),
)
def test_with_each_n_complete_sets_give_n_firings_in_any_order(
    names: str, sets: int, window_ms: int, data: st.DataObject
) -> None:
    definition = make_definition(names, window_ms=window_ms, match="each")
    times = st.integers(1_000, 1_000 + window_ms)
    arrivals = [
        Match(definition, make_event(f"{name}{number}", name, data.draw(times), number), (names.index(name),), "1")
        for number in range(sets)
        for name in names
    ]
    log = Records(Frame((match,)) for match in data.draw(st.permutations(arrivals)))
    firings = firings_of(log)
    assert len(firings) == sets
    assert {event.id for firing in firings for event in firing.events} == {match.event.id for match in arrivals}
