"""What is undelivered is bounded by number, by size and by age."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from headrace.edges.kafka.deliveries import Batch, Deliveries


class Undelivered:
    """Deliveries whose clock and whose reports are the test's."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.deliveries = Deliveries(
            records_max=10, bytes_max=1_000, age_max_s=1.0, now_s=lambda: self.now_s, on_failure=lambda *_: None
        )
        self.deliveries.start()

    def send(self, count: int = 1, size_bytes: int = 10) -> Batch:
        batch = self.deliveries.new_batch()
        self.deliveries.add(batch, count, size_bytes)
        return batch

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds

    async def has_room(self) -> bool:
        """Whether room is there at once: a wait is over, or will not be before something is delivered."""
        waiting = asyncio.create_task(self.deliveries.room())
        for _ in range(5):
            await asyncio.sleep(0)
        done = waiting.done()
        waiting.cancel()
        return done


def deliver(batch: Batch) -> None:
    for _ in range(batch.expected):
        batch.report(None, None)


Fill = Callable[[Undelivered], object]


@pytest.mark.parametrize(
    "fill",
    [
        lambda undelivered: undelivered.send(count=11),
        lambda undelivered: undelivered.send(size_bytes=1_001),
        lambda undelivered: (undelivered.send(), undelivered.pass_time(1.1)),
    ],
    ids=["records", "bytes", "age"],
)
async def test_room_is_waited_for(fill: Fill) -> None:
    undelivered = Undelivered()
    first = undelivered.send()
    assert await undelivered.has_room()
    fill(undelivered)
    assert not await undelivered.has_room()
    deliver(first)
    assert not await undelivered.has_room()


async def test_room_comes_with_a_delivery_and_not_before() -> None:
    undelivered = Undelivered()
    old = undelivered.send()
    undelivered.pass_time(0.9)
    young = undelivered.send()
    undelivered.pass_time(0.2)
    waiting = asyncio.create_task(undelivered.deliveries.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    deliver(old)
    await waiting
    undelivered.pass_time(1.0)
    assert not await undelivered.has_room()
    deliver(young)
    await undelivered.deliveries.room()
    assert undelivered.deliveries.records == 0
