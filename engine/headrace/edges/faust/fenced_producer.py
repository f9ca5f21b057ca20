"""The producer of the join: what it takes is delivered, in order, within its fence, or the process ends."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from headrace.edges.faust.fence import Fence
from headrace.edges.faust.sequels import Delivered, Headers, Outgoing, Sequels
from headrace.edges.kafka.deliveries import Deliveries
from headrace.model.errors import HeadraceError, NoBrokerError, TopicError

Fail = Callable[[BaseException], None]
"""Ends the process at once; what it is called with says why."""

# The loop is woken by delivery reports, so this only bounds how long a stop waits for the polling thread.
_POLL_S = 0.2
_METADATA_TIMEOUT_S = 30.0
# Of librdkafka's own patience: it must never drop a record by itself and then deliver a later one, since a
# changelog with a hole would be read as whole. The process ends before, and what was written is a prefix.
_PATIENCE_SHARE = 0.7
# Of that patience: how old the oldest undelivered record may be when a frame is begun. A queue of many records is no
# harm where Kafka takes them in a second, and would be given up where it takes a tenth of that.
_ROOM_SHARE = 0.1
_OUTSTANDING_RECORDS_MAX = 50_000
_OUTSTANDING_BYTES_MAX = 8 * 1024 * 1024
# How long the report of a fatal error may take, once a send was refused because of it.
_CAUSE_PATIENCE_S = 1.0
# Sets of records that wait for others, of a frame each; enough to bridge the time that a delivery takes.
_SEQUELS_MAX = 32
# A frame's outputs are sent as a whole, so librdkafka's own bounds, which could refuse a record in the middle, are
# out of reach; `room` holds the next frame back instead.
_QUEUE_RECORDS_MAX = 10_000_000
_QUEUE_KBYTES_MAX = 2_097_151

log = logging.getLogger(__name__)
# librdkafka's own lines have a logger of their own, since not all of them are wanted.
_client_log = logging.getLogger(f"{__name__}.client")
# Each start would warn that the one property which keeps the changelog free of gaps is called experimental.
_client_log.addFilter(lambda record: "enable.gapless.guarantee is experimental" not in record.getMessage())


class DeliveryFailed(HeadraceError):
    """A record could not be delivered, or not in time; this process has to start anew."""


class FencedProducer:
    """An idempotent librdkafka producer for one event loop; its methods are called from the loop's thread."""

    def __init__(
        self,
        properties: Mapping[str, str],
        *,
        fence: Fence,
        delivery_timeout_s: float,
        fail: Fail,
    ) -> None:
        """Prepare a producer; nothing is connected before `start`.

        Args:
            properties: librdkafka's, `bootstrap.servers` among them; those that only consumers know are left out.
            fence: what every send asks first.
            delivery_timeout_s: after this time at the latest an undelivered record is given up, even by a process that
                was paused in between.
            fail: ends the process; called once, from the loop's thread, when a record was not delivered.
        """
        self._properties = {
            **producer_properties(properties, delivery_timeout_s),
            # A refused record stops the producer for good instead of leaving a gap before the next one.
            "enable.gapless.guarantee": "true",
        }
        self._fence = fence
        self._patience_s = delivery_timeout_s * _PATIENCE_SHARE
        self._fail = fail
        self._producer: Producer | None = None
        self._poller: threading.Thread | None = None
        self._stopping = False
        # Set at a failure, in the thread that learns of it; given up is what follows, in the loop's.
        self._failed = self._has_given_up = False
        self._deliveries = Deliveries(
            records_max=_OUTSTANDING_RECORDS_MAX,
            bytes_max=_OUTSTANDING_BYTES_MAX,
            age_max_s=self._patience_s * _ROOM_SHARE,
            now_s=fence.now_s,
            on_failure=self._delivery_failed,
        )
        self._sequels = Sequels(
            self.send_all, self._give_up, waiting_max=_SEQUELS_MAX, bytes_max=_OUTSTANDING_BYTES_MAX
        )
        self._patience: asyncio.TimerHandle | None = None

    async def start(self, topics: Iterable[str] = ()) -> None:
        """Connect, and learn the leaders of `topics`, so that the first send need not wait for that.

        Raises:
            NoBrokerError: no broker answered.
        """
        self._deliveries.start()
        self._producer = Producer({**self._properties, "error_cb": self._on_error}, logger=_client_log)
        self._stopping = False
        self._poller = threading.Thread(target=self._poll, name="headrace-producer", daemon=True)
        self._poller.start()
        self._watch_patience()
        try:
            for topic in topics:
                await self.partition_count(topic)
        except BaseException:
            await self.stop()
            raise

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
        return self._deliveries.records

    def send(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> Delivered:
        """Send one record; see `send_all`."""
        return self.send_all((Outgoing(topic, partition, key, value, headers),))

    def send_all(self, records: Iterable[Outgoing]) -> Delivered:
        """Send records, in order, without waiting.

        Returns:
            a future that is done when all are delivered. It may be dropped: a record that cannot be delivered ends
            the process anyway.

        Raises:
            FenceExpired: nothing was sent, and nothing may be sent any more.
            DeliveryFailed: Kafka's client refused a record; the process ends. Where it refuses because of an earlier
                record, the future tells instead, once that record's report has told the cause.
        """
        self._fence.check()
        producer = self._producer
        if producer is None or self._has_given_up:
            raise DeliveryFailed("a record was not sent, because the producer has stopped or failed: start anew.")
        batch = self._deliveries.new_batch()
        if self._failed:
            self._deliveries.add(batch, 1, 0)
            return batch.future
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
            if not _is_fatal(error):
                self._give_up(failure)
                raise failure from error
            # The client has failed before, and its report of that, which names the cause, is on its way.
            asyncio.get_running_loop().call_later(_CAUSE_PATIENCE_S, self._give_up, failure)
            count += 1
        self._deliveries.add(batch, count, size)
        return batch.future

    def send_after(self, after: Delivered | None, records: Sequence[Outgoing]) -> None:
        """Send records once `after` is done and all that was sent so before is sent; see `send_all`.

        Where they have to wait and may then not be sent any more, the process ends.
        """
        self._sequels.add(after, records)

    async def room(self) -> None:
        """Wait until few enough records are undelivered, and none for long, to send another frame's."""
        await self._sequels.room()
        await self._deliveries.room()

    async def barrier(self) -> None:
        """Wait until everything sent before this call is delivered, and what was to follow it.

        Raises:
            DeliveryFailed: something was not; the process ends.
        """
        await self._sequels.all_sent()
        await self._deliveries.all_done()
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
        self._deliveries.call_loop(lambda: self._give_up(failure))

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
        self._deliveries.call_loop(lambda: self._give_up(failure))

    def _watch_patience(self) -> None:
        sent_at_s = self._deliveries.oldest_sent_at_s
        if sent_at_s is not None and self._fence.now_s() - sent_at_s > self._patience_s:
            self._give_up(
                DeliveryFailed(
                    f"records for Kafka were not delivered within {self._patience_s:g} s: check that the brokers "
                    "that lead the internal topics are reachable and in sync."
                )
            )
            return
        self._patience = asyncio.get_running_loop().call_later(self._patience_s / 10, self._watch_patience)

    def _give_up(self, failure: BaseException) -> None:
        if self._has_given_up:
            return
        self._failed = self._has_given_up = True
        self._sequels.give_up()
        self._deliveries.give_up(failure)
        self._fail(failure)


def _is_fatal(error: BaseException) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() == KafkaError._FATAL


_CONSUMER_ONLY = (
    "auto.",
    "check.crcs",
    "enable.auto.",
    "enable.partition.eof",
    "fetch.",
    "group.",
    "heartbeat.",
    "isolation.level",
    "max.partition.",
    "max.poll.",
    "partition.assignment.",
    "queued.",
    "session.",
)
# Set here whatever anyone else wants, under all the names that librdkafka has for them.
_OURS = {
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "enable.gapless.guarantee",
    "transactional.id",
    "delivery.timeout.ms",
    "message.timeout.ms",
    "queue.buffering.max.messages",
    "queue.buffering.max.kbytes",
}
_LINGER = ("linger.ms", "queue.buffering.max.ms")


def producer_properties(properties: Mapping[str, str], delivery_timeout_s: float) -> dict[str, Any]:
    """Return librdkafka's properties for a producer that neither loses nor reorders nor doubles records."""
    common: dict[str, Any] = {
        name: value for name, value in properties.items() if not name.startswith(_CONSUMER_ONLY) and name not in _OURS
    }
    if not any(name in common for name in _LINGER):
        common["linger.ms"] = "0.5"
    return {
        **common,
        "acks": "all",
        "enable.idempotence": "true",
        "delivery.timeout.ms": str(round(delivery_timeout_s * 1000)),
        "queue.buffering.max.messages": str(_QUEUE_RECORDS_MAX),
        "queue.buffering.max.kbytes": str(_QUEUE_KBYTES_MAX),
        # Connections are opened at start, not by the first record.
        "enable.sparse.connections": "false",
    }
