"""Producers over the log in memory: in order for each partition, idempotent, and each record lands at some moment.

What a process has sent lands whether or not it still lives; what it has not heard of, it cannot know.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import KafkaError

from headrace.edges.faust.fence import Fence
from headrace.edges.faust.fenced_producer import DeliveryFailed
from headrace.edges.faust.sequels import Outgoing
from tests.simulation.faults import Kind
from tests.simulation.log import TopicPartition
from tests.simulation.process import Process

_WAIT_S = 0.05
Report = Callable[[KafkaError | None], None]


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A record on its way to the broker."""

    record: Outgoing
    report: Report
    sent_s: float


class Wire:
    """The way of one producer's records to the broker, partition by partition."""

    def __init__(self, process: Process, give_up_s: float) -> None:
        """A record that has not landed after `give_up_s` never will."""
        self._process, self._world, self._give_up_s = process, process.world, give_up_s
        self._queues: dict[TopicPartition, deque[_UnderWay]] = {}
        self._free_at_s: dict[TopicPartition, float] = {}
        self._cut_at_s: dict[TopicPartition, float] = {}
        self._broken: set[TopicPartition] = set()
        process.on_death.append(self._cut)

    def send(self, record: Outgoing, report: Report) -> None:
        """Send one record; `report` hears of its fate, if the process lives to hear it."""
        process, world, at = self._process, self._world, (record.topic, record.partition)
        process.step(f"sending to {record.topic}:{record.partition}")
        now_s = world.loop.now_s
        slow = world.random.random() < 0.02 and not world.faults.healed
        lands_s = max(self._free_at_s.get(at, 0.0), now_s + world.between(0.5, 6.0) * (1.0 if slow else 0.01))
        self._free_at_s[at] = lands_s
        self._queues.setdefault(at, deque()).append(_UnderWay(record, report, now_s))
        world.loop.call_at(lands_s, self._land, at)

    def _land(self, at: TopicPartition) -> None:
        """The oldest record of a partition reaches the broker, or does not."""
        process, world, queue = self._process, self._world, self._queues[at]
        now_s = world.loop.now_s
        if not queue or now_s > self._cut_at_s.get(at, now_s):
            return
        if at in self._broken:
            self._break(at, queue.popleft())
            return
        if process.alive and process.holds_back and process.paused_until_s > now_s:
            # Not on the network yet when its process was paused: it goes out, or is given up, when that wakes.
            world.loop.call_at(process.paused_until_s, self._land, at)
            return
        under_way = queue.popleft()
        record = under_way.record
        if now_s - under_way.sent_s > self._give_up_s or world.faults.strikes(Kind.UNDELIVERED, 0.0004):
            self._break(at, under_way)
            return
        if not process.alive:
            world.faults.note(Kind.LANDED_AFTER_DEATH)
        world.judge.writes(process, at)
        world.log.append(record.topic, record.partition, record.key, record.value, tuple(record.headers))
        if world.faults.strikes(Kind.ACK_LOST, 0.0004):
            self._break(at, under_way)
        else:
            process.later(world.between(0.0, 0.01), lambda: under_way.report(None))

    def _break(self, at: TopicPartition, under_way: _UnderWay) -> None:
        """Say that a record was not delivered; nothing may land behind it."""
        self._broken.add(at)
        lost = [under_way, *self._queues[at]]
        self._queues[at].clear()
        for each in lost:
            self._process.later(0.01, partial(each.report, KafkaError(KafkaError._MSG_TIMED_OUT)))

    def _cut(self) -> None:
        """The process is dead: of what is under way, what the network holds already still lands."""
        for at in self._queues:
            lasts_s = self._world.random.choice([0.0, 0.0, 0.05, 3.0])
            self._cut_at_s.setdefault(at, self._world.loop.now_s + lasts_s)


class SimProducer:
    """Speaks `confluent_kafka.Producer`'s words, as far as the router uses them."""

    def __init__(self, process: Process, give_up_s: float) -> None:
        self._wire = Wire(process, give_up_s)
        self._process = process
        self._reports: list[Callable[[], None]] = []
        self._under_way = 0

    def produce(
        self, topic: str, value: bytes, key: bytes | None, partition: int, delivered: Callable[[Any, Any], None]
    ) -> None:
        self._under_way += 1

        def report(error: KafkaError | None) -> None:
            self._under_way -= 1
            self._reports.append(lambda: delivered(error, None))

        self._wire.send(Outgoing(topic, partition, key, value), report)

    def poll(self, timeout: float = 0.0) -> None:
        self._process.step("asking for delivery reports")
        if timeout > 0 and self._under_way and not self._reports:
            self._wait()
        reports, self._reports = self._reports, []
        for report in reports:
            report()

    def _wait(self) -> None:
        self._process.back(self._process.nap(_WAIT_S))
        self._process.step("having waited for deliveries")


class LoopProducer:
    """Speaks `FencedProducer`'s words; its records go out only while the fence is open."""

    def __init__(self, process: Process, give_up_s: float, fence: Fence | None = None) -> None:
        self._process, self._fence = process, fence
        self._wire = Wire(process, give_up_s)
        self._open: set[asyncio.Future[None]] = set()

    async def start(self, topics: Iterable[str]) -> None:
        """Nothing has to be connected."""

    def send(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> asyncio.Future[None]:
        """Send one record."""
        return self.send_all([Outgoing(topic, partition, key, value)])

    def send_all(self, records: Iterable[Outgoing]) -> asyncio.Future[None]:
        """Send records; the future is done when all are delivered."""
        if self._fence is not None:
            self._fence.check()
        future: asyncio.Future[None] = self._process.world.loop.create_future()
        batch = list(records)
        left = len(batch)

        def report(error: KafkaError | None) -> None:
            nonlocal left
            left -= 1
            if error is not None:
                self._process.fail(DeliveryFailed(f"not delivered: {error.str()}"))
            elif left == 0 and not future.done():
                future.set_result(None)

        for record in batch:
            self._wire.send(record, report)
        if self._process.world.faults.strikes(Kind.ZOMBIE, 0.004):
            # Amid a delivery is the worst moment: what follows it is written by a process that knows nothing yet.
            self._process.pause_beyond_session()
        if not batch:
            future.set_result(None)
        else:
            self._open.add(future)
            future.add_done_callback(self._open.discard)
        return future

    async def barrier(self) -> None:
        """Wait until everything sent before is delivered."""
        if self._open:
            await asyncio.wait(list(self._open))
        await self._process.gate()

    async def stop(self) -> None:
        """Nothing has to be closed."""
