"""The verdict of the demo: it is worth something only if it sees each thing that can go wrong."""

from __future__ import annotations

from typing import Any

from headrace.cli.demo.board import Board, SeenRun
from headrace.cli.demo.plan import Plan, margin, refresh
from headrace.cli.demo.verdict import Expectations, Finding, findings, other_problems
from headrace.model.dead_letter import DeadLetter, Reason
from headrace.model.run import Run, RunEvent, RunState
from headrace.stages.changelog import head_changes
from headrace.stages.head import new_head
from tests.unit.stages.build import make_definition, make_event

SESSION = "7f3a"
JOIN = "demo/daily-margin"
REFRESH = refresh("d1", "north", 5200, 14)
MARGIN = margin(("o1", "p1"), "west", "2026-11-23", 64, "v8", 3.5)


def expectations(**more: Any) -> Expectations:
    expected = Expectations(SESSION)
    expected.add(Plan((), (REFRESH, MARGIN), **more))
    return expected


def run(firing: str, trigger: str, *labels: str, state: RunState = RunState.STARTED, time_ms: int = 0) -> Run:
    events = [RunEvent(dependency=x, id=f"{x}-{SESSION}", name=x, time_ms=0) for x in labels]
    return Run(
        firing=firing, trigger=trigger, state=state, time_ms=time_ms, fired_ms=0, target="flow:f.py", events=events
    )


def board_of(*runs: Run) -> Board:
    board = Board({JOIN: ["orders_loaded", "prices_loaded"]})
    for record in runs:
        board.take_run(record)
    for seen in board.runs.values():
        if seen.run.state is RunState.SUCCEEDED:
            seen.saw = saw(seen)
    return board


def saw(seen: SeenRun) -> dict[str, Any]:
    return dict((REFRESH if seen.run.trigger == REFRESH.trigger else MARGIN).parameters)


def succeeded(firing: str, trigger: str, *labels: str) -> tuple[Run, Run]:
    return run(firing, trigger, *labels), run(firing, trigger, *labels, state=RunState.SUCCEEDED, time_ms=2500)


def problems(found: list[Finding]) -> dict[tuple[str, ...], str | None]:
    return {finding.labels: finding.problem for finding in found}


RIGHT = (*succeeded("f1", REFRESH.trigger, "d1"), *succeeded("f2", MARGIN.trigger, "o1", "p1"))


def test_what_is_as_expected_has_no_problem_and_its_times() -> None:
    found = findings(expectations(), board_of(*RIGHT))
    assert problems(found) == {("d1",): None, ("o1", "p1"): None}
    assert [finding.seen.took_s for finding in found if finding.seen] == [2.5, 2.5]


def test_a_run_that_never_came_is_a_problem() -> None:
    found = findings(expectations(), board_of(*RIGHT[:2]))
    assert problems(found) == {("d1",): None, ("o1", "p1"): "it never came"}


def test_a_run_that_nothing_was_to_start_is_a_problem() -> None:
    found = findings(expectations(), board_of(*RIGHT, *succeeded("f3", REFRESH.trigger, "d2")))
    assert problems(found)[(f"d2-{SESSION}",)] == "nothing was to start it"


def test_a_pair_of_the_wrong_events_is_a_problem_twice() -> None:
    found = findings(expectations(), board_of(*RIGHT[:2], *succeeded("f2", MARGIN.trigger, "o1", "p2")))
    assert problems(found)[(f"o1-{SESSION}", f"p2-{SESSION}")] == "nothing was to start it"
    assert problems(found)[("o1", "p1")] == "it never came"


def test_a_second_firing_of_the_same_events_is_a_problem() -> None:
    found = findings(expectations(), board_of(*RIGHT, *succeeded("f3", REFRESH.trigger, "d1")))
    assert sorted(str(finding.problem) for finding in found) == ["None", "None", "it was started before"]


def test_a_failed_run_is_a_problem_with_its_reason() -> None:
    failed = run("f1", REFRESH.trigger, "d1", state=RunState.FAILED).model_copy(update={"message": "status 3"})
    assert problems(findings(expectations(), board_of(failed)))[("d1",)] == "failed: status 3"


def test_a_run_that_metaflow_does_not_know_once_is_a_problem() -> None:
    board = board_of(*RIGHT)
    board.runs["f1"].saw = None
    assert "Metaflow does not know" in str(problems(findings(expectations(), board))[("d1",)])


def test_a_parameter_of_another_value_or_type_is_a_problem() -> None:
    board = board_of(*RIGHT)
    board.runs["f1"].saw = {**REFRESH.parameters, "rows": 5201}
    board.runs["f2"].saw = {**MARGIN.parameters, "orders": "64"}
    found = problems(findings(expectations(), board))
    assert found[("d1",)] == "rows is 5201, not 5200"
    assert found[("o1", "p1")] == "orders is '64', not 64"


def letter(label: str, reason: Reason) -> DeadLetter:
    return DeadLetter(
        id=label,
        kind="event",
        reason=reason,
        message="m",
        topic="t",
        partition=0,
        offset=0,
        time_ms=0,
        event_id=f"{label}-{SESSION}",
    )


def test_what_is_set_aside_must_be_what_was_expected() -> None:
    expected = expectations(set_aside={"o10": "late"})
    assert other_problems(expected, board_of()) == [f"o10-{SESSION} was used, and should have been set aside as late"]
    board = board_of()
    board.take_letter(letter("o10", Reason.LATE))
    assert other_problems(expected, board) == []
    board.take_letter(letter("o11", Reason.BAD_KEY))
    assert other_problems(expected, board) == [f"o11-{SESSION} was set aside as bad-key, and should have been used"]


def test_what_waits_must_be_what_was_expected() -> None:
    definition = make_definition(("orders_loaded", "prices_loaded"), trigger=JOIN, window_ms=1000)
    head = new_head(definition, '"north"')
    head.add(0, make_event(f"o9-{SESSION}", "orders_loaded"))
    board = board_of()
    for key, value in head_changes(head)[0]:
        board.take_join(3, key, value)
    assert other_problems(expectations(waiting=frozenset({"o9"})), board) == []
    assert other_problems(expectations(), board) == [f"o9-{SESSION} waits for a partner, and should not"]
    assert other_problems(expectations(waiting=frozenset({"o9", "o8"})), board) == [
        f"o8-{SESSION} should wait for a partner"
    ]
    (join,) = board.waiting
    assert (join.key, join.lacks) == ('"north"', ("prices_loaded",))
