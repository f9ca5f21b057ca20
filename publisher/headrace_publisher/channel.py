"""The way to Kafka that the publishers share: one librdkafka producer and the thread that serves it.

The thread is needed because librdkafka hands out its reports only to somebody who asks; so outcomes arrive
promptly even where nobody publishes for a while. It sleeps while nothing is under way.

librdkafka holds records back for `linger.ms`, 5 by default, to send many at once: what a batch needs, and a loss
of time for a single event. So the thread flushes, which sends at once, but not while a batch is queued. Who
sets `linger.ms` gets just that.
"""

import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from . import lifetime
from .delivery import Delivery, FailureReport, call_back, describe
from .errors import DeliveryFailed, InvalidAttribute, NotConfigured, PublisherUnusable, QueueFull
from .nesting import in_callback, refuse_in_callback, running_callbacks
from .record import Record
from .settings import PublisherSettings

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

_POLL_S = 0.05  # The thread wakes for every report; this only bounds how long closing waits for it.
_IDLE_POLL_S = 1.0  # Errors and token refreshes are served at this pace while nothing is under way.
_REFRESH_TIMEOUT_S = 2.0
_PURGE_TIMEOUT_S = 1.0
_RECORDS_PER_POLL = 1000

OnResult = Callable[[Delivery], None]


class Channel:
    """Sends records by one set of settings. Thread-safe; a forked child gets a producer of its own."""

    def __init__(self, settings: PublisherSettings) -> None:
        """Connects in the background; raises NotConfigured for settings that librdkafka refuses."""
        self.settings = settings
        self.close_timeout_s = settings.close_timeout_s
        self.report = FailureReport()
        self._prompt = "linger.ms" not in dict(settings.properties)
        self._closed = False
        self._producer: Producer | None = None
        self._thread: threading.Thread | None = None
        self._reset()
        self._open()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._under_way = threading.Event()
        self._batches = 0
        self._connection_error: tuple[float, str] | None = None

    def _open(self) -> "Producer":
        # Imported here, so that importing this package stays cheap for programs that never publish.
        from confluent_kafka import KafkaException, Producer

        with self._lock:
            if self._closed:
                raise self._closed_error()
            if self._producer is None:
                try:
                    producer = Producer({**dict(self.settings.properties), "error_cb": self._on_error})
                except KafkaException as error:
                    text = f"Kafka's client refuses its settings: {error.args[0].str()}."
                    raise NotConfigured(text) from error
                self._thread = threading.Thread(
                    target=self._serve, args=(producer, self._stop), name="headrace-publisher", daemon=True
                )
                self._thread.start()
                self._producer = producer
                lifetime.register(self)
            return self._producer

    def _ready(self) -> "Producer":
        producer = self._producer
        return self._open() if producer is None else producer

    def try_send(self, record: Record, on_result: OnResult | None) -> None:
        """Queues a record and returns at once.

        Without `on_result` a failure is reported on stderr. Raises BufferError where the queue is full, and
        DeliveryFailed where the failure is known at once.
        """
        from confluent_kafka import KafkaException

        producer = self._ready()
        answer = partial(self._on_answer, record.event, record.id, on_result)
        try:
            producer.produce(record.event, record.value, record.key, -1, answer, None, 0, record.headers)
        except KafkaException as error:
            cause = error.args[0]
            text = self._explanation(record.event, record.id, cause)
            raise DeliveryFailed(text, record.event, record.id, cause.name()) from error
        except UnicodeError as error:
            text = f"The id, key or a header of event {record.event} cannot be written as UTF-8: {error}."
            raise InvalidAttribute(text) from error
        if self._producer is not producer:
            # Another thread closed the channel meanwhile, and nobody will carry this record any more.
            raise self._closed_error()
        if not self._under_way.is_set():
            self._under_way.set()

    def send(self, record: Record, on_result: OnResult | None) -> None:
        """As `try_send`, but waits for room in a full queue; raises QueueFull after `queue_timeout_s`."""
        try:
            return self.try_send(record, on_result)
        except BufferError as error:
            if in_callback():  # Room comes only after this callback has returned.
                raise queue_full(record, self.settings) from error
            deadline_s = time.monotonic() + self.settings.queue_timeout_s
        except DeliveryFailed as failure:
            if failure.reason != "_UNKNOWN_TOPIC" or in_callback():
                raise
            # librdkafka remembers that the topic was missing. It may have been made since.
            self.refresh(record.event)
            return self.try_send(record, on_result)
        while True:
            self._poll(self._ready(), min(_POLL_S, self.settings.queue_timeout_s))
            try:
                return self.try_send(record, on_result)
            except BufferError as error:
                if time.monotonic() >= deadline_s:
                    raise queue_full(record, self.settings) from error

    def send_many(
        self,
        event: str,
        key: str | bytes | None,
        records: Iterable[tuple[str, bytes, dict[str, str | bytes | None]]],
        ids: list[str],
    ) -> None:
        """Queues many records of one event, given as id, value and headers, and notes their ids in `ids`.

        The fast way: failures are reported without ids, because a callback for each record, which would know
        its id, takes as long as queueing it. Waits and raises as `send` does.
        """
        producer = self._ready()
        produce, append, records = producer.produce, ids.append, iter(records)

        def answer(error: "KafkaError | None", message: "Message") -> None:
            if error is not None:
                self.report.add(self._explanation(event, None, error))

        with self._lock:
            self._batches += 1
        try:
            queued = -1
            while queued != len(ids):
                queued = len(ids)
                for id, value, headers in islice(records, _RECORDS_PER_POLL):
                    try:
                        produce(event, value, key, -1, answer, None, 0, headers)
                    except Exception:
                        self.send(Record(event, id, key, value, headers), None)
                    append(id)
                if not in_callback():
                    self._poll(producer, 0)
        finally:
            with self._lock:
                self._batches -= 1
            self._under_way.set()
        if self._producer is not producer:
            raise self._closed_error()

    def refresh(self, event: str) -> None:
        """Asks the brokers, for 2 s at most, whether the topic exists; takes no answer for an answer."""
        from confluent_kafka import KafkaException

        producer = self._ready()
        try:
            with running_callbacks():
                producer.list_topics(event, timeout=_REFRESH_TIMEOUT_S)
        except KafkaException as error:
            self._on_error(error.args[0])

    def flush(self, timeout_s: float) -> int:
        """Waits until all is delivered; returns how many events are not, counting those that failed since."""
        refuse_in_callback("flush")
        waiting = 0
        if (producer := self._producer) is not None and self._flush(producer, timeout_s):
            # librdkafka's count includes what waits to be told beside records, such as connection errors.
            waiting = max(1, min(self._poll(producer, 0) for _ in range(3)))
        self.report.write()
        return waiting + self.report.take_count()

    def close(self, timeout_s: float) -> int:
        """Flushes, gives up what is left, reporting each event, and disconnects. Repeating it does nothing.

        Returns how many events are undelivered, which with the end is an exact number.
        """
        refuse_in_callback("close")
        with self._lock:
            if self._closed:
                return 0
            self._closed = True
        try:
            if (producer := self._producer) is not None:
                self._flush(producer, timeout_s)
        finally:  # An impatient Ctrl-C, too, shall be told what was lost.
            self._disconnect()
        return self.report.take_count()

    def leave_to_parent(self) -> None:
        """In a forked child: forgets the parent's events, and its producer, whose threads the child has not."""
        if self._producer is not None:
            # Destroying it here would wait for those threads, so this reference is never given back.
            import ctypes

            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))
        self._producer = self._thread = None
        self.report = FailureReport()
        self._reset()

    def _disconnect(self) -> None:
        # In this order, a record that another thread queues at this moment is either purged, and thereby
        # reported, or `try_send` sees that the producer is gone.
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            self._flush(producer, _PURGE_TIMEOUT_S)
        self._stop.set()
        self._under_way.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.report.write()
        lifetime.forget(self)

    @staticmethod
    def _closed_error() -> PublisherUnusable:
        return PublisherUnusable("This publisher is closed: open a new one to publish more events.")

    def _serve(self, producer: "Producer", stop: threading.Event) -> None:
        while not stop.is_set():
            # Cleared before looking: a record that is queued after the look sets it again.
            self._under_way.clear()
            # A batch serves itself: two threads that pass the interpreter to and fro for each report would
            # slow it.
            if (self._batches or not len(producer)) and not stop.is_set():
                self._under_way.wait(_POLL_S if self._batches else _IDLE_POLL_S)
            if self._prompt and not self._batches and len(producer):
                self._flush(producer, _POLL_S)
                self.report.write()
            else:
                self._poll(producer, _POLL_S if len(producer) else 0)

    def _poll(self, producer: "Producer", timeout_s: float) -> int:
        with running_callbacks():
            producer.poll(timeout_s)
        self.report.write()
        return len(producer)

    @staticmethod
    def _flush(producer: "Producer", timeout_s: float) -> int:
        with running_callbacks():
            return producer.flush(max(0.0, timeout_s))

    def _on_answer(
        self, event: str, id: str, on_result: OnResult | None, error: "KafkaError | None", message: "Message"
    ) -> None:
        if on_result is None:
            if error is not None:
                self.report.add(self._explanation(event, id, error))
        elif error is None:
            call_back(on_result, Delivery(event, id, None, message.partition(), message.offset()))
        else:
            failure = DeliveryFailed(self._explanation(event, id, error), event, id, error.name())
            call_back(on_result, Delivery(event, id, failure))

    def _on_error(self, error: "KafkaError") -> None:
        # "All brokers down" follows an error that says more.
        if error.name() != "_ALL_BROKERS_DOWN" or self._connection_error is None:
            self._connection_error = (time.monotonic(), error.str().split(" (after ")[0])

    def _explanation(self, event: str, id: str | None, error: "KafkaError") -> str:
        recent = None
        if self._connection_error is not None:
            seen_s, text = self._connection_error
            # Reconnecting is tried every 10 s at least, so an older error says nothing on the present.
            recent = text if time.monotonic() - seen_s < max(30.0, self.settings.delivery_timeout_s) else None
        return describe(event, id, error.name(), error.str(), self.settings.location, recent)


def queue_full(record: Record, settings: PublisherSettings) -> QueueFull:
    """The error for a record that found no room."""
    return QueueFull(
        f"Event {record.event} (id {record.id}) was not published: it found no room in the queue (limit of waiting: "
        f"{settings.queue_timeout_s:g} s), as the brokers at {settings.location.servers} take events more slowly than "
        "they are published, or not at all. Publish it later, or raise queue_timeout_s."
    )
