"""Sequels: records that may be sent only once others are delivered, in order, and without anybody waiting for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Headers = tuple[tuple[str, bytes], ...]
Delivered = asyncio.Future[None]
"""Done when records are delivered."""


class Outgoing(NamedTuple):
    """One record to produce; `value` None is a tombstone."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(slots=True)
class _Sequel:
    after: Delivered | None
    records: Sequence[Outgoing]
    size_bytes: int
    sent: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Sequels:
    """A queue of them, for one event loop. None overtakes another, whatever each waits for."""

    def __init__(
        self,
        send: Callable[[Sequence[Outgoing]], object],
        fail: Callable[[BaseException], None],
        *,
        waiting_max: int,
        bytes_max: int,
    ) -> None:
        """Prepare an empty queue.

        Args:
            send: sends records without waiting; it may refuse by raising.
            fail: ends the process; told when `send` refuses what has waited.
            waiting_max: how many may wait before `room` does.
            bytes_max: the same in bytes of keys and values, for all are sent at once when the first may be.
        """
        self._send, self._fail = send, fail
        self._waiting_max, self._bytes_max = waiting_max, bytes_max
        self._waiting: deque[_Sequel] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, after: Delivered | None, records: Sequence[Outgoing]) -> None:
        """Send records once `after` is done, and all that was added before is sent: perhaps at once.

        Where `after` fails, they are never sent, and nothing is that was added behind them.
        """
        if not self._waiting and _has_come(after):
            self._send(records)
            return
        sequel = _Sequel(after, records, sum(len(each.key or b"") + len(each.value or b"") for each in records))
        self._waiting.append(sequel)
        self._bytes += sequel.size_bytes
        if after is not None:
            after.add_done_callback(self._advance)

    async def room(self) -> None:
        """Wait until few enough wait, with few enough bytes, to add another."""
        while len(self._waiting) >= self._waiting_max or self._bytes > self._bytes_max:
            await asyncio.wait([self._waiting[0].sent])

    async def all_sent(self) -> None:
        """Wait until everything added before this call is sent."""
        if self._waiting:
            await asyncio.wait([self._waiting[-1].sent])

    def give_up(self) -> None:
        """Never send what waits, and let everybody go on who waits for it."""
        for sequel in self._waiting:
            if not sequel.sent.done():
                sequel.sent.cancel()
        self._waiting.clear()
        self._bytes = 0

    def _advance(self, _: Delivered) -> None:
        while self._waiting and _has_come(self._waiting[0].after):
            sequel = self._waiting[0]
            try:
                self._send(sequel.records)
            except BaseException as error:
                self._fail(error)
                return
            self._waiting.popleft()
            self._bytes -= sequel.size_bytes
            sequel.sent.set_result(None)


def _has_come(after: Delivered | None) -> bool:
    return after is None or (after.done() and not after.cancelled() and after.exception() is None)
