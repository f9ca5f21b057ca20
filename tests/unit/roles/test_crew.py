"""A crew: never more tasks than allowed, room for a batch waited for, failures told."""

from __future__ import annotations

import asyncio

from headrace.roles.crew import Crew

LONG_S = 60.0


async def test_room_is_waited_for_until_a_batch_fits() -> None:
    failures: list[BaseException] = []
    crew, gates = Crew(4, 2, failures.append), [asyncio.Event() for _ in range(4)]
    assert await crew.wait_for_room(LONG_S) == 4

    async def work(gate: asyncio.Event) -> None:
        await gate.wait()

    for gate in gates:
        crew.spawn(work(gate))
    assert crew.room == 0
    waiting = asyncio.create_task(crew.wait_for_room(LONG_S))
    gates[0].set()
    assert await crew.wait_for_room(0.01) == 1
    assert not waiting.done()
    gates[1].set()
    assert await waiting == 2
    for gate in gates:
        gate.set()
    await crew.wait_for_all(LONG_S)
    assert crew.room == 4 and failures == []


async def test_where_no_room_comes_the_wait_ends() -> None:
    failures: list[BaseException] = []
    crew, gate = Crew(1, 1, failures.append), asyncio.Event()

    async def work() -> None:
        await gate.wait()

    crew.spawn(work())
    assert await crew.wait_for_room(0.01) == 0
    gate.set()
    await crew.wait_for_all(LONG_S)
    assert crew.room == 1 and failures == []


async def test_a_task_that_fails_is_told_of() -> None:
    failures: list[BaseException] = []
    crew = Crew(1, 1, failures.append)

    async def work() -> None:
        raise ValueError("broken")

    crew.spawn(work())
    await crew.wait_for_all(LONG_S)
    assert [str(error) for error in failures] == ["broken"] and crew.room == 1
