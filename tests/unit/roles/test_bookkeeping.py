"""The roles' bookkeeping: turns, handovers, ownership."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from headrace.roles.handover import Handover
from headrace.roles.ownership import Ownership
from headrace.roles.turns import Turns

A, B = ("a", 0), ("b", 1)


def test_a_turn_ends_only_after_all_that_it_caused_is_delivered() -> None:
    turns = Turns()
    first = turns.open
    first.saw(A, 4, 100)
    first.outstanding = 2
    turns.close()
    second = turns.open
    second.saw(A, 5, 200)
    turns.close()
    assert turns.done() == [], "the second caused nothing, but must not end before the first"
    first.outstanding = 1
    assert turns.done() == []
    first.outstanding = 0
    assert turns.done() == [first, second]
    assert turns.count == 0


def test_what_is_caused_after_a_turn_was_closed_belongs_to_the_next() -> None:
    turns = Turns()
    turns.open.saw(A, 1, 1)
    turns.close()
    assert turns.open.next_offsets == {}


@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_a_handover_never_passes_an_unfinished_record(count: int, order: random.Random) -> None:
    handover = Handover()
    offsets = list(range(100, 100 + 2 * count, 2))
    for offset in offsets:
        handover.begin(offset)
    shuffled = offsets[:]
    order.shuffle(shuffled)
    finished: set[int] = set()
    commits = []
    for offset in shuffled:
        finished.add(offset)
        commit = handover.done(offset)
        if commit is not None:
            commits.append(commit)
            assert {o for o in offsets if o < commit} <= finished
    assert commits[-1] == offsets[-1] + 1
    assert commits == sorted(commits)
    assert handover.unfinished == 0


def test_a_partition_is_caught_up_only_when_its_end_is_durable() -> None:
    owned, turns = Ownership(), Turns()
    owned.take(A)
    owned.reached_end(A)
    assert owned.report("m", 10, 0).caught_up == {A}
    assert owned.handle(A, 7)
    turns.open.saw(A, 7, 1234)
    owned.reached_end(A)
    report = owned.report("m", 11, 0)
    assert report.caught_up == frozenset() and report.routed_ms == {A: 0}
    turns.close()
    (turn,) = turns.done()
    assert owned.settle(turn) == {A: 8}
    assert owned.report("m", 12, 0).caught_up == {A}


def test_a_partition_behind_reports_its_last_durable_event() -> None:
    owned, turns = Ownership(), Turns()
    owned.take(A)
    assert owned.handle(A, 7)
    turns.open.saw(A, 7, 1234)
    turns.close()
    owned.settle(turns.done()[0])
    assert owned.report("m", 12, 0).routed_ms == {A: 1234}


def test_turns_of_partitions_that_were_given_back_commit_nothing() -> None:
    owned, turns = Ownership(), Turns()
    owned.take(A)
    owned.take(B)
    turns.open.saw(A, 1, 1)
    turns.open.saw(B, 2, 2)
    turns.close()
    owned.forget(B)
    assert owned.settle(turns.done()[0]) == {A: 2}


def test_turns_from_before_a_partition_was_lost_say_nothing_once_it_is_owned_again() -> None:
    owned, turns = Ownership(), Turns()
    owned.take(A)
    turns.open.saw(A, 1, 1)
    turns.close()
    turns.open.saw(A, 2, 2)
    turns.open.saw(B, 5, 5)
    owned.forget(A)
    turns.forget(A)
    owned.take(A)
    turns.close()
    assert [owned.settle(turn) for turn in turns.done()] == [{}, {}]


def test_a_stopped_partition_reports_no_progress_until_it_resumes() -> None:
    owned = Ownership()
    owned.take(A)
    owned.stop(A, 5)
    assert owned.stopped == {A: 5}
    assert owned.report("m", 1, 0).partitions == set()
    owned.resume(A)
    assert owned.stopped == {}
    assert owned.report("m", 1, 0).routed_ms == {A: 0}
