"""The verdict on a run of chaos bites: each thing that may go wrong turns an exact run into a failed one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from headrace.model.dead_letter import Reason
from tests.chaos.load import PoisonPlace, Reached
from tests.chaos.sets import SetName
from tests.chaos.verdict import Injected, Verdict, caught_up_s
from tests.support.engine import Row
from tests.support.kube import KubeObject

EXPECTED: dict[SetName, dict[str, str]] = {
    ("single", 1): {"set": "1", "text": "a"},
    ("pair", 2): {"set": "2", "left": "b", "right": "c"},
}
PLACE: PoisonPlace = ("left", 0, 7)


class Seen:
    """What a run without a fault shows."""

    def __init__(self) -> None:
        self.workflows = [workflow(name, parameters) for name, parameters in EXPECTED.items()]
        self.runs = [("single", "firing-single-1", "queued")]
        self.runs += [(trigger, f"firing-{trigger}-{number}", "started") for trigger, number in EXPECTED]
        self.letters: list[Row] = [letter(PLACE, Reason.NOT_JSON)]
        self.records_before_fault = 5

    def verdict(self) -> Verdict:
        verdict = Verdict(seed=1, sets=len(EXPECTED), records=10)
        verdict.check_workflows(self.workflows, EXPECTED)
        verdict.check_runs(self.workflows, self.runs)
        verdict.check_dead_letters(self.letters, {PLACE: Reason.NOT_JSON})
        verdict.faults.append(Injected("join killed", 1.0, 0.1, Reached(self.records_before_fault, 1), 1, ""))
        verdict.check_faults()
        return verdict


def workflow(name: SetName, parameters: dict[str, str]) -> KubeObject:
    trigger, number = name
    return {
        "metadata": {
            "name": f"{trigger}-{number}",
            "annotations": {"headrace.dev/trigger": f"somewhere/{trigger}"},
            "labels": {"headrace.dev/firing": f"firing-{trigger}-{number}"},
        },
        "spec": {"arguments": {"parameters": [{"name": n, "value": v} for n, v in parameters.items()]}},
    }


def letter(place: PoisonPlace, reason: Reason) -> Row:
    topic, partition, offset = place
    return {"topic": topic, "partition": partition, "offset": offset, "reason": reason.value, "message": "why"}


def again(workflows: list[KubeObject]) -> None:
    workflows.append(copy.deepcopy(workflows[0]))


def with_other_parameter(workflows: list[KubeObject]) -> None:
    workflows[1]["spec"]["arguments"]["parameters"][2]["value"] = "b"


def test_a_run_without_a_fault_is_exact() -> None:
    assert Seen().verdict().word == "exact"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda seen: again(seen.workflows), id="twice"),
        pytest.param(lambda seen: seen.workflows.pop(), id="missing"),
        pytest.param(lambda seen: with_other_parameter(seen.workflows), id="wrong parameters"),
        pytest.param(
            lambda seen: seen.workflows.append(workflow(("pair", 3), {"set": "3"})), id="of an incomplete set"
        ),
        pytest.param(lambda seen: seen.workflows.append(workflow(("pair", 3), {})), id="of no set"),
        pytest.param(lambda seen: seen.runs.pop(), id="no run on record"),
        pytest.param(lambda seen: seen.runs.append(("single", "firing-4", "started")), id="a run without a Workflow"),
        pytest.param(lambda seen: seen.runs.append(("single", "firing-5", "queued")), id="still queued"),
        pytest.param(lambda seen: seen.letters.clear(), id="poison without its dead letter"),
        pytest.param(lambda seen: seen.letters.append(letter(("left", 0, 8), Reason.LATE)), id="another dead letter"),
    ],
)
def test_whatever_goes_wrong_shows(change: Callable[[Seen], Any]) -> None:
    seen = Seen()
    change(seen)
    assert seen.verdict().word == "FAILED"


def test_a_fault_after_the_load_proves_nothing() -> None:
    seen = Seen()
    seen.records_before_fault = 10
    assert seen.verdict().word == "INVALID"


def test_recovery_lasts_until_the_last_set_has_its_first_workflow() -> None:
    found = {("single", 1): {"a": 12.0}, ("pair", 2): {"b": 15.0, "c": 90.0}}
    assert caught_up_s(found, EXPECTED, 10.0) == 5.0
    assert caught_up_s(found, EXPECTED, 20.0) == 0.0
    assert caught_up_s(found, [*EXPECTED, ("pair", 9)], 10.0) is None
