"""Recovery of the states from the changelog, in Faust's place: in batches, without waiting for what never comes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from aiokafka.errors import IllegalStateError
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers.aiokafka import ensure_aiokafka_TP
from faust.types import TP
from mode import Service

from headrace.edges.faust.consumer import JoinConsumer, frames_of
from headrace.edges.faust.consumer_thread import ReadingStopped

if TYPE_CHECKING:
    from headrace.edges.faust.context import JoinFaust

log = logging.getLogger(__name__)


class JoinRecovery(Recovery):
    """Faust's service, with another way to recover.

    Faust waits for the record before the changelog's end; where compaction or a transaction marker left none there,
    it waits for ever. This one ends when the position has reached the end. Faust also gives up silently when one of
    its requests to the broker takes too long; here that ends the process.
    """

    app: JoinFaust

    @Service.task
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            await self.wait(self.signal_recovery_start)  # type: ignore[arg-type]
            if self.should_stop:
                return
            self.signal_recovery_start.clear()
            try:
                await self._recover(self._generation_id)
            except (ReadingStopped, IllegalStateError):
                log.info("recovery was interrupted by a rebalance and begins again after it")
            except Exception as error:
                self.app.join.fail(error)
                raise

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Nothing arrives on Faust's queue of changelog records."""

    @Service.task
    async def _publish_stats(self) -> None:
        """The progress is in `JoinApp.progress`."""

    async def _recover(self, generation: int) -> None:
        app, consumer = self.app, cast(JoinConsumer, self.app.consumer)
        changelogs = frozenset(self.active_tps)
        epoch = consumer.allow_reading()
        self._set_recovery_started()
        app.join.table.begin(tp.partition for tp in changelogs)
        await self._read_changelogs(consumer, changelogs)
        consumer.refuse_stale(epoch)
        self._set_recovery_ended()
        frames = frames_of(consumer.assignment(), app.join.matches_topic)
        await consumer.start_frames(frames, epoch)
        if app.consumer_generation_id != generation:
            log.info("another rebalance began during recovery")
            return
        self._resume(consumer, frames)
        await app._fetcher.maybe_start()

    async def _read_changelogs(self, consumer: JoinConsumer, tps: frozenset[TP]) -> None:
        if not tps:
            return
        low = await consumer.earliest_offsets(*map(ensure_aiokafka_TP, tps))
        high = await consumer.highwaters(*map(ensure_aiokafka_TP, tps))
        await consumer.seek_wait({tp: low[tp] for tp in tps})
        missing = {tp for tp in tps if low[tp] < high[tp]}
        self.app.join.meter.recovering({tp: high[tp] - low[tp] for tp in missing})
        await consumer.fetch_only(missing)
        restore = self.app.join.table.restore
        while missing:
            records = await consumer.read(missing)
            for tp, batch in records.items():
                restore(tp.partition, ((record.key or b"", record.value) for record in batch))
            positions = await consumer.positions(missing)
            finished = {tp for tp in missing if positions[tp] >= high[tp]}
            if finished:
                missing -= finished
                await consumer.fetch_only(missing)
            self.app.join.meter.recovering({tp: high[tp] - positions[tp] for tp in missing})

    def _resume(self, consumer: JoinConsumer, frames: frozenset[TP]) -> None:
        app = self.app
        consumer.resume_partitions(frames)
        app.flow_control.resume()
        consumer.resume_flow()
        self.completed.set()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        app.on_rebalance_end()
        app.join.meter.recovered()


class JoinTableManager(TableManager):
    """Faust's table manager with the join's recovery."""

    app: JoinFaust
    _recovery: Recovery | None = None

    @property
    def recovery(self) -> Recovery:
        """The service that recovers the table."""
        if self._recovery is None:
            self._recovery = JoinRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        """Start at once: Faust first sleeps for a second, so that tables can still be added."""
        await self._update_channels()
        await self.recovery.start()
