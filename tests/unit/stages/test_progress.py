"""Join time from the routers' reports. Times are seconds here; a partition stalls after 60 s."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.errors import RecordError
from headrace.stages.progress import Progress, RouterReport, TopicPartition, decode_report

A: TopicPartition = ("a", 0)
B: TopicPartition = ("b", 0)
STALLED_AFTER_S = 60


def report(at_s: int, *caught_up: TopicPartition, member: str = "m", applied: int = 0, **routed_s: int) -> RouterReport:
    """A report at `at_s`; `a=5` says that partition 0 of topic a is routed up to second 5."""
    routed_ms = {(topic, 0): seconds * 1_000 for topic, seconds in routed_s.items()}
    return RouterReport(member, at_s * 1_000, applied, frozenset(caught_up), routed_ms)


def after(*reports: RouterReport) -> Progress:
    progress = Progress()
    for taken in reports:
        progress.take(taken)
    return progress


def join_time_s(progress: Progress, now_s: int, *partitions: TopicPartition) -> float | None:
    time_ms = progress.join_time_ms(set(partitions), now_s * 1_000, STALLED_AFTER_S * 1_000)
    return None if time_ms is None else time_ms / 1_000


def test_where_all_is_caught_up_join_time_is_the_time_of_the_least_report() -> None:
    progress = after(report(100, A), report(98, B, member="n"))
    assert join_time_s(progress, 101, A, B) == 98
    assert join_time_s(progress, 101, A) == 100


def test_a_partition_that_is_behind_holds_join_time_at_its_last_routed_event() -> None:
    progress = after(report(100, A, b=40))
    assert join_time_s(progress, 101, A, B) == 40
    assert join_time_s(progress, 101, A) == 100


def test_join_time_is_never_ahead_of_the_clock() -> None:
    assert join_time_s(after(report(100, A)), 90, A) == 90
    assert join_time_s(after(report(100, a=500)), 100, A) == 100


def test_without_partitions_join_time_is_the_clock() -> None:
    assert join_time_s(Progress(), 100) == 100


def test_a_partition_that_was_not_heard_of_yet_holds_join_time_back_wholly() -> None:
    progress = after(report(100, A))
    assert join_time_s(progress, 100, A, B) is None
    progress.take(report(101, B, member="n"))
    assert join_time_s(progress, 101, A, B) == 100


def test_a_partition_that_is_never_heard_of_is_left_out_in_the_end() -> None:
    progress = after(report(100, A))
    assert join_time_s(progress, 100, A, B) is None
    progress.take(report(160, A))
    assert join_time_s(progress, 160, A, B) is None
    assert join_time_s(progress, 161, A, B) == 160
    assert progress.stalled({A, B}, 161_000, 60_000) == {B}


def test_a_partition_stalls_when_its_progress_does_not_move_for_longer_than_the_bound() -> None:
    progress = after(report(100, A, b=40))
    for second in range(101, 162):
        progress.take(report(second, A, b=40))
    assert join_time_s(progress, 160, A, B) == 40
    assert join_time_s(progress, 161, A, B) == 161
    assert progress.stalled({A, B}, 161_000, 60_000) == {B}


def test_a_stalled_partition_counts_again_once_it_moves() -> None:
    progress = after(report(100, A, b=40))
    progress.take(report(200, A, b=41))
    assert join_time_s(progress, 200, A, B) == 41
    assert progress.stalled({A, B}, 200_000, 60_000) == set()


def test_a_partition_whose_router_died_holds_join_time_until_it_counts_as_stalled() -> None:
    progress = after(report(100, A), report(100, B, member="n"))
    for second in range(101, 171):
        progress.take(report(second, A))
    assert join_time_s(progress, 150, A, B) == 100
    assert join_time_s(progress, 170, A, B) == 170


def test_a_partition_that_falls_behind_and_works_on_is_not_stalled() -> None:
    """
    b was caught up at 4000; then come events that are an hour old by their own time, faster than they are routed:

        clock     4000   4001  4002 … 4100
        b routed    ✓     401   402 …  500      it moves all the time, so it must not be left out
    """
    progress = after(report(4_000, A, B))
    for second in range(4_001, 4_101):
        progress.take(report(second, A, b=second - 3_600))
    assert progress.stalled({A, B}, 4_100_000, 60_000) == set()
    assert join_time_s(progress, 4_100, A, B) == 500


def test_of_two_owners_the_later_clock_counts() -> None:
    progress = after(report(100, A, member="new"), report(99, member="old", a=5))
    assert join_time_s(progress, 100, A) == 100
    progress.take(report(101, member="old", a=5))
    assert join_time_s(progress, 101, A) == 5


def test_a_deployment_is_confirmed_for_partitions_whose_owner_has_applied_it() -> None:
    progress = after(report(100, A, applied=7), report(100, B, member="n", applied=6))
    assert progress.confirmed({A, B}, 7) == {A}
    assert progress.confirmed({A, B}, 6) == {A, B}
    assert progress.confirmed({A, B, ("c", 0)}, 8) == set()
    assert Progress().confirmed({A}, 0) == set()
    assert Progress().confirmed({A}, -1) == {A}


partitions = st.tuples(st.text(max_size=8), st.integers(0, 1000))
reports = st.builds(
    RouterReport,
    member=st.text(max_size=10),
    time_ms=st.integers(0, 2**53),
    applied=st.integers(-1, 2**53),
    caught_up=st.frozensets(partitions, max_size=5),
    routed_ms=st.dictionaries(partitions, st.integers(0, 2**53), max_size=5),
)


@given(reports)
def test_a_report_reads_back(taken: RouterReport) -> None:
    assert decode_report(orjson.loads(taken.encode())) == taken


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"member": ...}, {"caught_up": None}, {"caught_up": [["a"]]}, {"routed_ms": [["a", 0]]}]
)
def test_a_damaged_report_is_an_error(change: dict[str, Any]) -> None:
    record = {**orjson.loads(report(1, A, b=2).encode()), **change}
    with pytest.raises(RecordError):
        decode_report({name: value for name, value in record.items() if value is not ...})


@given(st.lists(reports, max_size=5), st.integers(0, 2**53))
def test_join_time_is_least_and_reading_it_twice_gives_the_same(taken: list[RouterReport], now_ms: int) -> None:
    progress = after(*taken)
    owned = {partition for one in taken for partition in one.partitions}
    time_ms = progress.join_time_ms(owned, now_ms, 2**60)
    assert time_ms is not None
    assert time_ms <= now_ms
    assert progress.join_time_ms(owned, now_ms, 2**60) == time_ms
    for partition in owned:
        alone_ms = progress.join_time_ms({partition}, now_ms, 2**60)
        assert alone_ms is not None
        assert time_ms <= alone_ms
