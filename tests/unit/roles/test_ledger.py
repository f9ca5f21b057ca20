"""What a submitter reads back of the runs before it."""

from __future__ import annotations

import pytest

from headrace.model.run import Run, RunState
from headrace.roles.ledger import Ledger, take_run


def run(state: RunState, target: str = "workflowTemplate:t") -> bytes:
    """A record of the runs topic."""
    firing = "RmlyaW5n" if state is RunState.QUEUED else None
    return Run(
        firing="f", trigger="ml/t", state=state, time_ms=0, fired_ms=0, target=target, firing_bytes=firing
    ).encode()


def ledger_of(*records: bytes) -> Ledger:
    """The ledger after these records of one firing."""
    ledger = Ledger()
    for record in records:
        take_run(ledger, "f", record)
    return ledger


def test_a_firing_that_was_queued_last_is_tried_again() -> None:
    assert ledger_of(run(RunState.QUEUED)).queued.keys() == {"f"}


def test_a_started_workflow_is_not_queued_again_by_a_submitter_that_had_lost_the_partition() -> None:
    ledger = ledger_of(run(RunState.QUEUED), run(RunState.STARTED), run(RunState.QUEUED))
    assert ledger.queued == {}
    assert ledger.states == {"f": RunState.STARTED}


def test_a_local_process_that_could_not_start_is_queued_again_after_its_intent() -> None:
    flow = "flow:/flows/f.py"
    ledger = ledger_of(run(RunState.STARTED, flow), run(RunState.QUEUED, flow))
    assert ledger.queued.keys() == {"f"}
    assert ledger.open_local == {}


@pytest.mark.parametrize("ended", [RunState.REFUSED, RunState.FAILED, RunState.UNKNOWN])
def test_the_retry_of_an_ended_run_is_queued_again(ended: RunState) -> None:
    assert ledger_of(run(ended), run(RunState.QUEUED)).queued.keys() == {"f"}
