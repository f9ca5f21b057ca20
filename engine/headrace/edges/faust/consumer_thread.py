"""The thread of the join's consumer: it reads, commits, and keeps the membership while the stage is busy."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, TypeVar, cast

import aiokafka
from aiokafka.errors import CommitFailedError, IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

# How long one read waits for records. Nothing depends on it: data, a rebalance and a stop all end it.
_READ_TIMEOUT_MS = 1000
# How long a broker waits for new records before it answers that there are none. A start or a rebalance may have to
# wait for one such answer.
_FETCH_WAIT_MS = 200

T = TypeVar("T")
Records = Mapping[Any, list[Any]]

log = logging.getLogger(__name__)


class ReadingStopped(Exception):
    """A read was ended because a rebalance or a stop began; what it would have returned is read again later."""


class JoinConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that reads and keeps the membership; it can be asked for a whole batch, and to stop waiting."""

    _reading: asyncio.Task[Any] | None = None

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Run a coroutine in the thread; unlike Faust's queue of methods this cannot wait behind another call."""
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self.thread_loop)
        return asyncio.wrap_future(future)

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # A broker is asked one question at a time, and would let it wait for new records for Faust's 1.5 s.
        consumer._fetch_max_wait_ms = _FETCH_WAIT_MS
        return consumer

    async def read_in_thread(self, tps: frozenset[TP]) -> Records | None:
        """Return the next records; None where the read was ended.

        That is no exception, because nobody may be left to hear it: a stop also cancels whoever asked.
        """
        consumer = self._ensure_consumer()
        self._reading = asyncio.current_task()
        try:
            return cast(
                Records, await consumer.getmany(*map(driver.ensure_aiokafka_TP, tps), timeout_ms=_READ_TIMEOUT_MS)
            )
        except asyncio.CancelledError:
            return None
        finally:
            self._reading = None

    def stop_reading(self) -> None:
        """End the read that is waiting, if any; what it had already taken is still returned."""

        def cancel() -> None:
            if self._reading is not None:
                self._reading.cancel()

        self.thread_loop.call_soon_threadsafe(cancel)

    async def check_in_thread(self) -> None:
        consumer = self._consumer
        if consumer is not None and consumer._coordinator is not None:
            consumer._coordinator.check_errors()

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
