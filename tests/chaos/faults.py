"""The faults: how each is brought about, and undone where that is part of it."""

from __future__ import annotations

import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.load import OUTAGE_S, Load
from tests.chaos.plan import Kind, Planned
from tests.chaos.sets import poison
from tests.chaos.world import DEADLINE_S, World
from tests.support.engine import ROLES
from tests.support.kafka import wait_until
from tests.support.kube_gateway import FAIR, Weather

CREATION = "POST /apis/argoproj.io"
WEATHER_S = 6.0
FELT_WITHIN_S = 60.0
BROKER_AWAY_S = 3.0
API_AWAY_S = 5.0
# A request is given up after 10 s.
ANSWER_LATE_S = 11.0
BURST_POISON = 40
BURST_DUPLICATES = 400


class FaultMissed(Exception):
    """A fault met nothing, so that a run with it proves less than it seems to."""


@dataclass(frozen=True)
class Scene:
    """What a fault may lay hands on."""

    world: World
    load: Load
    chance: random.Random


def inject(fault: Planned, scene: Scene) -> str:
    """Bring a fault about and return once it is over, apart from what it leaves to recover from.

    Returns:
        what is worth to know of it besides.

    Raises:
        FaultMissed: there was nothing that it could befall.
        AssertionError: the fault could not be brought about, or what is told to stop cleanly did not.
    """
    return _FAULTS[fault.kind](scene, fault.role or "")


def _killed(scene: Scene, role: str) -> str:
    scene.world.fleet.kill(role)
    return ""


def _terminated(scene: Scene, role: str) -> str:
    scene.world.fleet.terminate(role)
    scene.world.fleet.start(role)
    return ""


def _frozen(scene: Scene, role: str) -> str:
    """Freeze a process until the group has given its partitions to others, then let it go on as a zombie."""
    world, fleet = scene.world, scene.world.fleet
    fleet.start(role)
    world.wait_for_members(role)
    zombie = fleet.processes(role)[0]
    zombie.signal(signal.SIGSTOP)
    try:
        world.wait_for_members(role, but=zombie)
    finally:
        zombie.signal(signal.SIGCONT)
    # It finds its place again, or ends itself and is started anew.
    world.wait_for_members(role)
    fleet.terminate(role)
    return ""


def _killed_in_recovery(scene: Scene, role: str) -> str:
    """Kill it, and kill the next one at the moment at which it is given its partitions, twice."""
    world, fleet = scene.world, scene.world.fleet
    for _ in range(2):
        fleet.kill(role)
        world.wait_for_members(role)
    fleet.kill(role)
    return "3 kills"


def _scaled(scene: Scene, role: str) -> str:
    world, fleet = scene.world, scene.world.fleet
    before = fleet.count(role)
    while fleet.count(role) < 3:
        fleet.start(role)
    world.wait_for_members(role)
    fleet.terminate(role)
    world.wait_for_members(role)
    return f"{before}, 3, 2"


def _rolled(scene: Scene, role: str) -> str:
    """As a Deployment does it: a new process first, then an old one goes."""
    world, fleet = scene.world, scene.world.fleet
    restarts = 0
    for each in ROLES:
        for _ in range(fleet.count(each)):
            fleet.start(each)
            world.wait_for_members(each)
            fleet.terminate(each)
            restarts += 1
    return f"{restarts} processes"


def _wiped(scene: Scene, role: str) -> str:
    world, fleet = scene.world, scene.world.fleet
    count = fleet.count(role)
    for _ in range(count):
        fleet.take(role).kill()
    shutil.rmtree(world.engine.environment["HEADRACE_STATE"], ignore_errors=True)
    fleet.start(*[role] * count)
    return ""


def _broker_restarted(scene: Scene, role: str) -> str:
    scene.world.kafka.stop()
    _last(BROKER_AWAY_S)
    scene.world.kafka.start()
    return ""


def _broker_killed(scene: Scene, role: str) -> str:
    scene.world.kafka.kill()
    _last(BROKER_AWAY_S)
    scene.world.kafka.start()
    return ""


def _api_stopped(scene: Scene, role: str) -> str:
    scene.world.stop_api()
    _last(API_AWAY_S)
    scene.world.start_api()
    return ""


def _weather(weather: Weather, lasts_s: float = WEATHER_S) -> Callable[[Scene, str], str]:
    def befalls(scene: Scene, role: str) -> str:
        gateway = scene.world.gateway
        before = gateway.hit
        gateway.weather = weather
        try:
            _last(lasts_s)
            # Where an earlier fault still keeps everything from moving, the weather lasts until it is felt.
            deadline_s = time.monotonic() + FELT_WITHIN_S
            while gateway.hit == before and time.monotonic() < deadline_s:
                _last(0.1)
        finally:
            gateway.weather = FAIR
        if gateway.hit == before:
            raise FaultMissed(f"no request came within {FELT_WITHIN_S:g} s")
        return f"{gateway.hit - before} requests"

    return befalls


def _poisoned(scene: Scene, role: str) -> str:
    scene.load.extra([poison(scene.chance) for _ in range(BURST_POISON)])
    return f"{BURST_POISON} records"


def _duplicated(scene: Scene, role: str) -> str:
    sent = scene.load.again(BURST_DUPLICATES)
    if not sent:
        raise FaultMissed("nothing that could come again was published yet")
    return f"{sent} records"


def _deleted(scene: Scene, role: str) -> str:
    """Delete every Workflow whose run is on record, and let the submitters read every firing once more."""
    world, fleet = scene.world, scene.world.fleet
    count = fleet.count("submit")
    for _ in range(count):
        fleet.take("submit").kill()
    wait_until(lambda: world.gateway.creating == 0, "the end of all creations", DEADLINE_S)
    started = {firing for _, firing, state in world.tenant.run_records() if state == "started"}
    there = {one["metadata"]["labels"]["headrace.dev/firing"] for one in world.tenant.workflows()}
    # A creation whose record was lost with its submitter is known by the Workflow alone: README, "What is guaranteed".
    deleted = world.delete_workflows(there - started)
    replayed = world.rewind("submit", f"{world.engine.prefix}firings")
    fleet.start(*["submit"] * count)
    if not deleted:
        raise FaultMissed("no Workflow was there yet")
    return f"{deleted} workflows, {replayed} firings"


def _outage(scene: Scene, role: str) -> str:
    """Two hours without any role. Before, all clocks were two hours behind; from now on they are right."""
    fleet, load = scene.world.fleet, scene.load
    counts = {each: fleet.stop_role(each) for each in ROLES}
    load.allow(load.sets.outage.stop)
    load.wait_for(load.sets.outage.stop)
    load.flush()
    fleet.behind_s = 0
    for each, count in counts.items():
        fleet.start(*[each] * count)
    return f"{len(load.sets.outage)} records over {OUTAGE_S // 3600} h"


def _last(seconds: float) -> None:
    """Let a fault last; nothing is waited for."""
    threading.Event().wait(seconds)


_FAULTS: dict[Kind, Callable[[Scene, str], str]] = {
    Kind.KILLED: _killed,
    Kind.TERMINATED: _terminated,
    Kind.FROZEN: _frozen,
    Kind.KILLED_IN_RECOVERY: _killed_in_recovery,
    Kind.SCALED: _scaled,
    Kind.ROLLED: _rolled,
    Kind.WIPED: _wiped,
    Kind.BROKER_RESTARTED: _broker_restarted,
    Kind.BROKER_KILLED: _broker_killed,
    Kind.API_STOPPED: _api_stopped,
    Kind.API_CUT: _weather(Weather(reaches_server=False)),
    Kind.API_SLOW: _weather(Weather(CREATION, delay_s=2.0)),
    Kind.API_BUSY: _weather(Weather(CREATION, share=0.7, status=429)),
    Kind.API_BROKEN: _weather(Weather(CREATION, share=0.7, status=500)),
    Kind.API_FORBIDS: _weather(Weather(CREATION, status=403)),
    Kind.API_LOSES: _weather(Weather(CREATION, share=0.5, delay_s=ANSWER_LATE_S, answer_lost=True)),
    Kind.POISONED: _poisoned,
    Kind.DUPLICATED: _duplicated,
    Kind.DELETED: _deleted,
    Kind.OUTAGE: _outage,
}
