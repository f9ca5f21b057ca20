"""Sequels are sent in order, each after what it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from headrace.edges.faust.sequels import Outgoing, Sequels


class Refused(Exception):
    """What the sender refuses with."""


class Sender:
    """Notes what is sent, by the records' keys."""

    def __init__(self, waiting_max: int = 10) -> None:
        self.sent: list[str] = []
        self.failures: list[BaseException] = []
        self.refuses = False
        self.sequels = Sequels(self._send, self.failures.append, waiting_max=waiting_max, bytes_max=100)

    def add(self, name: str, after: asyncio.Future[None] | None = None, value: bytes = b"") -> None:
        self.sequels.add(after, [Outgoing("topic", 0, name.encode(), value)])

    def _send(self, records: Sequence[Outgoing]) -> None:
        if self.refuses:
            raise Refused
        self.sent.extend((record.key or b"").decode() for record in records)


def gate() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_what_waits_for_nothing_is_sent_at_once() -> None:
    sender, done = Sender(), gate()
    done.set_result(None)
    sender.add("a")
    sender.add("b", after=done)
    assert sender.sent == ["a", "b"]
    await sender.sequels.all_sent()


async def test_none_overtakes_another() -> None:
    sender, first, second = Sender(), gate(), gate()
    sender.add("a", after=first)
    sender.add("b", after=second)
    sender.add("c")
    second.set_result(None)
    await turn()
    assert sender.sent == []
    assert len(sender.sequels) == 3
    first.set_result(None)
    await turn()
    assert sender.sent == ["a", "b", "c"]
    assert len(sender.sequels) == 0


async def test_what_follows_a_failure_is_never_sent() -> None:
    sender, first = Sender(), gate()
    sender.add("a", after=first)
    sender.add("b")
    first.set_exception(Refused())
    await turn()
    assert sender.sent == []
    sender.sequels.give_up()
    await sender.sequels.all_sent()
    assert (sender.sent, len(sender.sequels)) == ([], 0)


async def test_a_refusal_is_the_callers_where_nothing_waits_and_ends_the_process_where_something_did() -> None:
    sender, first = Sender(), gate()
    sender.refuses = True
    with pytest.raises(Refused):
        sender.add("a")
    sender.add("b", after=first)
    first.set_result(None)
    await turn()
    assert [type(failure) for failure in sender.failures] == [Refused]


async def test_all_sent_is_waited_for_and_what_comes_later_is_not() -> None:
    sender, first, second = Sender(), gate(), gate()
    sender.add("a", after=first)
    waiting = asyncio.create_task(sender.sequels.all_sent())
    await turn()
    sender.add("b", after=second)
    assert not waiting.done()
    first.set_result(None)
    await waiting
    assert sender.sent == ["a"]


async def test_room_is_waited_for() -> None:
    sender, gates = Sender(waiting_max=2), [gate(), gate(), gate()]
    await sender.sequels.room()
    for name, each in zip("abc", gates, strict=True):
        sender.add(name, after=each)
    waiting = asyncio.create_task(sender.sequels.room())
    gates[0].set_result(None)
    await turn()
    assert not waiting.done()
    gates[1].set_result(None)
    await waiting
    assert sender.sent == ["a", "b"]


async def test_few_that_are_large_are_too_many() -> None:
    sender, first = Sender(), gate()
    sender.add("a", after=first, value=b"x" * 60)
    await sender.sequels.room()
    sender.add("b", value=b"x" * 60)
    waiting = asyncio.create_task(sender.sequels.room())
    await turn()
    assert not waiting.done()
    first.set_result(None)
    await waiting
    assert sender.sent == ["a", "b"]
    await sender.sequels.room()
