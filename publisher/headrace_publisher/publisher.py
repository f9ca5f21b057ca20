"""Publisher: events from services, pipelines and notebooks to their Kafka topics."""

import os
import threading
from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import Self, Unpack

from .channel import Channel, OnResult
from .delivery import Delivery, DeliveryCallback, call_back
from .errors import DeliveryFailed, HeadracePublisherError
from .nesting import refuse_in_callback
from .record import Headers, Payload, RecordBuilder
from .settings import PublisherOptions, PublisherSettings, resolve

_REPORT_MARGIN_S = 5.0  # librdkafka looks for expired records once a second


class Publisher:
    """Publishes events to Kafka, where Headrace waits for them; thread-safe, and usable as a context manager.

    `bootstrap_servers` are the brokers as `host:port,…`; without, the environment or a running `headrace up`
    says (see `settings`). The further arguments are those of `settings.PublisherOptions`. Raises
    NotConfigured. An unreachable broker is no error here, but shows in the outcome of each event.

    Whether an event's topic is created by publishing is the brokers' decision (`auto.create.topics.enable`).
    Where they do not, publishing an event that has no topic fails within about 5 s.

    After `os.fork` the child's Publisher connects anew at its next use; what was queued before is the
    parent's to deliver. A process that ends by `os._exit` or by a signal runs no exit handlers: call `close`
    before.
    """

    def __init__(self, bootstrap_servers: str | None = None, **options: Unpack[PublisherOptions]) -> None:
        self._channel = Channel(resolve(bootstrap_servers, os.environ, options))

    @property
    def settings(self) -> PublisherSettings:
        """What this publisher works by."""
        return self._channel.settings

    def publish(
        self,
        event: str,
        payload: Payload | None = None,
        *,
        key: str | bytes | None = None,
        id: str | None = None,
        time: datetime | str | None = None,
        headers: Headers | None = None,
        on_delivery: DeliveryCallback | None = None,
    ) -> str:
        """Queues an event and returns its id at once.

        `payload` is the JSON object that triggers see; `key` the Kafka key, by which events keep their order;
        `id` identifies the event (default: a new UUID), and Headrace counts an id once; `time` is when it
        occurred, an aware datetime or RFC 3339 text (default: now); `headers` are further Kafka headers.

        The outcome goes to `on_delivery`, and a failure to stderr too. Raises InvalidEventName,
        InvalidAttribute, InvalidPayload, PayloadTooLarge; QueueFull after waiting `queue_timeout_s` for room;
        DeliveryFailed where the failure is known at once; PublisherUnusable once closed.
        """
        record = self._builder(event, headers).build(payload, key=key, id=id, time=time)
        self._channel.send(record, self._on_result(on_delivery))
        return record.id

    def publish_many(
        self,
        event: str,
        payloads: Iterable[Payload],
        *,
        key: str | bytes | None = None,
        time: datetime | str | None = None,
        headers: Headers | None = None,
        on_delivery: DeliveryCallback | None = None,
    ) -> list[str]:
        """Queues one event for each payload, in order, and returns their ids in the same order.

        The other parameters hold for all of them, the default time being that of the call. Payloads are taken
        one by one, so an iterator may bring any number. Where an error ends this early (see `publish`), its
        `ids` are those of the events already queued.

        Outcomes go to `on_delivery`, which takes several times as long. Without it, failures are reported on
        stderr without ids.
        """
        builder = self._builder(event, headers)
        ids: list[str] = []
        try:
            if on_delivery is None:
                records = builder.stream(payloads, time=time)
                self._channel.send_many(event, builder.checked_key(key), records, ids)
            else:
                on_result = self._on_result(on_delivery)
                for payload in payloads:
                    record = builder.build(payload, key=key, time=time)
                    self._channel.send(record, on_result)
                    ids.append(record.id)
        except HeadracePublisherError as error:
            error.ids = tuple(ids)
            raise
        return ids

    def deliver(
        self,
        event: str,
        payload: Payload | None = None,
        *,
        key: str | bytes | None = None,
        id: str | None = None,
        time: datetime | str | None = None,
        headers: Headers | None = None,
    ) -> Delivery:
        """Publishes an event and waits until Kafka has acknowledged it; its place is in the result.

        Parameters and errors are those of `publish`, and DeliveryFailed comes here for every failure, after
        `delivery_timeout_s` at the latest.
        """
        refuse_in_callback("deliver")
        record = self._builder(event, headers).build(payload, key=key, id=id, time=time)
        done = threading.Event()
        outcome: list[Delivery] = []

        def on_result(delivery: Delivery) -> None:
            outcome.append(delivery)
            done.set()

        self._channel.send(record, on_result)
        limit_s = self.settings.delivery_timeout_s
        if not done.wait(limit_s + _REPORT_MARGIN_S if limit_s else None):
            text = f"Event {event} (id {record.id}): Kafka's client has not said what became of it in {limit_s:g} s."
            raise DeliveryFailed(text, event, record.id, "_TIMED_OUT")
        if outcome[0].error is not None:
            raise outcome[0].error
        return outcome[0]

    def flush(self, timeout_s: float = 10.0) -> int:
        """Waits until Kafka has acknowledged everything published so far, for `timeout_s` at most.

        Returns how many events are undelivered: those still under way, and those that failed since the last
        flush.
        """
        return self._channel.flush(timeout_s)

    def close(self) -> int:
        """Flushes for `close_timeout_s` at most, reports what is still undelivered, and disconnects.

        Returns the number of undelivered events, as `flush` does. Repeating it does nothing. The end of the
        process closes every open publisher, with 10 s at most for all of them.
        """
        return self._channel.close(self._channel.settings.close_timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _builder(self, event: str, headers: Headers | None) -> RecordBuilder:
        source, bytes_max = self.settings.source, self.settings.payload_bytes_max
        return RecordBuilder(event, source=source, headers=headers, payload_bytes_max=bytes_max)

    def _on_result(self, on_delivery: DeliveryCallback | None) -> OnResult | None:
        if on_delivery is None:
            return None  # The channel then reports failures itself, and successes cost nothing.

        def on_result(delivery: Delivery) -> None:
            if delivery.error is not None:
                self._channel.report.add(str(delivery.error))
            call_back(on_delivery, delivery)

        return on_result
