"""Two thousand sets of events become two thousand Workflows: no more, no fewer, whatever is killed on the way.

The events come from plain producers that know nothing of Headrace: bare JSON, in random order. Some are written twice
or thrice; only those carry an id, for without one two records are two events.
"""

from __future__ import annotations

import json
import random
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.engine import Engine
from tests.support.kafka import DEADLINE_S
from tests.support.kube import KubeServer, WorkflowWatch, watch_workflow_uids
from tests.support.tenant import Bare, Tenant, parameters_of

SINGLES = 1000
PAIRS = 1000
DUPLICATED_SHARE = 0.1
EVENT_PARTITIONS = 4
BATCH_RECORDS = 200
# How far the producer may run ahead of the Workflows, so that there is always work in flight, and never all of it.
AHEAD_WORKFLOWS = 600
COUNT_TIMEOUT_S = 2 * DEADLINE_S

Expected = set[tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Script:
    """What is produced, in which order, and what must come of it."""

    records: list[Bare]
    expected: dict[str, Expected]
    """Template -> the sorted parameters of each of its Workflows."""


def write_script(tenant: Tenant, seed: int) -> Script:
    """Draw the events' order and duplicates; `seed` repeats them."""
    chance = random.Random(seed)
    records: list[Bare] = []
    single, left, right = (tenant.event(word) for word in ("single", "left", "right"))
    expected: dict[str, Expected] = {"single": set(), "pair": set()}

    def add(event: str, payload: dict[str, object]) -> None:
        value = json.dumps(payload).encode()
        if chance.random() < DUPLICATED_SHARE:
            headers = [("ce_id", f"{event}/{chance.getrandbits(64):016x}".encode())]
            records.extend([Bare(event, value, headers)] * chance.choice((2, 3)))
        else:
            records.append(Bare(event, value))

    for number in range(SINGLES):
        text = f"s{chance.getrandbits(32):08x}"
        add(single, {"n": number, "text": text, "not_declared": True})
        expected["single"].add((("n", str(number)), ("text", text)))
    for number in range(PAIRS):
        a, b = chance.getrandbits(32), f"b{chance.getrandbits(32):08x}"
        add(left, {"k": number, "a": {"value": a}})
        add(right, {"k": number, "b": b})
        expected["pair"].add((("a", json.dumps({"value": a}, separators=(",", ":"))), ("b", b), ("k", str(number))))
    chance.shuffle(records)
    return Script(records, expected)


def set_up(engine: Engine, kube: KubeServer) -> Tenant:
    """Deploy one trigger for the single events and one for the pairs."""
    tenant = Tenant(engine, kube, {"bootstrap.servers": engine.bootstrap_servers})
    tenant.template("single", {"n": None, "text": None})
    tenant.template("pair", {"k": None, "a": None, "b": None})
    single, left, right = (tenant.event(word) for word in ("single", "left", "right"))
    tenant.create_topics(dict.fromkeys((single, left, right), EVENT_PARTITIONS))
    tenant.deploy(
        tenant.trigger("single", [single], "single"),
        tenant.trigger("pair", [{"name": name, "key": "event.k"} for name in (left, right)], "pair"),
    )
    return tenant


def produce(tenant: Tenant, script: Script, watch: WorkflowWatch, between: Callable[[float], None]) -> None:
    """Produce the script in batches, never far ahead of the Workflows; `between` is told how much is produced."""
    share = (SINGLES + PAIRS) / len(script.records)
    for start in range(0, len(script.records), BATCH_RECORDS):
        produced = start + BATCH_RECORDS
        tenant.produce(script.records[start:produced])
        between(produced / len(script.records))
        # Pairs complete late in a random order, so the share is a bound that is certainly reached.
        watch.wait_for(max(0, int(complete_sets(script.records[:produced]) * 1.0) - AHEAD_WORKFLOWS), COUNT_TIMEOUT_S)
    assert share > 0


def complete_sets(records: list[Bare]) -> int:
    """How many Workflows these records must lead to by themselves."""
    singles: set[bytes] = set()
    sides: dict[int, set[str]] = {}
    for record in records:
        payload = json.loads(record.value or b"")
        if "n" in payload:
            singles.add(record.value or b"")
        else:
            sides.setdefault(payload["k"], set()).add(record.event)
    return len(singles) + sum(len(side) == 2 for side in sides.values())


def check(tenant: Tenant, script: Script, watch: WorkflowWatch) -> None:
    """Hold the engine to its promise, once nothing is left to do."""
    tenant.settle(*(tenant.event(word) for word in ("single", "left", "right")))
    seen = watch.wait_for(SINGLES + PAIRS, COUNT_TIMEOUT_S)
    by_template: dict[str, list[tuple[tuple[str, str], ...]]] = {"single": [], "pair": []}
    for workflow in seen.values():
        template = workflow["spec"]["workflowTemplateRef"]["name"]
        by_template[template].append(tuple(sorted(parameters_of(workflow).items())))
    for template, expected in script.expected.items():
        found = by_template[template]
        assert set(found) == expected
        assert len(found) == len(expected), f"some of the {template} Workflows are there twice"
    firings = Counter((firing, state) for _, firing, state in tenant.run_records())
    assert set(firings.values()) == {1}
    assert Counter(state for _, state in firings) == {"started": SINGLES + PAIRS}
    assert {w["metadata"]["labels"]["headrace.dev/firing"] for w in seen.values()} == {f for f, _ in firings}
    assert tenant.dead_letters() == []
    lags = [row["records"] for row in tenant.engine.cli("lag", "--json").expect(0).rows if "join" not in row["role"]]
    assert lags and not any(lags)


def test_each_set_of_events_becomes_one_workflow(idle_engine: Engine, kube: KubeServer) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    idle_engine.start_and_wait()
    tenant = set_up(idle_engine, kube)
    script = write_script(tenant, seed)
    with watch_workflow_uids(kube, tenant.namespace) as watch:
        tenant.produce(script.records)
        check(tenant, script, watch)


def test_each_set_of_events_becomes_one_workflow_though_every_role_is_killed(
    idle_engine: Engine, kube: KubeServer
) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    idle_engine.start_and_wait()
    tenant = set_up(idle_engine, kube)
    script = write_script(tenant, seed)
    kills = [(0.25, "route"), (0.5, "join"), (0.7, "submit")]

    def kill_in_turn(produced: float) -> None:
        if kills and produced >= kills[0][0]:
            idle_engine.kill(kills.pop(0)[1])

    with watch_workflow_uids(kube, tenant.namespace) as watch:
        produce(tenant, script, watch, kill_in_turn)
        assert not kills
        check(tenant, script, watch)
