"""Which events make a complete set: literal timelines. The window is 10 ms unless a test says otherwise."""

from __future__ import annotations

import pytest

from headrace.stages.select import assign, complete
from tests.unit.stages.build import make_event
from tests.unit.stages.timeline import fires, play


@pytest.mark.parametrize("match", ["latest", "each"])
@pytest.mark.parametrize("timeline", ["a@4 b@12", "b@12 a@4"])
def test_a_set_fires_in_whatever_order_it_arrives(timeline: str, match: str) -> None:
    """
    a:    4
    b:        12
    """
    assert fires(timeline, match=match) == ["a@4 b@12"]


@pytest.mark.parametrize("match", ["latest", "each"])
@pytest.mark.parametrize(
    ("timeline", "fired"),
    [
        ("a@2 b@12", ["a@2 b@12"]),
        ("a@2 b@13", []),
        ("b@13 a@2", []),
        ("b@12 a@2", ["a@2 b@12"]),
    ],
)
def test_the_window_includes_its_ends(timeline: str, fired: list[str], match: str) -> None:
    """
    a:  2
    b:            12  13        12 is ten away, 13 is eleven
    """
    assert fires(timeline, match=match) == fired


@pytest.mark.parametrize(
    ("timeline", "latest", "each"),
    [
        ("a@12 a@40 b@2", ["a@12 b@2"], ["a@12 b@2"]),
        ("a@13 a@40 b@2", [], []),
        ("a@1 a@2 b@12", ["a@2 b@12"], ["a@2 b@12"]),
        ("a@0 a@1 b@12", [], []),
        ("a@2 c@11 c@12 b@12", ["a@2 b@12 c@12"], ["a@2 b@12 c@11"]),
        ("a@2 c@13 c@14 b@12", [], []),
        ("a@12 c@2 c@3 b@2", ["a@12 b@2 c@3"], ["a@12 b@2 c@2"]),
        ("a@12 c@0 c@1 b@2", [], []),
    ],
)
def test_the_window_includes_its_ends_among_several_events(timeline: str, latest: list[str], each: list[str]) -> None:
    dependencies = "abc" if "c" in timeline else "ab"
    assert fires(timeline, dependencies, match="latest") == latest
    assert fires(timeline, dependencies, match="each") == each


def test_a_window_of_nothing_joins_equal_times() -> None:
    assert fires("a@5 b@6 b@5", window_ms=0) == ["a@5 b@5"]


def test_latest_takes_the_newest_and_drops_the_older_ones() -> None:
    """
    a: 1   4       11              fires a@11 with b@12; a@1 and a@4 are dropped, so b@13 finds nothing
    b:                12 13
    """
    join = play(match="latest")
    assert join.arrive("a@1 a@4 a@11 b@12 b@13") == ["a@11 b@12"]
    assert join.waiting == "b@13"


def test_each_takes_the_oldest_that_is_near_enough() -> None:
    """
    a: 1   4       11              b@12 takes a@4, since a@1 is too far; b@13 then takes a@11
    b:                12 13
    """
    join = play(match="each")
    assert join.arrive("a@1 a@4 a@11 b@12 b@13") == ["a@4 b@12", "a@11 b@13"]
    assert join.waiting == "a@1"


def test_latest_drops_only_what_is_older() -> None:
    """
    a:      5        12            b@3 comes last and reaches no further than 13; a@12 is the newest
    b:   3                         a later b finds no a any more
    """
    assert fires("a@5 a@12 b@3 b@6") == ["a@12 b@3"]


def test_latest_keeps_what_is_newer_than_the_set() -> None:
    """
    a:    5             20         b@8 fires with a@5; a@20 is too far and newer: it stays for b@21
    b:        8             21
    """
    assert fires("a@5 a@20 b@8 b@21") == ["a@5 b@8", "a@20 b@21"]


def test_latest_also_drops_older_events_of_the_dependency_that_completes() -> None:
    """
    a:                    20       b@12 waits in vain and is dropped once b@21 has fired with a@20
    b:       9              21
    """
    join = play(match="latest")
    assert join.arrive("b@9 a@20 b@21") == ["a@20 b@21"]
    assert join.waiting == ""


def test_each_keeps_older_events_of_the_dependency_that_completes() -> None:
    join = play(match="each")
    assert join.arrive("b@9 a@20 b@21") == ["a@20 b@21"]
    assert join.waiting == "b@9"


def test_all_events_of_a_set_must_lie_within_one_window() -> None:
    """
    a: 1                           a and c are both within ten of b, but not of each other
    b:       8
    c:             14
    """
    assert fires("a@1 c@14 b@8", "abc") == []


def test_latest_finds_the_set_that_the_newest_event_would_spoil() -> None:
    """
    a: 1                           c@14 is newer but excludes a@1; c@10 makes a set
    b:       8
    c:          10   14
    """
    join = play("abc")
    assert join.arrive("a@1 c@10 c@14 b@8") == ["a@1 b@8 c@10"]
    assert join.waiting == "c@14"


def test_each_finds_the_set_that_the_oldest_event_would_spoil() -> None:
    """
    a: 1   6                       a@1 is older but excludes c@14; a@6 makes a set
    b:       8
    c:            14
    """
    join = play("abc", match="each")
    assert join.arrive("a@1 a@6 c@14 b@8") == ["a@6 b@8 c@14"]
    assert join.waiting == "a@1"


def test_an_event_is_used_once() -> None:
    """
    a:    5                        the one a cannot start two runs
    b:      6 7
    """
    assert fires("a@5 b@6 b@7", match="each") == ["a@5 b@6"]


def test_an_event_fills_the_first_empty_dependency_that_it_passes() -> None:
    assert fires("ab@1 ab@2") == ["ab@1 ab@2"]
    assert fires("ab@1 a@2") == []
    assert fires("ab@1 b@2") == ["ab@1 b@2"]
    assert fires("b@1 ab@2") == ["ab@2 b@1"]
    assert fires("ab@1 ab@2 ab@3", "abc") == []
    assert fires("a@1 abc@2 abc@3", "abc") == ["a@1 abc@2 abc@3"]


def test_one_event_cannot_fill_two_dependencies() -> None:
    assert fires("ab@5") == []
    assert fires("ab@5 ab@5") == []


def test_a_place_whose_events_are_out_of_reach_counts_as_empty() -> None:
    """
    ab:  1          30             at 30 the event at 1 is out of reach, so dependency a is empty again
    b:                 31
    """
    assert fires("ab@1 ab@30 b@31") == ["ab@30 b@31"]


@pytest.mark.parametrize(("match", "expected"), [("latest", "z2"), ("each", "z1")])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"name": "ta"}, {"name": "tb"}),
        ({"partition": 1}, {"partition": 2}),
        ({"offset": 7}, {"offset": 8}),
        ({"name": "ta", "partition": 9, "offset": 9}, {"name": "tb"}),
        ({"partition": 1, "offset": 9}, {"partition": 2}),
        ({"time_ms": 4, "name": "tz"}, {"time_ms": 5, "name": "ta"}),
    ],
)
def test_ties_go_by_topic_partition_and_offset(
    first: dict[str, int], second: dict[str, int], match: str, expected: str
) -> None:
    older = make_event("z1", **{"name": "t", "time_ms": 5, **first})  # type: ignore[arg-type]
    newer = make_event("z2", **{"name": "t", "time_ms": 5, **second})  # type: ignore[arg-type]
    arrived = make_event("b", time_ms=6)
    pending = [sorted([newer, older], key=lambda event: event.order), []]
    chosen = complete(arrived, 1, pending, 10, match)
    assert chosen is not None
    assert [event.id for event in chosen] == [expected, "b"]


def test_the_emptiest_dependency_is_filled_and_the_first_of_equals() -> None:
    near = [make_event(f"n{number}", time_ms=number) for number in range(3)]
    far = [make_event("far", time_ms=99)]
    arrived = make_event("new", time_ms=5)
    assert assign(arrived, (0, 1), [[], []], 10) == 0
    assert assign(arrived, (0, 1), [near[:1], []], 10) == 1
    assert assign(arrived, (0, 1), [near[:1], near[1:2]], 10) == 0
    assert assign(arrived, (0, 1), [near[:2], near[2:]], 10) == 1
    assert assign(arrived, (0, 1), [far, near[:1]], 10) == 0
    assert assign(arrived, (1, 2), [[], near[:1], near[1:2]], 10) == 1
    assert assign(arrived, (1,), [[], near], 10) == 1
