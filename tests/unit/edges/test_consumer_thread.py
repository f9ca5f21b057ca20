"""A read of the join's consumer that is ended from outside."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headrace.edges.faust.consumer_thread import JoinConsumerThread


class SilentKafka:
    """A consumer for which no record ever comes."""

    async def getmany(self, *_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()


async def test_a_read_whose_asker_is_gone_leaves_no_exception_that_nobody_hears(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Reading needs none of what the thread's start makes.
    thread = JoinConsumerThread.__new__(JoinConsumerThread)
    monkeypatch.setattr(thread, "_ensure_consumer", SilentKafka)
    reading = asyncio.create_task(thread.read_in_thread(frozenset()))
    await asyncio.sleep(0)
    reading.cancel()
    assert await reading is None
