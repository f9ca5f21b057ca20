"""What the parts of the join's Faust application share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import faust
from faust.app.base import BootStrategy
from faust.types import TP
from mode.services import ServiceT

from headrace.edges.faust.fence import Fence
from headrace.edges.faust.fenced_producer import Fail, FencedProducer
from headrace.edges.faust.join_progress import ProgressMeter
from headrace.edges.faust.state_table import StateTable
from headrace.edges.faust.timing import Timing
from headrace.model.errors import HeadraceError


def _done() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class JoinContext:
    """Handed to Faust's parts through their application."""

    matches_topic: str
    timing: Timing
    fence: Fence
    producer: FencedProducer
    table: StateTable[Any]
    meter: ProgressMeter
    fail: Fail
    # (partition, committed offset or None, first offset in Kafka, end) -> offset of the frame to begin with.
    start_offset: Callable[[int, int | None, int, int], int]
    # Set while no frame is being applied.
    frame_done: asyncio.Event = field(default_factory=_done)
    # Of each partition, the offset behind the last frame that was applied.
    applied: dict[TP, int] = field(default_factory=dict)
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    def frame_applied(self, tp: TP, offset: int) -> None:
        """The frame in hand, which has this offset, is applied."""
        self.applied[tp] = offset + 1
        self._moved.set()
        self.meter.frame_applied()
        self.frame_done.set()

    async def fail_behind(self, error: BaseException, earlier: Mapping[TP, int] | None = None) -> None:
        """Finish what comes before a frame that cannot be applied, then end the process because of it.

        The next process may not come further than this frame, so what is cut off here might never be done.

        Args:
            error: what is wrong with the frame.
            earlier: offsets behind frames that are still to be applied; they are waited for.
        """
        try:
            with contextlib.suppress(HeadraceError, TimeoutError):
                async with asyncio.timeout(self.timing.drain_s):
                    while any(self.applied[tp] < offset for tp, offset in (earlier or {}).items()):
                        self._moved.clear()
                        await self._moved.wait()
                    await self.producer.barrier()
        finally:
            self.fail(error)


class _Boot(BootStrategy):
    """Starts the consumer, the agent and the table; neither web server nor Faust's own producer and side topics."""

    enable_web = False
    enable_kafka_producer = False

    def kafka_consumer(self) -> list[ServiceT]:
        return [self.app.consumer]


class JoinFaust(faust.App):
    """A Faust application that knows what its replaced parts need."""

    BootStrategy = _Boot
    join: JoinContext

    def suspend_frames(self) -> None:
        """Let no further frame reach the agent; those that wait for it are read again later."""
        self.consumer.stop_flow()
        self.flow_control.suspend()
        self.flow_control.clear()
