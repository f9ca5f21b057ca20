"""Which triggers are paused, and what of theirs is not to start any more, followed from `headrace.triggers`."""

from __future__ import annotations

import asyncio
import contextlib

from headrace.edges.crossing import Crossing
from headrace.edges.kafka.access import Kafka
from headrace.edges.kafka.trigger_feed import TriggerChange, TriggerFeed
from headrace.stages.waiting import Held, Why

FOLLOW_INTERVAL_S = 0.1


class Pauses:
    """What the registry says of firings that may have to wait, at most a fraction of a second old."""

    def __init__(self, kafka: Kafka, crossing: Crossing) -> None:
        """Know nothing before `start`."""
        self.names: set[str] = set()
        """The paused triggers."""
        self._resumed: dict[str, tuple[str, int | None]] = {}
        """By name: the trigger's creation, and the moment before which its firings are dropped."""
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

    def dropped(self, held: Held) -> str | None:
        """Say why a firing that waited is not to start any more; None where it is."""
        definition = held.firing.definition
        creation, drop_held_ms = self._resumed.get(definition.trigger, (None, None))
        if creation != definition.creation:
            return "the trigger was deleted while it was paused" if held.why is Why.PAUSED else None
        if drop_held_ms is not None and held.decided_ms <= drop_held_ms:
            return "the trigger was resumed with --drop-held"
        return None

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
            self.names.discard(change.name)
            self._resumed.pop(change.name, None)
            if change.record is not None:
                self._resumed[change.name] = (change.record.creation, change.record.drop_held_ms)
                if change.record.spec.paused:
                    self.names.add(change.name)
