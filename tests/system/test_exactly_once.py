"""Two thousand sets of events become two thousand Workflows: no more, no fewer, whatever is killed on the way.

The events come from plain producers that know nothing of Headrace. A watch at the API server counts every Workflow that
ever was, so one that came twice and was deleted in between would be seen.
"""

from __future__ import annotations

import secrets

import pytest

from tests.support.engine import Engine
from tests.support.event_sets import COUNT_TIMEOUT_S, EventSets
from tests.support.kube import KubeServer, watch_workflow_uids
from tests.support.tenant import Tenant

SETS = 1000
BATCH_RECORDS = 200
# How far the producer may run ahead of the Workflows. Small, so that whoever is killed has done much of its work, has
# hundreds of events waiting for others, and is in the midst of the rest.
AHEAD_WORKFLOWS = 100
# After which share of the records which roles are killed.
KILLS: tuple[tuple[float, tuple[str, ...]], ...] = ((0.25, ("route",)), (0.55, ("join", "submit")))


@pytest.fixture
def sets(mortal_engine: Engine, kube: KubeServer) -> EventSets:
    """The sets, drawn anew for each test; the engine runs, and the triggers are deployed."""
    mortal_engine.start_and_wait()
    tenant = Tenant(mortal_engine, kube, {"bootstrap.servers": mortal_engine.bootstrap_servers})
    drawn = EventSets(tenant, SETS, SETS, secrets.randbits(32))
    print(f"seed {drawn.seed}")
    drawn.deploy()
    return drawn


def lags(engine: Engine) -> list[int]:
    return [row["records"] for row in engine.here("lag", "--json").expect(0).rows]


def test_each_set_of_events_becomes_one_workflow(sets: EventSets) -> None:
    engine = sets.tenant.engine
    with watch_workflow_uids(sets.tenant.kube, sets.tenant.namespace) as watch:
        sets.tenant.produce(sets.records)
        sets.check(watch)
    # Ticks keep the join's topic moving, so its lag is zero between two of them.
    engine.wait_until(lambda: not any(lags(engine)), "a lag of zero everywhere")


def test_each_set_of_events_becomes_one_workflow_though_every_role_is_killed(sets: EventSets) -> None:
    engine, kills = sets.tenant.engine, list(KILLS)
    with watch_workflow_uids(sets.tenant.kube, sets.tenant.namespace) as watch:
        for begin in range(0, len(sets.records), BATCH_RECORDS):
            end = begin + BATCH_RECORDS
            sets.tenant.produce(sets.records[begin:end])
            if kills and end >= kills[0][0] * len(sets.records):
                for role in kills.pop(0)[1]:
                    engine.kill(role)
            watch.wait_for(max(0, sets.complete(end) - AHEAD_WORKFLOWS), COUNT_TIMEOUT_S)
        assert not kills
        sets.check(watch)
