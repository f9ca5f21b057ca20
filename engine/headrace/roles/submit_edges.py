"""The edges of the role submit, as it is handed them: Kafka, the clocks, and the way to end its process."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Protocol

from headrace.edges.clock import Clock, SystemClock
from headrace.edges.crossing import Crossing, ThreadCrossing
from headrace.edges.faust.app import end_process
from headrace.edges.faust.fence import Fence
from headrace.edges.faust.fenced_producer import Fail, FencedProducer
from headrace.edges.kafka.access import Kafka, KafkaAccess
from headrace.settings import Settings

DELIVERY_TIMEOUT_S = 60.0
LINGER_MS = "10"
"""Only the commit of a firing waits for its run's record, so the records of many share a request to Kafka."""


class RunProducer(Protocol):
    """What runs and dead letters are written through; `FencedProducer` says more of each method."""

    async def start(self, topics: Iterable[str]) -> None:
        """Connect."""

    def send(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> Awaitable[None]:
        """Send one record; what is returned is done when it is delivered."""

    async def barrier(self) -> None:
        """Wait until everything sent before is delivered."""

    async def stop(self) -> None:
        """Stop; what is undelivered is given up."""


@dataclass(frozen=True, slots=True)
class SubmitEdges:
    """Everything outside that a submitter works with, beside what it starts."""

    kafka: Kafka
    producer: RunProducer
    clock: Clock
    crossing: Crossing
    fail: Fail
    """Ends the process where going on could lose a firing."""


def connect(settings: Settings) -> SubmitEdges:
    """Make the real edges; called in the event loop that the submitter runs in."""
    fence = Fence(float("inf"))
    # Two submitters can never start one firing twice, so nothing here needs a fence.
    fence.renew(fence.now_s())
    properties = {"linger.ms": LINGER_MS, **settings.client()}
    producer = FencedProducer(properties, fence=fence, delivery_timeout_s=DELIVERY_TIMEOUT_S, fail=end_process)
    return SubmitEdges(KafkaAccess(settings), producer, SystemClock(), ThreadCrossing(), end_process)
