"""One seed from its beginning to its verdict."""

from __future__ import annotations

import asyncio
import logging
import random
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from headrace.edges import metrics
from headrace.settings import Settings
from tests.simulation.faults import CRASHES, Kind
from tests.simulation.judge import Judge
from tests.simulation.kubernetes import Cluster
from tests.simulation.process import Killed
from tests.simulation.roles import Slot, run_join, run_route, run_submit_at
from tests.simulation.rules import TEMPLATES, TOPICS
from tests.simulation.scenario import TOPIC_PARTITIONS, Deployer, Publisher, scenario_rules
from tests.simulation.verdict import conclude, unfinished
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.world import NAMES, SESSIONS_S, World

PUBLISH_S = 60.0
FAULTS_S = 80.0
DRAIN_S_MAX = 500.0


@dataclass(frozen=True)
class Result:
    """What came of one seed."""

    seed: int
    violation: str | None
    counts: Counter[str]
    """Of faults, and of what happened."""
    digest: int
    """Of the whole trace: the same for the same seed."""


def simulate(seed: int, verbose: bool = False) -> Result:
    """Run one seed."""
    logging.disable(logging.CRITICAL)
    # The roles' own chance (the jitter of retries) must follow from the seed too.
    random.seed(seed)
    # Metrics outlive a scenario; this one is looked at.
    metrics.STALLED.set(0)
    loop = VirtualLoop()
    lateness_ms = Random(seed).choice([15_000, 60_000])
    settings = Settings(bootstrap_servers="simulated", topics=NAMES, window_ms=20_000, lateness_ms=lateness_ms)
    world = World(seed, loop, settings, verbose)
    world.judge = Judge(world, lateness_ms)
    world.log.on_append = world.judge.appended
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(lambda _, context: _unexpected(world, context))
    try:
        loop.run_until_complete(_scenario(world))
    finally:
        _end(loop)
    return Result(seed, world.judge.violation, _counts(world), world.trace.digest)


async def _scenario(world: World) -> None:
    for topic in TOPICS:
        world.log.create(topic, TOPIC_PARTITIONS)
    rules, fresh = scenario_rules(world)
    deployer = Deployer(world)
    for rule in rules:
        deployer.deploy(rule, 0)
    cluster = Cluster(world, TEMPLATES)
    runs = {"route": run_route, "join": run_join, "submit": run_submit_at(cluster)}
    slots = [Slot(world, role, number, run) for role, run in runs.items() for number in (1, 2)]
    background = [
        world.watch_sessions(),
        cluster.collect(),
        Publisher(world, [*rules, fresh]).publish(PUBLISH_S),
        deployer.change(PUBLISH_S, fresh),
        _nemesis(world, slots),
        *(slot.keep_running() for slot in slots),
    ]
    tasks = [world.loop.create_task(work) for work in background]
    with suppress(TimeoutError):
        await asyncio.wait_for(world.judge.violated.wait(), FAULTS_S)
    world.faults.healed = True
    world.trace("world", "faults stop")
    deployer.resume_all()
    left: str | None = "nothing was looked at"
    while left is not None and world.judge.violation is None:
        await asyncio.sleep(2.0)
        left = unfinished(world, world.judge)
        if left is not None and world.loop.now_s > FAULTS_S + DRAIN_S_MAX:
            world.judge.complain(f"not drained {DRAIN_S_MAX:g} s after the faults had stopped: {left}")
    if world.judge.violation is None:
        conclude(world, world.judge)
    for task in tasks:
        if task.done() and (error := task.exception()) is not None:
            raise error
    for slot in slots:
        if slot.process is not None:
            slot.process.die("ends with the scenario")


async def _nemesis(world: World, slots: list[Slot]) -> None:
    """Kill, pause and stop processes at random moments."""
    random = Random(world.seed + 5)
    pause_s = random.choice([4.0, 8.0, 20.0])
    while not world.faults.healed:
        await asyncio.sleep(random.uniform(0.5, 2 * pause_s))
        process = random.choice(slots).process
        if process is None or world.faults.healed:
            continue
        choice = random.random()
        if choice < 0.35:
            world.faults.note(CRASHES[process.role])
            process.die("is killed")
        elif choice < 0.5:
            world.faults.note(Kind.STOP)
            world.trace(process.name, "is asked to stop")
            process.stop()
        else:
            session_s = SESSIONS_S[process.role]
            beyond = random.random() < 0.5
            if beyond:
                world.faults.note(Kind.ZOMBIE)
            seconds = session_s * random.uniform(1.0, 1.6) if beyond else random.uniform(0.5, session_s)
            process.paused_until_s = world.loop.now_s + seconds
            process.holds_back = random.random() < 0.5
            world.trace(process.name, f"is paused for {seconds:.1f} s")


def _unexpected(world: World, context: dict[str, Any]) -> None:
    error = context.get("exception")
    # Tasks of the dead are left lying about; only what fails is of interest.
    if error is not None and not isinstance(error, Killed):
        world.judge.complain(f"{context['message']}: {''.join(traceback.format_exception(error))}")


def _counts(world: World) -> Counter[str]:
    judge = world.judge
    counts = Counter(world.faults.counts)
    counts["events"] = len(judge.published)
    counts["workflows"] = judge.created_by_set.total()
    counts["complete sets"] = len(judge.complete)
    counts["joined sets"] = sum(complete.rule.joins for complete in judge.complete.values())
    counts["expired"] = sum(referee.expired for referee in judge.referees)
    counts["refused"] = sum("refused" in states for states in judge.runs.values())
    counts["dead letters"] = len(judge.letters)
    counts.update({f"match {kind}": count for kind, count in judge.outcomes.items()})
    counts["seconds"] = round(world.loop.now_s)
    counts["stalled"] = judge.stalled
    return counts


def _end(loop: VirtualLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.set_exception_handler(lambda *_: None)
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=1000))
    loop.close()
    asyncio.set_event_loop(None)
