"""The verdict: what was expected against what was seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.cli.demo.board import Board, SeenRun
from headrace.cli.demo.plan import ExpectedRun, Plan
from headrace.model.run import RunState

Identity = tuple[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One run, expected or seen or both."""

    trigger: str
    labels: tuple[str, ...]
    expected: Mapping[str, Any]
    seen: SeenRun | None
    problem: str | None
    """What is wrong with it; None where it is as expected."""


class Expectations:
    """What must come of the events that this demo publishes. Labels become event ids by the session's own suffix."""

    def __init__(self, session: str) -> None:
        """Expect nothing yet."""
        self._session = session
        self.runs: dict[Identity, ExpectedRun] = {}
        self.waiting: set[str] = set()
        self.set_aside: dict[str, str] = {}

    def event_id(self, label: str) -> str:
        """Return the id of the event with this label."""
        return f"{label}-{self._session}"

    def add(self, plan: Plan) -> None:
        """Expect what a plan names."""
        for run in plan.runs:
            self.runs[(run.trigger, frozenset(map(self.event_id, run.labels)))] = run
        self.waiting.update(map(self.event_id, plan.waiting))
        self.set_aside.update({self.event_id(label): reason for label, reason in plan.set_aside.items()})

    def ended(self, board: Board) -> int:
        """Count the expected runs that have ended."""
        return sum(seen.run.ended for seen in board.runs.values() if seen.identity in self.runs)


def findings(expectations: Expectations, board: Board) -> list[Finding]:
    """Compare every run, expected or seen, in the order in which they were seen; those that nobody saw come last."""
    found = []
    once: set[Identity] = set()
    for seen in board.runs.values():
        expected = expectations.runs.get(seen.identity)
        if expected is None or seen.identity in once:
            problem = "nothing was to start it" if expected is None else "it was started before"
            labels = tuple(event.id for event in seen.run.events)
            found.append(Finding(seen.run.trigger, labels, {}, seen, problem))
            continue
        once.add(seen.identity)
        found.append(Finding(expected.trigger, expected.labels, expected.parameters, seen, _problem(expected, seen)))
    missing = [run for identity, run in expectations.runs.items() if identity not in once]
    found.extend(Finding(run.trigger, run.labels, run.parameters, None, "it never came") for run in missing)
    return found


def _problem(expected: ExpectedRun, seen: SeenRun) -> str | None:
    if seen.run.state is not RunState.SUCCEEDED:
        return f"{seen.run.state}: {seen.run.message}" if seen.run.message else f"still {seen.run.state}"
    if seen.saw is None:
        return "Metaflow does not know of exactly one successful run for it"
    wrong = [
        f"{name} is {seen.saw[name]!r}, not {value!r}"
        for name, value in expected.parameters.items()
        if (type(seen.saw[name]), seen.saw[name]) != (type(value), value)
    ]
    return "; ".join(wrong) or None


def other_problems(expectations: Expectations, board: Board) -> list[str]:
    """Compare what is set aside, and what waits, in the end; return a sentence for each difference."""
    problems = []
    aside = {letter.event_id or letter.id: str(letter.reason) for letter in board.letters}
    for event_id in sorted(aside.keys() | expectations.set_aside.keys()):
        expected, seen = expectations.set_aside.get(event_id), aside.get(event_id)
        if expected != seen:
            problems.append(f"{event_id} was {_aside(seen)}, and should have been {_aside(expected)}")
    waiting = {event_id for join in board.waiting for _, event_id in join.holds}
    for event_id in sorted(waiting ^ expectations.waiting):
        is_or_not = "waits for a partner, and should not" if event_id in waiting else "should wait for a partner"
        problems.append(f"{event_id} {is_or_not}")
    return problems


def _aside(reason: str | None) -> str:
    return f"set aside as {reason}" if reason else "used"
