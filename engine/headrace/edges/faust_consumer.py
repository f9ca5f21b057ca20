"""Faust's consumer, with the parts replaced that could lose frames, commit too early, or read what nobody waits for."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
from collections.abc import Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

import aiokafka
from aiokafka.errors import CommitFailedError, IllegalStateError
from faust.transport.conductor import Conductor
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.services import ServiceT

from headrace.model.errors import HeadraceError

if TYPE_CHECKING:
    from headrace.edges.faust_context import JoinFaust

# How long one read waits for records. Nothing depends on it: data, a rebalance and a stop all end it.
_READ_TIMEOUT_MS = 1000
# How long a broker waits for new records before it answers that there are none. A start or a rebalance may have to
# wait for one such answer.
_FETCH_WAIT_MS = 200
# A commit that changes nothing proves membership when no frames come; often enough to keep the fence open.
_RENEWALS_PER_FENCE = 4

T = TypeVar("T")
Records = Mapping[Any, list[Any]]

log = logging.getLogger(__name__)


class OffsetsLost(HeadraceError):
    """The matches topic no longer holds the next frame of a partition."""


class NotDrained(HeadraceError):
    """Partitions had to be given back while work on them was unfinished; this process has to start anew."""


class ReadingStopped(Exception):
    """A read was ended because a rebalance or a stop began; what it would have returned is read again later."""


class JoinConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that reads and keeps the membership; it can be asked for a whole batch, and to stop waiting."""

    _reading: asyncio.Task[Records] | None = None

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Run a coroutine in the thread; unlike Faust's queue of methods this cannot wait behind another call."""
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self.thread_loop)
        return asyncio.wrap_future(future)

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # A broker is asked one question at a time, and would let it wait for new records for Faust's 1.5 s.
        consumer._fetch_max_wait_ms = _FETCH_WAIT_MS
        return consumer

    async def read_in_thread(self, tps: frozenset[TP]) -> Records:
        consumer = self._ensure_consumer()
        self._reading = asyncio.current_task()
        try:
            return cast(
                Records, await consumer.getmany(*map(driver.ensure_aiokafka_TP, tps), timeout_ms=_READ_TIMEOUT_MS)
            )
        except asyncio.CancelledError:
            raise ReadingStopped from None
        finally:
            self._reading = None

    def stop_reading(self) -> None:
        """End the read that is waiting, if any; what it had already taken is still returned."""

        def cancel() -> None:
            if self._reading is not None:
                self._reading.cancel()

        self.thread_loop.call_soon_threadsafe(cancel)

    async def positions_in_thread(self, tps: Iterable[TP]) -> dict[TP, int]:
        consumer = self._ensure_consumer()
        return {tp: await consumer.position(driver.ensure_aiokafka_TP(tp)) for tp in tps}

    async def fetch_only_in_thread(self, tps: frozenset[TP]) -> None:
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        wanted = assigned & {driver.ensure_aiokafka_TP(tp) for tp in tps}
        consumer.pause(*(assigned - wanted))
        consumer.resume(*wanted)

    async def commit_in_thread(self, offsets: Mapping[TP, int]) -> bool:
        """Return whether the group accepted; it refuses when it has rebalanced, or has forgotten this process."""
        wanted = {driver.ensure_aiokafka_TP(tp): offset for tp, offset in offsets.items()}
        try:
            await self._ensure_consumer().commit(wanted)
        except (CommitFailedError, IllegalStateError) as error:
            log.warning("the group did not accept a commit: %s", error)
            return False
        return True

    async def committed_in_thread(self, tps: Iterable[TP]) -> dict[TP, int | None]:
        consumer = self._ensure_consumer()
        return {tp: await consumer.committed(driver.ensure_aiokafka_TP(tp)) for tp in tps}


class JoinRebalanceListener(driver.ConsumerRebalanceListener):
    """Hears of rebalances, in the consumer's thread."""

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """Let nothing be fetched until the recovery says what it needs."""
        self._thread._ensure_consumer().pause(*assigned)
        await super().on_partitions_assigned(assigned)


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
        # Counts the ends of reading, so that a delivery that slept through one does not go on after it.
        self._epoch = 0
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
        self._reader_is_idle.clear()
        try:
            return await self._thread.submit(self._thread.read_in_thread(frozenset(tps)))
        finally:
            self._reader_is_idle.set()

    def allow_reading(self) -> None:
        """Let `read` work again, after a rebalance."""
        self._reading_allowed = True

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
            raise
        except BaseException as error:
            self.app.join.fail(error)
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

    async def start_frames(self, tps: frozenset[TP]) -> None:
        """Position the frames' partitions after their states were recovered, and open the fence."""
        if not tps:
            return
        committed = await self._thread.submit(self._thread.committed_in_thread(tps))
        low = await self.earliest_offsets(*map(driver.ensure_aiokafka_TP, tps))
        high = await self.highwaters(*map(driver.ensure_aiokafka_TP, tps))
        starts: dict[TP, int] = {}
        for tp in tps:
            starts[tp] = self.app.join.start_offset(tp.partition, committed[tp], low[tp], high[tp])
        await self.seek_wait(starts)
        await self.fetch_only(tps)
        self._next_offset = dict(starts)
        for tp, offset in starts.items():
            self._acked[tp].clear()
            self._acked_index[tp].clear()
            self._committed_offset[tp] = offset
        # Everything before the start is durable: it is in the recovered changelog, or was committed before. If the
        # group refuses, a rebalance is under way, and this start is repeated.
        await self._commit_and_renew(starts)

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

    async def _commit_and_renew(self, offsets: Mapping[TP, int]) -> bool:
        asked_at_s = self.app.join.fence.now_s()
        accepted = await self._thread.submit(self._thread.commit_in_thread(offsets))
        if accepted:
            self._committed_offset.update(offsets)
            self.app.join.fence.renew(asked_at_s)
            self.app.join.meter.committed()
        return accepted

    # Rebalances and the end.

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
                await self.commit()
        except TimeoutError:
            app.join.fail(
                NotDrained(
                    f"partitions have to be given back, but work on them was not finished within "
                    f"{app.join.timing.drain_s:g} s: this process ends, and their next owner takes up what is durable."
                )
            )
        except HeadraceError as error:
            app.join.fail(error)
        finally:
            app.join.fence.close()


class JoinTransport(driver.Transport):
    """Faust's Kafka transport with the join's consumer."""

    Consumer = JoinConsumer


def frames_of(tps: Iterable[TP], topic: str) -> frozenset[TP]:
    """Return those of the partitions that belong to `topic`."""
    return frozenset(TP(tp.topic, tp.partition) for tp in tps if tp.topic == topic)
