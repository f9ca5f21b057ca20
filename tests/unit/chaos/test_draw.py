"""What a seed draws: the same each time, every kind of fault, and sets that are complete by event time."""

from __future__ import annotations

from tests.chaos.plan import OF_ONE_ROLE, Kind, outage_of, plan
from tests.chaos.run import thresholds
from tests.chaos.sets import SetName, draw
from tests.chaos.soak import REPLACING, SURVIVABLE
from tests.support.engine import ROLES

SETS = 2000


def test_a_seed_draws_the_same_load_and_the_same_plan_again() -> None:
    assert plan(7, 20) == plan(7, 20) != plan(8, 20)
    first, second = (draw(7, SETS, (0.4, 0.5)) for _ in range(2))
    assert (first.records, first.expected) == (second.records, second.expected)


def test_as_many_faults_as_there_are_kinds_hold_each_kind_once() -> None:
    for seed in range(20):
        assert sorted(fault.kind for fault in plan(seed, len(Kind))) == sorted(Kind)
        three = [fault for turn in range(3) for fault in plan(seed + turn, len(Kind))]
        for kind in OF_ONE_ROLE:
            assert {fault.role for fault in three if fault.kind is kind} == set(ROLES)
    assert {Kind.OUTAGE, Kind.DELETED, Kind.ROLLED, Kind.SCALED, Kind.API_STOPPED, Kind.BROKER_KILLED} == set(Kind) - {
        *REPLACING,
        *SURVIVABLE,
    }


def test_each_set_lies_before_within_or_behind_the_outage() -> None:
    for seed in range(5):
        planned = plan(seed, 20)
        sets = draw(seed, SETS, outage_of(planned))
        places: dict[SetName, list[int]] = {}
        for index, record in enumerate(sets.records):
            for name, _ in record.parts:
                places.setdefault(name, []).append(index)
        assert places.keys() == sets.expected.keys() and len(places) == SETS
        for indexes in places.values():
            inside = [index in sets.outage for index in indexes]
            assert all(inside) or not any(inside)
            assert min(indexes) >= sets.outage.stop or max(indexes) < sets.outage.stop
            # The outage's records cover two hours evenly; a window is one.
            assert not all(inside) or max(indexes) - min(indexes) < len(sets.outage) / 2
        due = thresholds(planned, sets)
        assert due == sorted(due) and due[-1] < len(sets.records)
        assert sets.outage.start in due
