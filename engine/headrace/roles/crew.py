"""Crew: tasks under way, of which there may only be so many, and each of which must not fail."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any


class Crew:
    """A bounded set of tasks in one event loop."""

    def __init__(self, tasks_max: int, batch_min: int, fail: Callable[[BaseException], None]) -> None:
        """Start with none.

        Args:
            tasks_max: tasks at a time; whoever spawns asks for `room` first.
            batch_min: `wait_for_room` waits for room for so many.
            fail: is told of the exception of a task that ends with one.
        """
        self._tasks_max, self._batch_min, self._fail = tasks_max, batch_min, fail
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_room = asyncio.Event()

    @property
    def room(self) -> int:
        """How many more tasks there may be."""
        return self._tasks_max - len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Let `work` run as a task."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    async def wait_for_room(self, timeout_s: float) -> int:
        """Return the room there is, once it suffices for a batch or `timeout_s` seconds have passed."""
        if self.room < self._batch_min:
            self._has_room.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._has_room.wait(), timeout_s)
        return self.room

    async def wait_for_all(self, timeout_s: float) -> None:
        """Return once no task of now is under way, or `timeout_s` seconds have passed."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self.room >= self._batch_min:
            self._has_room.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
