"""AsyncPublisher: the same for asyncio, where publishing awaits Kafka's acknowledgement."""

import asyncio
import os
from collections import deque
from contextlib import suppress
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Self, Unpack

from .channel import Channel, OnResult, queue_full
from .delivery import Delivery
from .errors import DeliveryFailed, PublisherUnusable
from .record import Headers, Payload, Record, build_record
from .settings import PublisherOptions, PublisherSettings, resolve

_RETRY_S = 0.05


class AsyncPublisher:
    """Publishes events from one event loop; an async context manager.

    Takes the arguments of Publisher. Many `publish` calls may run at once (`asyncio.gather`), and should
    where throughput counts: each waits for its own acknowledgement only. Events have the order of the calls.
    """

    def __init__(self, bootstrap_servers: str | None = None, **options: Unpack[PublisherOptions]) -> None:
        self._channel = Channel(resolve(bootstrap_servers, os.environ, options))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived: deque[tuple[asyncio.Future[Delivery], Delivery]] = deque()
        self._hand_over_is_due = False
        self._room = asyncio.Event()
        # Whoever waits for room waits here, in order; and nobody goes first while somebody waits. (The lock alone
        # does not say that: between two of its waiters it is free for a moment.)
        self._turn = asyncio.Lock()
        self._waiting = 0

    @property
    def settings(self) -> PublisherSettings:
        """What this publisher works by."""
        return self._channel.settings

    async def publish(
        self,
        event: str,
        payload: Payload | None = None,
        *,
        key: str | bytes | None = None,
        id: str | None = None,
        time: datetime | str | None = None,
        headers: Headers | None = None,
    ) -> str:
        """Publishes an event, awaits Kafka's acknowledgement, and returns the event's id.

        Parameters and errors are those of `Publisher.publish`, and DeliveryFailed comes here for every
        failure. Cancelling stops the waiting, not the event; should it then fail, that is reported on stderr.
        """
        loop = self._bound_loop()
        settings = self._channel.settings
        record = build_record(
            event,
            payload,
            source=settings.source,
            key=key,
            id=id,
            time=time,
            headers=headers,
            payload_bytes_max=settings.payload_bytes_max,
        )
        answer: asyncio.Future[Delivery] = loop.create_future()
        await self._send(record, answer)
        delivery = await answer
        if delivery.error is not None:
            raise delivery.error
        return record.id

    async def flush(self, timeout_s: float = 10.0) -> int:
        """As `Publisher.flush`, without blocking the event loop."""
        return await asyncio.to_thread(self._channel.flush, timeout_s)

    async def close(self) -> int:
        """As `Publisher.close`, without blocking the event loop."""
        return await asyncio.to_thread(self._channel.close, self._channel.settings.close_timeout_s)

    async def __aenter__(self) -> Self:
        self._bound_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _bound_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise PublisherUnusable("This AsyncPublisher belongs to another event loop: open one for each.")
        return loop

    async def _send(self, record: Record, answer: asyncio.Future[Delivery]) -> None:
        on_result = partial(self._arrive, answer)
        if not self._waiting:
            try:
                return self._channel.try_send(record, on_result)
            except BufferError:
                pass
            except DeliveryFailed as failure:
                if failure.reason != "_UNKNOWN_TOPIC":
                    raise
                # librdkafka remembers that the topic was missing. It may have been made since.
                await asyncio.to_thread(self._channel.refresh, record.event)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._channel.settings.queue_timeout_s), self._turn:
                while not self._sent(record, on_result):
                    self._room.clear()
                    # librdkafka frees a place just after it reports it, so one wake-up can come too early.
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_RETRY_S):
                            await self._room.wait()
        except TimeoutError as error:
            raise queue_full(record, self._channel.settings) from error
        finally:
            self._waiting -= 1

    def _sent(self, record: Record, on_result: OnResult) -> bool:
        try:
            self._channel.try_send(record, on_result)
        except BufferError:
            return False
        return True

    def _arrive(self, answer: asyncio.Future[Delivery], delivery: Delivery) -> None:
        """Takes an outcome on the channel's thread, and wakes the loop once for all that arrive until it looks."""
        self._arrived.append((answer, delivery))
        if self._hand_over_is_due or self._loop is None:
            return
        self._hand_over_is_due = True
        try:
            self._loop.call_soon_threadsafe(self._hand_over)
        except RuntimeError:  # The loop is closed, so nobody waits any more.
            self._hand_over_is_due = False
            while self._arrived:
                self._report(self._arrived.popleft()[1])

    def _hand_over(self) -> None:
        self._hand_over_is_due = False  # Before looking: what arrives from here on wakes the loop again.
        while self._arrived:
            answer, delivery = self._arrived.popleft()
            if answer.done():  # Whoever waited was cancelled.
                self._report(delivery)
            else:
                answer.set_result(delivery)
        self._room.set()

    def _report(self, delivery: Delivery) -> None:
        if delivery.error is not None:
            self._channel.report.add(str(delivery.error))
