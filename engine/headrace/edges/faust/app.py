"""The Faust edge of the join: everything between Kafka and a pure stage."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar, cast

from faust.types import StreamT

from headrace.edges.faust.consumer import JoinConsumer, JoinTransport
from headrace.edges.faust.context import JoinContext, JoinFaust
from headrace.edges.faust.credentials import faust_settings
from headrace.edges.faust.fence import Fence
from headrace.edges.faust.fenced_producer import Fail, FencedProducer
from headrace.edges.faust.first_frame import first_frame
from headrace.edges.faust.join_progress import JoinProgress, ProgressMeter
from headrace.edges.faust.recovery import JoinTableManager
from headrace.edges.faust.sequels import Delivered, Outgoing
from headrace.edges.faust.state_table import PartitionState, StateTable
from headrace.edges.faust.timing import Timing
from headrace.model.errors import HeadraceError, TopicError

# Frames that wait for the stage, of all partitions together; each may hold a mebibyte.
_FRAMES_WAITING_MAX = 32
_COMMIT_INTERVAL_S = 0.4
_STOP_TIMEOUT_S = 30.0
_WATCH_INTERVAL_S = 1.0
EXIT_STATUS = 70
"""Status of a process that ended itself so as not to do harm: BSD's EX_SOFTWARE."""

S = TypeVar("S", bound=PartitionState)

log = logging.getLogger(__name__)


class JoinStuck(HeadraceError):
    """Neither the group nor a recovery moved for too long; this process has to start anew."""


class JoinFailed(HeadraceError):
    """Faust ended by itself, or did not end when told to; this process has to start anew."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One record of the matches topic, as it was read."""

    partition: int
    offset: int
    # Kafka's timestamp of the record.
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


def end_process(error: BaseException) -> NoReturn:
    """Log why, and end the process at once, without any clean-up that could still write or commit."""
    log.critical("this process ends: %s", error, exc_info=error)
    for handler in logging.getLogger().handlers:
        handler.flush()
    os._exit(EXIT_STATUS)


class JoinApp(Generic[S]):
    """Feeds a stage with the frames of the matches topic, partition by partition and in order."""

    def __init__(
        self,
        *,
        properties: Mapping[str, str],
        group: str,
        matches_topic: str,
        changelog_topic: str,
        new_state: Callable[[int], S],
        on_frame: Callable[[S, Frame], Awaitable[None]],
        data_dir: Path,
        next_offset: Callable[[S], int | None] | None = None,
        output_topics: tuple[str, ...] = (),
        fail: Fail = end_process,
        stuck_after_s: float = 120.0,
    ) -> None:
        """Prepare; nothing is connected before `run`, and everything else is called in `run`'s event loop.

        Args:
            properties: librdkafka's client properties, `bootstrap.servers` among them.
            group: the consumer group's name, which is also Faust's application id.
            matches_topic: the frames' topic; it exists.
            changelog_topic: the states' topic; it exists, with as many partitions, and is compacted only.
            new_state: makes the empty state of a partition.
            on_frame: applies one frame to its partition's state. Whatever must be durable before the frame counts as
                done, it has handed to `producer` or `table` by the time it returns.
            data_dir: a directory for Faust, which keeps nothing of worth there.
            next_offset: tells from a restored state which frame it wants next, None where it cannot say. Without it
                the group's committed offset decides.
            output_topics: topics that `on_frame` writes to, whose leaders are looked up at start.
            fail: ends the process; it is told what went wrong.
            stuck_after_s: how long joining the group and recovering may stand still, in seconds.

        Raises:
            SettingsError: a property cannot be served.
        """
        self._matches_topic, self._changelog_topic = matches_topic, changelog_topic
        self._output_topics = output_topics
        self._on_frame, self._next_offset, self._stuck_after_s = on_frame, next_offset, stuck_after_s
        self._fail_with, self._has_failed = fail, False
        timing = Timing.of(properties)
        fence = Fence(timing.fence_s)
        self._faust = _new_faust(group, properties, timing, data_dir)
        self.producer = FencedProducer(properties, fence=fence, delivery_timeout_s=timing.delivery_s, fail=self._fail)
        self.table: StateTable[S] = StateTable(
            self._faust, name="state", changelog=changelog_topic, new_state=new_state, producer=self.producer
        )
        self._meter = ProgressMeter(fence.now_s)
        self._join = self._faust.join = JoinContext(
            matches_topic=matches_topic,
            timing=timing,
            fence=fence,
            producer=self.producer,
            table=self.table,
            meter=self._meter,
            fail=self._fail,
            start_offset=self._start_offset,
        )
        self._faust.tables.add(self.table)
        topic = self._faust.topic(
            matches_topic,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            allow_empty=True,
        )
        self._faust.agent(topic, name="join", concurrency=1)(self._apply_all)

    async def run(self, stop: asyncio.Event) -> None:
        """Join the group and apply frames until `stop` is set, then give everything back cleanly.

        Raises:
            NoBrokerError: no broker answered.
            TopicError: a topic is missing, or the two have different numbers of partitions.
        """
        await self.producer.start(self._output_topics)
        try:
            await self._check_topics()
        except BaseException:
            await self.producer.stop()
            raise
        starting = asyncio.create_task(self._faust.start(), name="join starts")
        watching = asyncio.create_task(self._watch(), name="join is watched")
        crashed = asyncio.create_task(self._faust._crashed.wait(), name="join crashes")
        stopped = asyncio.create_task(stop.wait(), name="join is to stop")
        try:
            waiting = {starting, crashed, stopped, watching}
            while not stopped.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if crashed in done:
                    self._fail(self._faust.crash_reason or JoinFailed("Faust crashed without a reason."))
                for task in done & {starting, watching}:
                    if task.exception() is not None:
                        self._fail(cast(BaseException, task.exception()))
        finally:
            crashed.cancel()
            stopped.cancel()
            watching.cancel()
        await self._stop(starting)

    def send_all(self, records: Iterable[Outgoing]) -> Delivered:
        """Send records, see `FencedProducer.send_all`."""
        return self.producer.send_all(records)

    def write(
        self, partition: int, changes: Iterable[tuple[bytes, bytes | None]], after: Delivered | None = None
    ) -> None:
        """Write changes of a partition's state, see `StateTable.write`."""
        self.table.write(partition, changes, after)

    def progress(self) -> JoinProgress:
        """Return how the join is getting on."""
        consumer = self._consumer
        positions = {} if consumer is None else consumer.next_offsets
        lag = 0
        if consumer is not None:
            for tp, offset in positions.items():
                lag += max(0, consumer.end_offset(tp) - offset)
        return self._meter.show((tp.partition for tp in positions), lag)

    @property
    def _consumer(self) -> JoinConsumer | None:
        return cast("JoinConsumer | None", self._faust._consumer)

    async def _stop(self, starting: asyncio.Task[None]) -> None:
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                consumer = self._consumer
                if consumer is not None and self._join.fence.is_open:
                    await consumer.drain()
                await self._faust.stop()
                with contextlib.suppress(Exception):
                    await starting
                await self.producer.stop()
        except TimeoutError:
            self._fail(JoinFailed(f"the join did not stop within {_STOP_TIMEOUT_S:g} s; its process is ended."))

    async def _apply_all(self, stream: StreamT[bytes]) -> None:
        """Faust's agent. It lets no exception out: Faust would take the frame for done, and skip it."""
        async for _ in stream:
            event = stream.current_event
            assert event is not None
            message = event.message
            frame = Frame(
                message.partition, message.offset, round(message.timestamp * 1000), message.key, message.value
            )
            self._join.frame_done.clear()
            try:
                await self.producer.room()
                await self._on_frame(self.table.state_of(frame.partition), frame)
            except asyncio.CancelledError as error:
                self._fail(error)
                raise
            except BaseException as error:
                await self._join.fail_behind(error)
                raise
            self._join.frame_applied(message.tp, message.offset)

    async def _watch(self) -> None:
        """End the process when it stands still: Faust can hang, and then it neither commits nor says so."""
        while True:
            await asyncio.sleep(_WATCH_INTERVAL_S)
            consumer = self._consumer
            if consumer is None or not consumer.started:
                continue
            await consumer.check_membership()
            shown = self.progress()
            if not shown.recovered and shown.still_s > self._stuck_after_s:
                raise JoinStuck(
                    f"the join has not moved for {shown.still_s:.0f} s: {shown.recovery_remaining} records of topic "
                    f"{self._changelog_topic} remain to be restored; this process ends and starts anew. If that "
                    "does not help, look at the brokers' logs."
                )
            # A broker that is out of reach is waited for, and the fence sees to it that nothing is written.
            silent_s = shown.commit_age_s or 0.0
            if shown.recovered and shown.partitions and silent_s > self._stuck_after_s and not consumer.is_committing:
                raise JoinStuck(f"the join has not committed for {silent_s:.0f} s; this process starts anew.")

    def _start_offset(self, partition: int, committed: int | None, low: int, high: int) -> int:
        wanted = None if self._next_offset is None else self._next_offset(self.table.state_of(partition))
        return first_frame(self._matches_topic, self._changelog_topic, partition, wanted, committed, low, high)

    async def _check_topics(self) -> None:
        matches = await self.producer.partition_count(self._matches_topic)
        changelog = await self.producer.partition_count(self._changelog_topic)
        if matches != changelog:
            raise TopicError(
                f"topic {self._matches_topic} has {matches} partitions and topic {self._changelog_topic} "
                f"{changelog}: they must have equally many, so create the latter anew with {matches}."
            )

    def _fail(self, error: BaseException) -> None:
        # What ends the process is the first cause; what follows from it would only hide it.
        if not self._has_failed:
            self._has_failed = True
            self._fail_with(error)


def _new_faust(group: str, properties: Mapping[str, str], timing: Timing, data_dir: Path) -> JoinFaust:
    settings: dict[str, Any] = faust_settings(properties)
    app = JoinFaust(
        group,
        # Faust lets environment variables with everyday names (BROKER_URL, TIMEZONE) override its arguments.
        env={},
        autodiscover=False,
        datadir=str(data_dir),
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        processing_guarantee="at_least_once",
        # Partitions are positioned by `JoinConsumer.start_frames`; where records are gone, that is an error, and no
        # reason to jump.
        consumer_auto_offset_reset="none",
        broker_commit_interval=_COMMIT_INTERVAL_S,
        broker_commit_every=None,
        broker_session_timeout=timing.session_s,
        broker_heartbeat_interval=timing.heartbeat_s,
        broker_rebalance_timeout=timing.rebalance_s,
        broker_max_poll_interval=timing.max_poll_s,
        broker_request_timeout=max(timing.session_s, timing.rebalance_s) + 5.0,
        stream_buffer_maxsize=_FRAMES_WAITING_MAX,
        # `JoinConsumer.drain` waits instead, within bounds.
        stream_wait_empty=False,
        TableManager=JoinTableManager,
        **settings,
    )
    app.finalize()
    app.transport = JoinTransport(app.conf.broker_consumer, app)
    return app
