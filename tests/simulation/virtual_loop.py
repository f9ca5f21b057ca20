"""An event loop in which nothing takes time but what sleeps, and sleeping takes none of ours."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class StandsStill(Exception):
    """Everything waits for something that nobody will bring about."""


class _NoFiles(selectors.SelectSelector):
    """Waits for no file: where the loop would sleep, its time moves on instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise StandsStill
        self.loop.now_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Callbacks run in the order of their times, and where those are equal in the order of the calls: always alike."""

    def __init__(self) -> None:
        self.now_s = 0.0
        selector = _NoFiles()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self.now_s
