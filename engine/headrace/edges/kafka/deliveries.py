"""What was sent and is not delivered yet: counted, waited for, and told to the event loop in few wakeups."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError

OnFailure = Callable[[KafkaError, Any], None]
"""Told of the error and the message, in the polling thread."""


class Batch:
    """Records that were sent together.

    `delivered` belongs to the polling thread, everything else to the loop's.
    """

    __slots__ = ("_owner", "delivered", "expected", "future", "sent_at_s", "size_bytes")

    def __init__(self, owner: Deliveries, future: asyncio.Future[None], sent_at_s: float) -> None:
        self._owner = owner
        self.future = future
        self.sent_at_s = sent_at_s
        self.size_bytes = 0
        self.delivered = 0
        # How many reports make it complete; -1 until that is known.
        self.expected = -1

    def report(self, error: KafkaError | None, message: Any) -> None:
        """Take librdkafka's report about one record; in the polling thread."""
        if error is not None:
            self._owner.on_failure(error, message)
            return
        self.delivered += 1
        if self.delivered == self.expected:
            self._owner.complete(self)


class Deliveries:
    """The batches of one producer. Its methods are called in the loop's thread unless they say otherwise."""

    def __init__(
        self, *, records_max: int, bytes_max: int, age_max_s: float, now_s: Callable[[], float], on_failure: OnFailure
    ) -> None:
        """Prepare; nothing is counted before `start`.

        Args:
            records_max: undelivered records above which `room` waits.
            bytes_max: the same in bytes of keys and values.
            age_max_s: the same in seconds since the oldest was sent: where Kafka takes little, few have to be too
                many, or what is sent last would be given up for the time that it waited behind the others.
            now_s: the clock.
            on_failure: told of every record that was not delivered.
        """
        self._records_max = records_max
        self._bytes_max = bytes_max
        self._age_max_s = age_max_s
        self._now_s = now_s
        self.on_failure = on_failure
        self._outstanding: dict[int, Batch] = {}
        self._records = 0
        self._bytes = 0
        self._completed: deque[Batch] = deque()
        self._wake_is_due = False
        self._fewer = asyncio.Event()

    def start(self) -> None:
        """Belong to the running event loop from now on."""
        self._loop = asyncio.get_running_loop()

    @property
    def records(self) -> int:
        """Records sent and not yet delivered."""
        return self._records

    @property
    def oldest_sent_at_s(self) -> float | None:
        """When the oldest undelivered batch was sent."""
        oldest = next(iter(self._outstanding.values()), None)
        return None if oldest is None else oldest.sent_at_s

    def new_batch(self) -> Batch:
        """Make a batch whose records are about to be sent; `add` must follow."""
        return Batch(self, self._loop.create_future(), self._now_s())

    def add(self, batch: Batch, count: int, size_bytes: int) -> None:
        """Count a batch of which all `count` records are sent."""
        if count == 0:
            batch.future.set_result(None)
            return
        batch.size_bytes = size_bytes
        self._outstanding[id(batch)] = batch
        self._records += count
        self._bytes += size_bytes
        batch.expected = count
        # The last report may have come before `expected` was set; then nobody else has noticed it.
        if batch.delivered == count:
            self.complete(batch)

    async def room(self) -> None:
        """Wait until few enough records are undelivered, and none for long, to send more."""
        while self._is_full():
            self._fewer.clear()
            await self._fewer.wait()

    def _is_full(self) -> bool:
        if self._records > self._records_max or self._bytes > self._bytes_max:
            return True
        oldest_s = self.oldest_sent_at_s
        return oldest_s is not None and self._now_s() - oldest_s > self._age_max_s

    async def all_done(self) -> None:
        """Wait until everything sent before this call is delivered or given up."""
        pending = [batch.future for batch in self._outstanding.values()]
        if pending:
            await asyncio.wait(pending)

    def give_up(self, failure: BaseException) -> None:
        """Let everybody who waits for a batch know that it will not be delivered."""
        for batch in self._outstanding.values():
            if not batch.future.done():
                batch.future.set_exception(failure)
                # Most of these futures were dropped on purpose; asyncio must not complain about each of them.
                batch.future.exception()

    def complete(self, batch: Batch) -> None:
        """In either thread: let the loop see the batch, waking it once for all that it has not seen yet."""
        self._completed.append(batch)
        if not self._wake_is_due:
            self._wake_is_due = True
            self.call_loop(self._take_completed)

    def call_loop(self, callback: Callable[[], None]) -> None:
        """In either thread: run the callback in the loop's; not at all once the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    def _take_completed(self) -> None:
        # Cleared first: a batch that comes while the queue is emptied wakes the loop again, at worst for nothing.
        self._wake_is_due = False
        while self._completed:
            batch = self._completed.popleft()
            if self._outstanding.pop(id(batch), None) is None:
                continue
            self._records -= batch.expected
            self._bytes -= batch.size_bytes
            if not batch.future.done():
                batch.future.set_result(None)
        self._fewer.set()
