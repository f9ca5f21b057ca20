"""The role join over frames that a real router wrote: as many processes as asked for, each looked at from outside."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.events import Counter, fact, fill, records_of, register, trigger
from benchmarks.route_run import route_rate, total
from headrace.bench.children import Child, wait_for
from headrace.edges import metrics
from headrace.edges.kafka.topics import ensure_internal_topics
from headrace.model.frame import Frame, decode
from headrace.roles.health import Health
from headrace.roles.join import Joiner
from headrace.roles.start import steady_heap
from headrace.settings import Settings
from tests.support.kafka import create_topics

TIMEOUT_S = 300.0
Frames = list[tuple[int, bytes]]
"""Partition and bytes of each record of the matches topic."""


@dataclass(frozen=True)
class Look:
    """What one join says of itself."""

    recovered: bool
    partitions: int
    decided: float
    """Matches decided."""


class Joins:
    """Join processes that run while the block lasts; leaving it stops them cleanly."""

    def __init__(self, settings: Settings, workers: int) -> None:
        """Start them; they are ready once `wait_until_ready` returns."""
        self.settings = settings
        self._counts = ensure_internal_topics(settings)
        self._stack = ExitStack()
        self._children = [
            self._stack.enter_context(Child(_join, settings, self._counts, number)) for number in range(workers)
        ]

    def wait_until_ready(self) -> None:
        """Return once all states are restored, and every partition has its process."""
        for child in self._children:
            child.hear()
        partitions = self._counts[self.settings.topics.matches]

        def ready() -> bool:
            looks = self.looks()
            return all(look.recovered for look in looks) and sum(look.partitions for look in looks) == partitions

        wait_for(ready, TIMEOUT_S, "the joins' readiness")

    def looks(self) -> list[Look]:
        """Ask each process."""
        for child in self._children:
            child.say("look")
        return [child.hear() for child in self._children]

    def resident_bytes(self) -> int:
        """Return the memory that all processes together hold, less what is spare in it."""
        for child in self._children:
            child.say("weigh")
        return sum(child.hear() for child in self._children)

    def stop(self) -> None:
        """Stop them; what they decided is durable afterwards."""
        for child in self._children:
            child.say("stop")
        for child in self._children:
            child.hear()
        self._stack.close()


@contextmanager
def joins(settings: Settings, workers: int = 1) -> Iterator[Joins]:
    """Run joins."""
    running = Joins(settings, workers)
    try:
        yield running
    finally:
        running.stop()


def routed_frames(settings: Settings, pairs: int) -> Frames:
    """Have a router turn a backlog of `pairs` pairs into frames, and return those."""
    topics = [f"{settings.topics.prefix}{side}" for side in ("left", "right")]
    ensure_internal_topics(settings)
    register(settings, [trigger("pair", [{"name": topic, "key": "event.set"} for topic in topics])])
    create_topics(settings.client(), dict.fromkeys(topics, 2))
    fill(settings, ((topic, number % 2, None, fact(number)) for number in range(pairs) for topic in topics))
    route_rate(settings, 2 * pairs)
    return [
        (partition, value)
        for partition, _, value in records_of(settings, settings.topics.matches)
        if value is not None and isinstance(decode(value), Frame)
    ]


def join_rate(settings: Settings, frames: Frames, pairs: int, workers: int = 1) -> float:
    """Return the matches a second at which joins turn `frames` into the firings of `pairs` pairs, all durable.

    Raises:
        AssertionError: a head record is missing in the changelog, or a firing came twice.
    """
    ensure_internal_topics(settings)
    firings = Counter(settings, settings.topics.firings)
    with joins(settings, workers) as running:
        running.wait_until_ready()
        began_s = time.monotonic()
        copy_frames(settings, frames)
        wait_for(lambda: firings.count >= pairs, TIMEOUT_S, "the last firing")
        ended_s = time.monotonic()
    assert firings.count == pairs, f"{firings.count} firings for {pairs} pairs"
    firings.close()
    heads = {key for _, key, _ in records_of(settings, settings.topics.joins) if key.startswith(b"h")}
    assert len(heads) == pairs, f"the changelog has {len(heads)} heads for {pairs} pairs"
    return 2 * pairs / (ended_s - began_s)


def copy_frames(settings: Settings, frames: Sequence[tuple[int, bytes]]) -> None:
    """Write frames to the matches topic."""
    fill(settings, ((settings.topics.matches, partition, None, value) for partition, value in frames))


def _join(connection: Connection, settings: Settings, counts: dict[str, int], number: int) -> None:
    asyncio.run(_join_until_told(connection, settings, counts, number))


async def _join_until_told(connection: Connection, settings: Settings, counts: dict[str, int], number: int) -> None:
    data = Path(settings.state) / f"faust-{settings.topics.prefix}{number}"
    data.mkdir(parents=True, exist_ok=True)
    steady_heap()
    joiner = Joiner(settings, counts, Health(settings, "join"), data)
    stop = asyncio.Event()

    def told() -> None:
        try:
            word = connection.recv()
        except EOFError:
            word = "stop"
        if word == "look":
            connection.send(_look(joiner))
        elif word == "weigh":
            connection.send(_weigh())
        else:
            stop.set()

    loop = asyncio.get_running_loop()
    loop.add_reader(connection.fileno(), told)
    connection.send("started")
    await joiner.run(stop)
    loop.remove_reader(connection.fileno())
    connection.send("stopped")


def _look(joiner: Joiner) -> Look:
    progress = joiner.progress()
    return Look(progress.recovered, len(progress.partitions), total(metrics.JOIN_DECISIONS))


def _weigh() -> int:
    # What the allocator holds spare after a burst is neither a key's nor lost: the next burst uses it.
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024
