"""Writes events to their topics, and knows for each whether Kafka has it; topics that do not exist are never made."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from headrace.edges.faust.fenced_producer import producer_properties
from headrace.model.errors import SettingsError
from headrace.stages.receive import ReceivedEvent

DELIVERY_TIMEOUT_S = 10.0
LIST_TIMEOUT_S = 5.0
LIST_INTERVAL_S = 0.1
"""Time between two lists of topics: unknown names, however many are asked for, cost the broker no more than that."""
_POLL_S = 0.1
# The existence of a topic has been asked for before; what librdkafka still waits for then is a broker that lags.
_PROPAGATION_MS = 2_000

_NO_TOPIC = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)
_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Written:
    """Kafka has acknowledged every event that has a topic."""

    written: int
    without_topic: int


@dataclass(frozen=True, slots=True)
class TooLarge:
    """Kafka will never take an event of this size there; others of the same call may have been written."""

    message: str


@dataclass(frozen=True, slots=True)
class Unacknowledged:
    """Kafka is away, or has not acknowledged in time: events may or may not have been written."""

    message: str


Outcome = Written | TooLarge | Unacknowledged


class _Call:
    """Records that were sent by one call of `write`. It belongs to the loop's thread."""

    __slots__ = ("errors", "future", "left")

    def __init__(self, left: int) -> None:
        self.left = left
        self.errors: list[KafkaError] = []
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def report(self, error: KafkaError | None) -> None:
        self.left -= 1
        if error is not None:
            self.errors.append(error)
        if self.left == 0 and not self.future.done():
            self.future.set_result(None)


class EventWriter:
    """An idempotent producer for one event loop; its methods are called from the loop's thread."""

    def __init__(self, properties: Mapping[str, str]) -> None:
        """Prepare; `properties` are librdkafka's, `bootstrap.servers` among them."""
        self._properties: dict[str, Any] = {
            **producer_properties(properties, DELIVERY_TIMEOUT_S),
            "allow.auto.create.topics": "false",
            "topic.metadata.propagation.max.ms": str(_PROPAGATION_MS),
            "error_cb": self._on_error,
        }
        # A body of the largest size fits a topic of Kafka's own limit only if it is compressed.
        if not any(name in properties for name in ("compression.type", "compression.codec")):
            self._properties["compression.type"] = "lz4"
        if "message.max.bytes" not in properties:
            self._properties["message.max.bytes"] = str(4 * 1024 * 1024)
        self._topics: frozenset[str] = frozenset()
        self._listing = asyncio.Lock()
        self._lists_begun = 0
        self._list_begun_s = 0.0
        self._list_error: KafkaException | None = None
        self._reports: deque[tuple[_Call, KafkaError | None]] = deque()
        self._wake_is_due = False
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="event-writer", daemon=True)
        self.fatal: str | None = None
        """Why nothing can be written any more by this writer, if so."""

    def start(self) -> None:
        """Connect in the background.

        Raises:
            SettingsError: librdkafka refuses a property.
        """
        self._loop = asyncio.get_running_loop()
        try:
            self._producer = Producer(self._properties)
        except KafkaException as error:
            raise SettingsError(
                f"Kafka's client refuses its settings ({error.args[0].str()}): check the variables HEADRACE_KAFKA_*"
            ) from None
        self._poller.start()

    async def stop(self) -> None:
        """Deliver what is under way, within the time that a delivery may take, and disconnect."""
        left = await asyncio.to_thread(self._producer.flush, DELIVERY_TIMEOUT_S + 1)
        if left:
            log.warning("%d events were not acknowledged before the stop; none of them was answered with success", left)
        self._stopping.set()
        await asyncio.to_thread(self._poller.join)

    async def write(self, events: Sequence[ReceivedEvent]) -> Outcome:
        """Write events, and return once Kafka has acknowledged each, or has not in time.

        An event whose topic does not exist is left out and counted. A topic that came into being before this call is
        never taken for missing.
        """
        if not all(event.name in self._topics for event in events):
            try:
                await self.learn_topics()
            except KafkaException as error:
                return Unacknowledged(f"Kafka does not answer ({error.args[0].str()}): send it again later")
        sent = [event for event in events if event.name in self._topics]
        if not sent:
            return Written(0, len(events))
        call = _Call(len(sent))
        for event in sent:
            self._send(call, event)
        await call.future
        return self._outcome(call, sent, len(events) - len(sent))

    def _send(self, call: _Call, event: ReceivedEvent) -> None:
        def delivered(error: KafkaError | None, _: object) -> None:
            self._report(call, error)

        try:
            self._producer.produce(
                event.name, event.value, event.key, on_delivery=delivered, headers=list(event.headers)
            )
        except BufferError:
            call.report(KafkaError(KafkaError._QUEUE_FULL))
        except KafkaException as error:
            call.report(error.args[0])

    def _outcome(self, call: _Call, sent: Sequence[ReceivedEvent], without_topic: int) -> Outcome:
        if not call.errors:
            return Written(len(sent), without_topic)
        # Whatever it was, the next call shall ask again which topics there are.
        self._topics -= {event.name for event in sent}
        lost = [error for error in call.errors if error.code() not in _NO_TOPIC]
        if not lost:
            return Written(len(sent) - len(call.errors), without_topic + len(call.errors))
        waiting = [error for error in lost if error.code() not in _TOO_LARGE]
        if not waiting:
            return TooLarge(f"the topic takes no event of this size ({lost[0].str()}): send less in one event")
        return Unacknowledged(f"Kafka has not acknowledged ({waiting[0].str()}): send it again later")

    async def learn_topics(self) -> None:
        """Ask which topics there are; the list that answers is begun after this call.

        Raises:
            KafkaException: no broker answers.
        """
        begun_before = self._lists_begun
        async with self._listing:
            # While this call waited, another one may have begun a list that serves both.
            if self._lists_begun == begun_before:
                await asyncio.sleep(self._list_begun_s + LIST_INTERVAL_S - self._loop.time())
                self._lists_begun += 1
                self._list_begun_s = self._loop.time()
                await self._list_topics()
            if self._list_error is not None:
                raise self._list_error

    async def _list_topics(self) -> None:
        try:
            # The producer's own list: what it holds of a topic that was missing before is mended by it.
            metadata = await asyncio.to_thread(self._producer.list_topics, timeout=LIST_TIMEOUT_S)
        except KafkaException as error:
            self._list_error = error
            return
        self._list_error = None
        missing = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)
        self._topics = frozenset(
            name for name, topic in metadata.topics.items() if topic.error is None or topic.error.code() not in missing
        )

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(_POLL_S)

    def _report(self, call: _Call, error: KafkaError | None) -> None:
        """In the polling thread: let the loop see the report, waking it once for all that it has not seen yet."""
        self._reports.append((call, error))
        if not self._wake_is_due:
            self._wake_is_due = True
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._take_reports)

    def _take_reports(self) -> None:
        # Cleared first: a report that comes while the queue is emptied wakes the loop again, at worst for nothing.
        self._wake_is_due = False
        while self._reports:
            call, error = self._reports.popleft()
            call.report(error)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:
            self.fatal = error.str()
