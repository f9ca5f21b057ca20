"""The producer of the join: what it takes is delivered, in order, within its fence, or the process ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from headrace.edges.fence import Fence
from headrace.model.errors import HeadraceError, NoBrokerError, TopicError

Headers = tuple[tuple[str, bytes], ...]
Fail = Callable[[BaseException], None]
"""Ends the process at once; what it is called with says why."""

# The loop is woken by delivery reports, so this only bounds how long a stop waits for the polling thread.
_POLL_S = 0.2
_METADATA_TIMEOUT_S = 30.0
# Of librdkafka's own patience: it must never drop a record by itself and then deliver a later one, since a
# changelog with a hole would be read as whole. The process ends before, and what was written is a prefix.
_PATIENCE_SHARE = 0.7
# A frame's outputs are sent as a whole, so librdkafka's own bounds, which could refuse a record in the middle, are
# out of reach; `room` holds the next frame back instead.
_QUEUE_RECORDS_MAX = 10_000_000
_QUEUE_KBYTES_MAX = 2_097_151

log = logging.getLogger(__name__)


class DeliveryFailed(HeadraceError):
    """A record could not be delivered, or not in time; this process has to start anew."""


class Outgoing(NamedTuple):
    """One record to produce; `value` None is a tombstone."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class _Batch:
    """Records sent together. `expected` belongs to the loop's thread, `delivered` to the polling thread."""

    __slots__ = ("count", "delivered", "expected", "future", "owner", "sent_at_s")

    def __init__(self, owner: FencedProducer, future: asyncio.Future[None], sent_at_s: float) -> None:
        self.owner = owner
        self.future = future
        self.sent_at_s = sent_at_s
        self.count = 0
        self.delivered = 0
        self.expected = -1

    def report(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self.owner._delivery_failed(error, message)
            return
        self.delivered += 1
        if self.delivered == self.expected:
            self.owner._batch_delivered(self)


class FencedProducer:
    """An idempotent librdkafka producer for one event loop; its methods are called from the loop's thread."""

    def __init__(
        self,
        properties: Mapping[str, str],
        *,
        fence: Fence,
        delivery_timeout_s: float,
        fail: Fail,
        outstanding_records_max: int = 200_000,
        outstanding_bytes_max: int = 64 * 1024 * 1024,
    ) -> None:
        """Prepare a producer; nothing is connected before `start`.

        Args:
            properties: librdkafka's, `bootstrap.servers` among them; those that only consumers know are left out.
            fence: what every send asks first.
            delivery_timeout_s: after this time at the latest an undelivered record is given up, even by a process that
                was paused in between.
            fail: ends the process; called once, from the loop's thread, when a record was not delivered.
            outstanding_records_max: undelivered records above which `room` waits.
            outstanding_bytes_max: the same in bytes of keys and values.
        """
        self._properties = producer_properties(properties, delivery_timeout_s)
        self._fence = fence
        self._patience_s = delivery_timeout_s * _PATIENCE_SHARE
        self._fail = fail
        self._records_max = outstanding_records_max
        self._bytes_max = outstanding_bytes_max
        self._producer: Producer | None = None
        self._poller: threading.Thread | None = None
        self._stopping = False
        self._failed = False
        self._outstanding: dict[int, _Batch] = {}
        self._outstanding_records = 0
        self._outstanding_bytes = 0
        self._delivered: deque[_Batch] = deque()
        self._wake_is_due = False
        self._room = asyncio.Event()
        self._patience: asyncio.TimerHandle | None = None

    async def start(self, topics: Iterable[str] = ()) -> None:
        """Connect, and learn the leaders of `topics`, so that the first send need not wait for that.

        Raises:
            NoBrokerError: no broker answered.
        """
        self._loop = asyncio.get_running_loop()
        self._producer = Producer({**self._properties, "error_cb": self._on_error}, logger=log)
        self._stopping = False
        self._room.set()
        self._poller = threading.Thread(target=self._poll, name="headrace-producer", daemon=True)
        self._poller.start()
        self._watch_patience()
        for topic in topics:
            await self.partition_count(topic)

    async def partition_count(self, topic: str) -> int:
        """Return how many partitions a topic has; the producer then also knows their leaders.

        Raises:
            NoBrokerError: no broker answered.
            TopicError: there is no such topic.
        """
        return await asyncio.to_thread(self._learn, topic)

    async def stop(self) -> None:
        """Stop; records that are still undelivered are given up, so wait for `barrier` before."""
        if self._patience is not None:
            self._patience.cancel()
        self._stopping = True
        if self._poller is not None:
            await asyncio.to_thread(self._poller.join)
        if self._producer is not None:
            self._producer.purge()
            self._producer = None

    @property
    def outstanding_records(self) -> int:
        """Records sent and not yet delivered."""
        return self._outstanding_records

    def send(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> asyncio.Future[None]:
        """Send one record; see `send_all`."""
        return self.send_all((Outgoing(topic, partition, key, value, headers),))

    def send_all(self, records: Iterable[Outgoing]) -> asyncio.Future[None]:
        """Send records, in order, without waiting.

        Returns:
            a future that is done when all are delivered. It may be dropped: a record that cannot be delivered ends
            the process anyway.

        Raises:
            FenceExpired: nothing was sent, and nothing may be sent any more.
            DeliveryFailed: Kafka's client refused a record; the process ends.
        """
        self._fence.check()
        producer = self._producer
        if producer is None or self._failed:
            raise DeliveryFailed("a record was not sent, because the producer has stopped or failed: start anew.")
        batch = _Batch(self, self._loop.create_future(), self._fence.now_s())
        produce, report, count, size = producer.produce, batch.report, 0, 0
        try:
            for topic, partition, key, value, headers in records:
                if headers:
                    produce(topic, value, key, partition, report, headers=list(headers))
                else:
                    produce(topic, value, key, partition, report)
                count += 1
                size += (len(key) if key else 0) + (len(value) if value else 0)
        except (KafkaException, BufferError) as error:
            failure = DeliveryFailed(f"a record for topic {topic} was refused by Kafka's client: {error}.")
            self._give_up(failure)
            raise failure from error
        if count == 0:
            batch.future.set_result(None)
            return batch.future
        batch.count = size
        self._outstanding[id(batch)] = batch
        self._outstanding_records += count
        self._outstanding_bytes += size
        if self._outstanding_records > self._records_max or self._outstanding_bytes > self._bytes_max:
            self._room.clear()
        batch.expected = count
        # The last report may have come before `expected` was set; then nobody else has noticed it.
        if batch.delivered == count:
            self._batch_delivered(batch)
        return batch.future

    async def room(self) -> None:
        """Wait until few enough records are undelivered to send another frame's."""
        await self._room.wait()

    async def barrier(self) -> None:
        """Wait until everything sent before this call is delivered.

        Raises:
            DeliveryFailed: something was not; the process ends.
        """
        pending = [batch.future for batch in self._outstanding.values()]
        if pending:
            await asyncio.wait(pending)
        if self._failed:
            raise DeliveryFailed("records sent before could not be delivered.")

    def _learn(self, topic: str) -> int:
        assert self._producer is not None
        try:
            metadata = self._producer.list_topics(topic, timeout=_METADATA_TIMEOUT_S).topics[topic]
        except KafkaException as error:
            raise NoBrokerError(
                f"no broker of {self._properties.get('bootstrap.servers')} told about topic {topic}: {error}; check "
                "the address and the network."
            ) from error
        if metadata.error is not None:
            raise TopicError(f"topic {topic} cannot be used: {metadata.error.str()}; create it before.")
        return len(metadata.partitions)

    def _poll(self) -> None:
        producer = self._producer
        assert producer is not None
        while not self._stopping:
            try:
                producer.poll(_POLL_S)
            except KafkaException as error:
                # This is how a fatal error arrives; the reports of the records that it hit still follow.
                self._client_failed(error.args[0])

    def _batch_delivered(self, batch: _Batch) -> None:
        """Called from either thread: let the loop see it, waking it once for all batches that it has not seen yet."""
        self._delivered.append(batch)
        if not self._wake_is_due:
            self._wake_is_due = True
            self._call_loop(self._take_delivered)

    def _take_delivered(self) -> None:
        # Cleared first: a batch that comes while the queue is emptied wakes the loop again, at worst for nothing.
        self._wake_is_due = False
        while self._delivered:
            batch = self._delivered.popleft()
            if self._outstanding.pop(id(batch), None) is None:
                continue
            self._outstanding_records -= batch.expected
            self._outstanding_bytes -= batch.count
            if not batch.future.done():
                batch.future.set_result(None)
        if self._outstanding_records <= self._records_max and self._outstanding_bytes <= self._bytes_max:
            self._room.set()

    def _delivery_failed(self, error: KafkaError, message: Any) -> None:
        """In the polling thread: stop what is still queued at once, so that nothing lands behind the gap."""
        if self._failed:
            return
        self._failed = True
        if self._producer is not None:
            self._producer.purge(in_flight=False, blocking=False)
        failure = DeliveryFailed(
            f"a record for topic {message.topic()} partition {message.partition()} could not be delivered: "
            f"{error.str()}; this process ends, and starts anew from what Kafka holds."
        )
        self._call_loop(lambda: self._give_up(failure))

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._client_failed(error)
        else:
            log.warning("Kafka's client reports: %s", error.str())

    def _client_failed(self, error: KafkaError) -> None:
        if self._failed:
            return
        self._failed = True
        failure = DeliveryFailed(f"Kafka's client cannot go on: {error.str()}.")
        self._call_loop(lambda: self._give_up(failure))

    def _watch_patience(self) -> None:
        oldest = next(iter(self._outstanding.values()), None)
        if oldest is not None and self._fence.now_s() - oldest.sent_at_s > self._patience_s:
            self._give_up(
                DeliveryFailed(
                    f"records for Kafka were not delivered within {self._patience_s:g} s: check that the brokers "
                    "that lead the internal topics are reachable and in sync."
                )
            )
            return
        self._patience = self._loop.call_later(self._patience_s / 10, self._watch_patience)

    def _give_up(self, failure: DeliveryFailed) -> None:
        self._failed = True
        for batch in self._outstanding.values():
            if not batch.future.done():
                batch.future.set_exception(failure)
                # Most of these futures were dropped on purpose; asyncio must not complain about each of them.
                batch.future.exception()
        self._fail(failure)

    def _call_loop(self, callback: Callable[[], None]) -> None:
        # Reports may come while the loop is closing; then nobody waits for them.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)


_CONSUMER_ONLY = ("fetch.", "group.", "session.", "heartbeat.", "max.poll.", "auto.", "partition.assignment.")


def producer_properties(properties: Mapping[str, str], delivery_timeout_s: float) -> dict[str, Any]:
    """Return librdkafka's properties for a producer that neither loses nor reorders nor doubles records."""
    common = {name: value for name, value in properties.items() if not name.startswith(_CONSUMER_ONLY)}
    return {
        # First, so that whoever operates Headrace may change it.
        "linger.ms": "0.5",
        **common,
        "acks": "all",
        "enable.idempotence": "true",
        # A refused record stops the producer for good instead of leaving a gap before the next one.
        "enable.gapless.guarantee": "true",
        "delivery.timeout.ms": str(round(delivery_timeout_s * 1000)),
        "queue.buffering.max.messages": str(_QUEUE_RECORDS_MAX),
        "queue.buffering.max.kbytes": str(_QUEUE_KBYTES_MAX),
        # Connections are opened at start, not by the first record.
        "enable.sparse.connections": "false",
    }
