"""The processes of one scenario: real routers and submitters, modelled joins, started anew whenever they die."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path
from typing import cast

from confluent_kafka import KafkaException

from headrace.edges import metrics
from headrace.edges.kube.api import KubeApi
from headrace.edges.kube.templates import Templates
from headrace.edges.local.runs import LocalRuns
from headrace.model.errors import HeadraceError
from headrace.roles.attempt import Kubernetes
from headrace.roles.health import Health
from headrace.roles.route import Router
from headrace.roles.submit import Submitter
from headrace.roles.submit_edges import SubmitEdges
from tests.simulation.join_model import JoinModel
from tests.simulation.kafka_access import SimKafka
from tests.simulation.kafka_producer import LoopProducer
from tests.simulation.kubernetes import Cluster, SimApi
from tests.simulation.process import Killed, Process
from tests.simulation.world import INTERNAL, World

TURNS_S = {"route": 0.6, "join": 0.5, "submit": 0.8}


async def run_route(process: Process) -> None:
    """Drive a production router, turn by turn."""
    world = process.world
    router = Router(world.settings, SimKafka(process), process, dict(INTERNAL), Health(world.settings, "route"))
    router.begin()
    while not process.stopping:
        try:
            await process.away(router.turn)
        finally:
            _note_stalled(world)
    await process.away(router.end)


def _note_stalled(world: World) -> None:
    """Take over from the metrics whether a partition was left out of join time, also by an author who died of it."""
    if next(iter(metrics.STALLED.collect())).samples[0].value:
        world.judge.stalled = True
        metrics.STALLED.set(0)


async def run_join(process: Process) -> None:
    """Drive production's join decisions."""
    await JoinModel(process).run()


def run_submit_at(cluster: Cluster) -> Callable[[Process], Awaitable[None]]:
    """Return what drives a production submitter against `cluster`."""

    async def run_submit(process: Process) -> None:
        api = cast(KubeApi, SimApi(process, cluster))
        kubernetes = Kubernetes(api, Templates(api, ()), None)
        edges = SubmitEdges(SimKafka(process), LoopProducer(process, 60.0), process, process, process.fail)
        submitter = Submitter(edges, kubernetes, _no_local_runs(), Health(process.world.settings, "submit"))
        stop = asyncio.Event()
        process.on_stop = stop.set
        await submitter.run(stop)

    return run_submit


@lru_cache(maxsize=1)
def _no_local_runs() -> LocalRuns:
    return LocalRuns(Path(tempfile.mkdtemp(prefix="headrace-simulation-")), 0)


class Slot:
    """A place for one process of a role, which a supervisor keeps filled."""

    def __init__(self, world: World, role: str, number: int, run: Callable[[Process], Awaitable[None]]) -> None:
        self._world, self.role, self._run = world, role, run
        self._name = f"{role}-{number}"
        self._lives = 0
        self.process: Process | None = None
        self._skew_ms = world.skew_ms()

    async def keep_running(self) -> None:
        """Start the process, and again whenever it has died."""
        world = self._world
        while True:
            self._lives += 1
            process = Process(world, self.role, f"{self._name}.{self._lives}", TURNS_S[self.role], self._skew_ms)
            world.trace(process.name, "starts")
            self.process = process
            died = asyncio.Event()
            process.on_death.append(died.set)
            life = world.loop.create_task(self._live(process))
            dying = world.loop.create_task(died.wait())
            await asyncio.wait({life, dying}, return_when=asyncio.FIRST_COMPLETED)
            process.die("has stopped")
            self.process = None
            await asyncio.sleep(world.between(0.2, 1.0 if world.faults.healed else 8.0))

    async def _live(self, process: Process) -> None:
        try:
            await self._run(process)
        except Killed:
            pass
        except (HeadraceError, KafkaException) as error:
            process.fail(error)
        except Exception as error:
            process.fail(error)
            self._world.judge.complain(f"{process.name} met {type(error).__name__}: {error}")
