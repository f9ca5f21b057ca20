"""Which triggers are paused, followed from `headrace.triggers`."""

from __future__ import annotations

import asyncio
import contextlib

from headrace.edges.crossing import Crossing
from headrace.edges.kafka.access import Kafka
from headrace.edges.kafka.trigger_feed import TriggerChange, TriggerFeed

FOLLOW_INTERVAL_S = 0.1


class PausedTriggers:
    """The names of the paused triggers, at most a fraction of a second old."""

    def __init__(self, kafka: Kafka, crossing: Crossing) -> None:
        """Know nothing before `start`."""
        self.names: set[str] = set()
        self._feed = TriggerFeed(kafka)
        self._crossing = crossing
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read every trigger, then follow.

        Raises:
            NoBrokerError: Kafka does not answer.
        """
        self._take(await self._crossing.away(self._feed.read_to_end))
        self._following = asyncio.create_task(self._follow(), name="paused triggers")

    async def close(self) -> None:
        """Stop following."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        await self._crossing.away(self._feed.close)

    async def _follow(self) -> None:
        while True:
            self._take(await self._crossing.away(lambda: self._feed.poll(FOLLOW_INTERVAL_S)))

    def _take(self, changes: list[TriggerChange]) -> None:
        for change in changes:
            if change.record is not None and change.record.spec.paused:
                self.names.add(change.name)
            else:
                self.names.discard(change.name)
