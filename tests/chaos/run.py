"""One run: a load at a steady rate, the faults of a plan, and the verdict once nothing is left to do."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException

from tests.chaos.faults import FaultMissed, Scene, inject
from tests.chaos.load import OUTAGE_S, Load
from tests.chaos.plan import Kind, Planned, outage_of, plan
from tests.chaos.sets import Sets, draw
from tests.chaos.verdict import Injected, Verdict, caught_up_s
from tests.chaos.world import World, world

WINDOW = "1h"
LAG_ASKED = 20
SETTLE_S = 300.0
"""How long the last Workflow may take after the last fault, and then each step of the end."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What a run is to be."""

    seed: int
    sets: int
    faults: int
    sets_per_s: float
    directory: Path
    """Where its logs go."""


def run(order: Order, say: Say) -> Verdict:
    """Run, and return the verdict, whatever happens."""
    planned = plan(order.seed, order.faults)
    sets = draw(order.seed, order.sets, outage_of(planned))
    verdict = Verdict(order.seed, order.sets, len(sets.records))
    began_s = time.monotonic()
    try:
        with world(order.directory) as made:
            _run_in(made, order, sets, planned, verdict, say)
    except (AssertionError, RuntimeError, OSError, KafkaException) as error:
        verdict.broke_off(error)
    verdict.seconds = time.monotonic() - began_s
    return verdict


def _run_in(made: World, order: Order, sets: Sets, planned: list[Planned], verdict: Verdict, say: Say) -> None:
    # The outage ends when the clocks are right; so before it, they are behind.
    made.fleet.behind_s = OUTAGE_S if sets.outage else 0
    made.start_roles()
    made.deploy(WINDOW)
    load = Load(sets, made.tenant.event, made.client, order.sets_per_s * len(sets.records) / order.sets)
    breaking = Breaking(Scene(made, load, random.Random(f"faults {order.seed}")), verdict, say)
    say(f"seed {order.seed}: {order.sets} sets in {len(sets.records)} records, {len(planned)} faults")

    def work() -> None:
        breaking.work(planned)
        load.finish(SETTLE_S)
        say(f"  {breaking.now_s:6.1f} s 100% the load is out")

    see_through(made, load, breaking, verdict, work)


def see_through(made: World, load: Load, breaking: Breaking, verdict: Verdict, work: Callable[[], None]) -> None:
    """Start the load, do the work that lets it out, wait for what must come, and judge, whatever happens."""
    load.start()
    try:
        work()
        await_all(made, load.sets)
        made.tenant.settle(*made.events, deadline_s=SETTLE_S)
    finally:
        load.stop()
        verdict.load_s = breaking.now_s
        breaking.note_recoveries()
        judge(made, load, verdict)
    made.fleet.stop()


class Breaking:
    """Injects a plan's faults into a load, each when the load has got so far; the load never gets further without."""

    def __init__(self, scene: Scene, verdict: Verdict, say: Say) -> None:
        """Begin now; what is injected goes to the verdict."""
        self._scene, self._verdict, self._say = scene, verdict, say
        self._began_s = time.monotonic()
        self._ends: list[tuple[float, int]] = []
        """Of each fault its end, and how many sets were complete then."""

    @property
    def now_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began_s

    def work(self, planned: list[Planned]) -> None:
        """Inject all faults, and let the load go on to its end."""
        load = self._scene.load
        records = len(load.sets.records)
        due = thresholds(planned, load.sets)
        for fault, at, next_at in zip(planned, due, [*due[1:], records], strict=True):
            load.allow(at)
            load.wait_for(at)
            # An outage itself lets out what belongs to it, once nothing runs; otherwise the load goes on meanwhile.
            if fault.kind is not Kind.OUTAGE:
                load.allow(next_at)
            self.inject(fault)
            load.allow(next_at)
        self._verdict.check_faults()
        load.allow(records)

    def inject(self, fault: Planned) -> None:
        """Inject one fault now."""
        load, at_s = self._scene.load, self.now_s
        injected = Injected(str(fault), at_s, 0.0, load.reached, len(self._scene.world.watch.found), "")
        self._verdict.faults.append(injected)
        try:
            injected.note = inject(fault, self._scene)
        except FaultMissed as missed:
            injected.note = str(missed)
            self._verdict.invalid.append(f"{fault}: {missed}")
        injected.lasted_s = self.now_s - at_s
        self._ends.append((time.monotonic(), load.reached.sets))
        share = injected.before.records / len(load.sets.records)
        self._say(f"  {at_s:6.1f} s {share:4.0%} {fault}: {injected.lasted_s:.1f} s {injected.note}".rstrip())

    def note_recoveries(self) -> None:
        """Tell of each fault how long it took until it was made up for, as far as that has happened by now."""
        found, completed = self._scene.world.watch.found, self._scene.load.completed
        for injected, (ended_s, sets) in zip(self._verdict.faults, self._ends, strict=False):
            injected.caught_up_s = caught_up_s(found, completed[:sets], ended_s)


def thresholds(planned: list[Planned], sets: Sets) -> list[int]:
    """Return after how many records each fault is due; an outage begins where its records do."""
    due: list[int] = []
    earliest, latest = 0, sets.outage.start if sets.outage else len(sets.records)
    for fault in planned:
        at = min(max(earliest, round(fault.share * (len(sets.records) - 1))), latest)
        if fault.kind is Kind.OUTAGE:
            at, earliest, latest = sets.outage.start, sets.outage.stop, len(sets.records)
        due.append(at)
    return due


def await_all(made: World, sets: Sets) -> None:
    """Wait for every set's Workflow; where none has come for long, what is missing is left to the verdict."""
    count, since_s = -1, time.monotonic()
    while not sets.expected.keys() <= made.watch.found.keys() and time.monotonic() - since_s < SETTLE_S:
        if len(made.watch.found) != count:
            count, since_s = len(made.watch.found), time.monotonic()
        time.sleep(0.2)


def judge(made: World, load: Load, verdict: Verdict) -> None:
    """Hold everything that is against what must be."""
    engine, tenant = made.engine, made.tenant
    seen = list(made.watch.seen.values())
    verdict.check_workflows(seen, load.sets.expected)
    verdict.check_runs(seen, tenant.run_records())
    verdict.check_dead_letters(engine.here("deadletters", "list", "--json").expect(0).rows, load.poison)
    lags = [sum(row["records"] for row in engine.here("lag", "--json").expect(0).rows) for _ in range(LAG_ASKED)]
    # Ticks keep the join's topic moving, so its lag is zero between two of them.
    verdict.lag = min(lags)
    verdict.ended, verdict.watch_gaps = dict(made.fleet.ended), made.watch.gaps
    verdict.failures += [f"a traceback is in {name}" for name in made.fleet.tracebacks()]
