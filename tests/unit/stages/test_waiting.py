"""Waiting: held firings are tried in their order, when they may."""

from __future__ import annotations

from headrace.model.definition import Definition
from headrace.model.event import Event
from headrace.model.firing import firing_of
from headrace.stages.waiting import Held, Waiting, Why


def held(
    trigger: str, event_id: str, why: Why, due_s: float = 0.0, kind: str = "workflowTemplate", partition: int = 0
) -> Held:
    definition = Definition(trigger, "c", 1, "s", 1, 1, "latest", ("e",), (None,), kind, "t", {})
    firing = firing_of(definition, "", (Event(event_id, "e", 1, 0, 0, "{}"),))
    return Held(firing, partition, why, due_s, 1, 0, 0)


def test_retries_come_when_due_and_in_order() -> None:
    waiting = Waiting()
    first, second, later = (held("n/a", i, Why.RETRY, due_s) for i, due_s in (("1", 5.0), ("2", 4.0), ("3", 9.0)))
    for one in (first, second, later):
        waiting.hold(one)
    assert waiting.take_due(3.9, 10, 0, ()) == []
    assert waiting.take_due(5.0, 10, 0, ()) == [first, second]
    assert len(waiting) == 1 and later.firing.id in waiting


def test_at_most_so_many_at_once() -> None:
    waiting = Waiting()
    for index in range(5):
        waiting.hold(held("n/a", str(index), Why.RETRY))
    assert len(waiting.take_due(1.0, 2, 0, ())) == 2
    assert len(waiting) == 3


def test_paused_triggers_hold_theirs_only() -> None:
    waiting = Waiting()
    paused, free = held("n/paused", "1", Why.PAUSED), held("n/free", "2", Why.RETRY)
    waiting.hold(paused)
    waiting.hold(free)
    assert waiting.take_due(1.0, 10, 0, {"n/paused"}) == [free]
    assert waiting.take_due(1.0, 10, 0, set()) == [paused]


def test_local_flows_wait_for_slots_and_let_others_pass() -> None:
    waiting = Waiting()
    flows = [held("n/flow", str(index), Why.SLOT, kind="flow") for index in range(3)]
    other = held("n/other", "9", Why.RETRY)
    for one in (*flows, other):
        waiting.hold(one)
    assert waiting.take_due(1.0, 10, 2, ()) == [flows[0], flows[1], other]
    assert waiting.take_due(1.0, 10, 0, ()) == []
    assert waiting.take_due(1.0, 10, 1, ()) == [flows[2]]


def test_a_partition_that_is_given_back_takes_its_firings_along() -> None:
    waiting = Waiting()
    waiting.hold(held("n/a", "1", Why.RETRY, partition=1))
    waiting.hold(held("n/a", "2", Why.RETRY, partition=2))
    waiting.drop_partition(1)
    assert [h.partition for h in waiting.take_due(1.0, 10, 0, ())] == [2]
