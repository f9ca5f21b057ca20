"""A process of a role: it can be paused at any moment, and it can die between any two of its effects."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.simulation.faults import CRASHES
from tests.simulation.world import EPOCH_MS, SESSIONS_S, World

T = TypeVar("T")
_STUCK_S = 60.0
"""Real seconds after which the loop and a thread surely wait for each other: a fault of the simulation itself."""


class Killed(BaseException):
    """The process is dead. No role can catch this as one of its own errors."""


@dataclass(slots=True)
class _Channel:
    """Between the loop and one thread, of which one waits while the other runs."""

    asked: queue.SimpleQueue[tuple[str, Any]] = field(default_factory=queue.SimpleQueue)
    answered: queue.SimpleQueue[tuple[bool, Any]] = field(default_factory=queue.SimpleQueue)


_of_thread = threading.local()


class Process:
    """One life of a role's process."""

    def __init__(self, world: World, role: str, name: str, turn_s: float, skew_ms: int) -> None:
        """Let it come round about every `turn_s` seconds, with a clock that is `skew_ms` off."""
        self.world = world
        self.role = role
        self.name = name
        self.alive = True
        self.paused_until_s = 0.0
        self.holds_back = False
        """Whether a pause catches what was sent before it reached the network."""
        self.stopping = False
        self.on_stop: Callable[[], None] = lambda: None
        self.skew_ms = skew_ms
        self._turn_s = turn_s
        self.on_death: list[Callable[[], None]] = []
        self.rebalancing: Callable[[], bool] = lambda: False
        """Whether the next poll will take part in a rebalance."""

    def now_ms(self) -> int:
        """What its machine believes the time to be."""
        return EPOCH_MS + round(self.world.loop.now_s * 1000) + self.skew_ms

    def elapsed_s(self) -> float:
        """Its monotonic clock."""
        return self.world.loop.now_s

    def step(self, what: str) -> None:
        """Pass a point between two effects: perhaps the process dies here.

        Raises:
            Killed: it died, now or before.
        """
        if self.alive and self.world.faults.strikes(CRASHES[self.role], 0.0015):
            self.die(f"is killed at: {what}")
        if not self.alive:
            raise Killed(what)

    def die(self, why: str) -> None:
        """Be dead from now on."""
        if self.alive:
            self.alive = False
            self.world.trace(self.name, why)
            for callback in self.on_death:
                callback()

    def fail(self, error: BaseException) -> None:
        """End the process, as production does where going on could do harm."""
        if not isinstance(error, Killed):
            self.die(f"ends itself: {type(error).__name__}: {str(error)[:150]}")

    def pause_beyond_session(self) -> None:
        """Be paused for so long that the group goes on without it."""
        seconds = SESSIONS_S[self.role] * self.world.between(1.0, 1.6)
        self.paused_until_s = self.world.loop.now_s + seconds
        self.holds_back = self.world.random.random() < 0.5
        self.world.trace(self.name, f"is paused for {seconds:.1f} s amid a delivery")

    def stop(self) -> None:
        """Ask it to stop cleanly."""
        self.stopping = True
        self.on_stop()

    async def gate(self) -> None:
        """Go on only when the process is not paused.

        Raises:
            Killed: it is dead.
        """
        # Virtual time passes at once, and a pause may be made longer while it lasts.
        while self.alive and self.paused_until_s > self.world.loop.now_s:  # noqa: ASYNC110
            await asyncio.sleep(self.paused_until_s - self.world.loop.now_s)
        if not self.alive:
            raise Killed("dead")

    async def turn(self) -> None:
        """Let a moment pass, as between two rounds of a role's loop."""
        await asyncio.sleep(self.world.between(0.2, 1.8) * self._turn_s)
        await self.gate()

    @property
    def in_thread(self) -> bool:
        """Whether the caller has a thread of its own, so that it may call back."""
        return threading.current_thread() is not threading.main_thread()

    async def nap(self, seconds: float) -> None:
        """Let some time pass."""
        await asyncio.sleep(seconds)
        await self.gate()

    def later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Have the process see something after a while: not while it is paused, and never when it is dead."""

        def see() -> None:
            if not self.alive:
                return
            wait_s = self.paused_until_s - self.world.loop.now_s
            if wait_s > 0:
                self.world.loop.call_later(wait_s, see)
            else:
                callback()

        self.world.loop.call_later(delay_s, see)

    async def away(self, work: Callable[[], T]) -> T:
        """The production crossing's way out: wait for Kafka. A thread is needed only where the work calls back."""
        await self.turn()
        if not self.rebalancing() and not self.stopping:
            return work()
        return await self._in_thread(work)

    def back(self, work: Coroutine[Any, Any, T]) -> T:
        """The production crossing's way back, from within the thread."""
        _of_thread.channel.asked.put(("work", work))
        succeeded, result = _of_thread.channel.answered.get(timeout=_STUCK_S)
        if not succeeded:
            raise result
        answer: T = result
        return answer

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread, of which and the loop only one runs at a time: so the seed decides everything."""
        channel = _Channel()

        def run() -> None:
            _of_thread.channel = channel
            try:
                channel.asked.put(("done", work()))
            except BaseException as error:
                channel.asked.put(("failed", error))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while True:
            kind, what = channel.asked.get(timeout=_STUCK_S)
            if kind == "work":
                await _answer(channel, what)
                continue
            thread.join()
            if kind == "failed":
                raise what
            result: T = what
            return result


async def _answer(channel: _Channel, work: Awaitable[Any]) -> None:
    try:
        channel.answered.put((True, await work))
    except BaseException as error:
        # The thread must end in any case, also where the scenario is over.
        channel.answered.put((False, Killed("cut off") if isinstance(error, asyncio.CancelledError) else error))
        if isinstance(error, asyncio.CancelledError):
            raise
