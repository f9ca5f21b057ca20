"""The crossing between an event loop and the thread that waits for Kafka in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Crossing(Protocol):
    """Both directions of the way."""

    async def away(self, work: Callable[[], T]) -> T:
        """Run `work`, which blocks, in a thread, and wait for it in the loop."""

    def back(self, work: Coroutine[Any, Any, T]) -> T:
        """From within a thread: run `work` in the loop, and wait for it in the thread."""


class ThreadCrossing:
    """Real threads. Made in the loop that it leads back to."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    async def away(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread of the loop's pool."""
        return await asyncio.to_thread(work)

    def back(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
