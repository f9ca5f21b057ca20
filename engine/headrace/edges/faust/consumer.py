"""Faust's consumer, with the parts replaced that could lose frames, commit too early, or read what nobody waits for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from aiokafka.errors import IllegalStateError
from faust.transport.conductor import Conductor
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.services import ServiceT

from headrace.edges.faust.consumer_thread import JoinConsumerThread, JoinRebalanceListener, ReadingStopped, Records
from headrace.edges.faust.first_frame import OffsetsLost
from headrace.model.errors import HeadraceError

if TYPE_CHECKING:
    from headrace.edges.faust.context import JoinFaust

# A commit that changes nothing proves membership when no frames come; often enough to keep the fence open.
_RENEWALS_PER_FENCE = 4


class NotDrained(HeadraceError):
    """Partitions had to be given back while work on them was unfinished; this process has to start anew."""


class JoinConsumer(driver.Consumer):
    """Reads frames in order without gaps, and commits only what is durable."""

    RebalanceListener = JoinRebalanceListener

    app: JoinFaust
    _thread: JoinConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._commit_lock = asyncio.Lock()
        self._reader_is_idle = asyncio.Event()
        self._reader_is_idle.set()
        self._reading_allowed = False
        # Counts the ends of reading, so that work that slept through one does not go on after it.
        self._epoch = 0
        self._assigned_epoch: int | None = None
        self._next_offset: dict[TP, int] = {}

    def _new_consumer_thread(self) -> JoinConsumerThread:
        return JoinConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # Reading. There is one read at a time, of the recovery or of the frames; a rebalance first ends it. Otherwise a
    # read begun before the rebalance could swallow records that were fetched after it.

    async def read(self, tps: Iterable[TP]) -> Records:
        """Return the next records of the partitions, or none after a while.

        Raises:
            ReadingStopped: a rebalance or a stop began.
        """
        if not self._reading_allowed:
            raise ReadingStopped
        epoch = self._epoch
        self._reader_is_idle.clear()
        try:
            records = await self._thread.submit(self._thread.read_in_thread(frozenset(tps)))
        finally:
            self._reader_is_idle.set()
        self.refuse_stale(epoch)
        if records is None:
            raise ReadingStopped
        return records

    def allow_reading(self) -> int:
        """Let `read` work again, after a rebalance; return the number of this stretch of reading.

        Raises:
            ReadingStopped: another rebalance or a stop has begun since the last assignment.
        """
        if self._assigned_epoch != self._epoch:
            raise ReadingStopped
        self._reading_allowed = True
        return self._epoch

    def refuse_stale(self, epoch: int) -> None:
        """Return if the stretch of reading still lasts, else raise `ReadingStopped`."""
        if self._epoch != epoch:
            raise ReadingStopped

    async def stop_reading(self) -> None:
        """End the read that is under way, and refuse others until `allow_reading`."""
        self._reading_allowed = False
        self._epoch += 1
        while not self._reader_is_idle.is_set():
            self._thread.stop_reading()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._reader_is_idle.wait(), 0.1)

    async def positions(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Return the offset of the next record of each partition, past records that compaction has removed."""
        return await self._thread.submit(self._thread.positions_in_thread(list(tps)))

    async def check_membership(self) -> None:
        """Raise what the group's coordinator has refused for good: a missing permission, for one."""
        await self._thread.submit(self._thread.check_in_thread())

    async def fetch_only(self, tps: Iterable[TP]) -> None:
        """Fetch these of the assigned partitions and no others.

        Records that nobody reads would be kept in memory, and a broker that waits for new ones of theirs answers no
        other question meanwhile.
        """
        await self._thread.submit(self._thread.fetch_only_in_thread(frozenset(tps)))

    async def _drain_messages(self, fetcher: ServiceT) -> None:
        """Faust's Fetcher runs this: hand frames to the stream until it is stopped."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                tps = self._next_offset.keys() & self._get_active_partitions()
                if not (self.flow_active and self._reading_allowed and tps):
                    self.can_resume_flow.clear()
                    await self.wait(self.can_resume_flow)  # type: ignore[arg-type]
                    continue
                with contextlib.suppress(ReadingStopped):
                    await self._deliver(await self.read(tps))
        except asyncio.CancelledError:
            # Amid a rebalance Faust takes this for a crash, and fails at starting anew what is to stop.
            if not fetcher.should_stop:
                raise
        except Exception as error:
            await self.app.join.fail_behind(error, self._next_offset)
            raise

    async def _deliver(self, records: Records) -> None:
        epoch = self._epoch
        for tp, record in self.scheduler.iterate(cast(Any, records)):
            if not self.flow_active or self._epoch != epoch:
                return
            expected = self._next_offset[tp]
            if record.offset != expected:
                raise OffsetsLost(
                    f"partition {tp.partition} of topic {tp.topic} jumps from offset {expected} to {record.offset}: "
                    "frames are missing there, and going on would lose runs; compare the topic with its backups, "
                    "and reset the offsets of the group only if the lost frames do not matter."
                )
            message = self._to_message(tp, record)
            if self._is_full(tp):
                # Only now the delivery may wait; and a rebalance must not wait for it.
                await self.wait_first(self.callback(message), self.suspend_flow.wait())
            else:
                await self.callback(message)
            if self._epoch != epoch:
                return
            self._next_offset[tp] = expected + 1
            self._read_offset[tp] = expected

    def _is_full(self, tp: TP) -> bool:
        conductor = cast(Conductor, self.app.topics)
        return any(cast(Any, channel).queue.full() for channel in conductor._tp_index[tp])

    @property
    def next_offsets(self) -> Mapping[TP, int]:
        """The next frame to be handed on, of each partition that is being read."""
        return self._next_offset

    def end_offset(self, tp: TP) -> int:
        """Return the end of the partition as the broker last told it, or 0 when it has not yet."""
        with contextlib.suppress(IllegalStateError, AttributeError):
            return self.highwater(cast(Any, driver.ensure_aiokafka_TP(tp))) or 0
        return 0

    def on_buffer_full(self, tp: TP) -> None:
        """Faust would stop reading partitions whose buffer is full, and sleep when all are; delivery waits instead."""

    def on_buffer_drop(self, tp: TP) -> None:
        """See `on_buffer_full`."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's warnings about idle partitions would complain about every paused changelog."""

    # Positions.

    async def start_frames(self, tps: frozenset[TP], epoch: int) -> None:
        """Position the frames' partitions after their states were recovered, and open the fence.

        Raises:
            OffsetsLost: Kafka no longer holds the next frame of a partition.
            ReadingStopped: a rebalance or a stop began meanwhile.
        """
        self.refuse_stale(epoch)
        if not tps:
            return
        committed = await self._thread.submit(self._thread.committed_in_thread(tps))
        low = await self.earliest_offsets(*map(driver.ensure_aiokafka_TP, tps))
        high = await self.highwaters(*map(driver.ensure_aiokafka_TP, tps))
        self.refuse_stale(epoch)
        choose = self.app.join.start_offset
        starts = {tp: choose(tp.partition, committed[tp], low[tp], high[tp]) for tp in tps}
        await self.seek_wait(starts)
        await self.fetch_only(tps)
        self.refuse_stale(epoch)
        self._next_offset = dict(starts)
        self.app.join.applied = dict(starts)
        for tp, offset in starts.items():
            self._acked[tp].clear()
            self._acked_index[tp].clear()
            self._committed_offset[tp] = offset
        # Everything before the start is durable: it is in the recovered changelog, or was committed before. If the
        # group refuses, a rebalance is under way, and this start is repeated.
        if not await self._commit_and_renew(starts):
            raise ReadingStopped
        self.refuse_stale(epoch)

    # Commits.

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit what is done and durable; where nothing is new, prove membership if that is due."""
        async with self._commit_lock:
            done = {tp: offset for tp in list(self._acked) if (offset := self._new_offset(tp)) is not None}
            if done:
                await self.app.join.producer.barrier()
                return await self._commit_and_renew(done)
            fence = self.app.join.fence
            age_s = fence.age_s
            if age_s is not None and age_s > self.app.join.timing.fence_s / _RENEWALS_PER_FENCE:
                known = {tp: o for tp in self._next_offset if (o := self._committed_offset[tp]) is not None}
                return await self._commit_and_renew(known)
            return False

    @property
    def is_committing(self) -> bool:
        """Whether a commit waits for deliveries or for the broker."""
        return self._commit_lock.locked()

    async def _commit_and_renew(self, offsets: Mapping[TP, int]) -> bool:
        epoch, asked_at_s = self._epoch, self.app.join.fence.now_s()
        accepted = await self._thread.submit(self._thread.commit_in_thread(offsets))
        # Where a rebalance has begun meanwhile, its drain has the last word about the fence.
        if self._epoch == epoch:
            # Refused or not, these are the next offsets to commit from: a refusal is followed by a rebalance.
            self._committed_offset.update(offsets)
            if accepted:
                self.app.join.fence.renew(asked_at_s)
                self.app.join.meter.committed()
        elif accepted:
            # The drain goes on from here. Another start may have come in between, and lies further on.
            for tp, offset in offsets.items():
                self._committed_offset[tp] = max(offset, self._committed_offset[tp] or 0)
        return accepted

    # Rebalances and the end.

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Take the partitions over; Faust then has the recovery begin."""
        self._assigned_epoch = self._epoch
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish and commit what is under way before the partitions are given back."""
        if self.app.join.fence.is_open:
            await self.drain()
        else:
            await self.stop_reading()
        self._next_offset = {}
        self.app.join.meter.revoked()
        self.app.join.table.drop_all()
        await super().on_partitions_revoked(revoked)

    async def drain(self) -> None:
        """Take no more frames, finish the one in hand, deliver, commit, and close the fence.

        Calls the application's `fail` when that takes too long, or the fence has expired: then another process may
        already own the partitions.
        """
        app = self.app
        app.suspend_frames()
        try:
            async with asyncio.timeout(app.join.timing.drain_s):
                await self.stop_reading()
                await app.join.frame_done.wait()
                if app.join.fence.has_expired:
                    app.join.fence.check()
                # Also where there is nothing to commit: nothing may be written once others own the partitions.
                await app.join.producer.barrier()
                await self.commit()
        except TimeoutError:
            app.join.fail(
                NotDrained(
                    f"partitions have to be given back, but work on them was not finished within "
                    f"{app.join.timing.drain_s:g} s: this process ends, and their next owner takes up what is durable."
                )
            )
        except Exception as error:
            # Whoever calls this in a rebalance would only log it.
            app.join.fail(error)
        finally:
            app.join.fence.close()


class JoinTransport(driver.Transport):
    """Faust's Kafka transport with the join's consumer."""

    Consumer = JoinConsumer


def frames_of(tps: Iterable[TP], topic: str) -> frozenset[TP]:
    """Return those of the partitions that belong to `topic`."""
    return frozenset(TP(tp.topic, tp.partition) for tp in tps if tp.topic == topic)
