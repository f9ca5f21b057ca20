"""Creation: the baseline of everything that ends in a Workflow. The same bodies, posted bare by aiohttp."""

from __future__ import annotations

import asyncio
import gc
import time
from multiprocessing.connection import Connection
from typing import Self

import aiohttp

from headrace.bench.children import Child
from headrace.bench.load import payload
from headrace.edges.kube import credentials
from headrace.edges.kube.api import argo_path
from headrace.model.definition import Definition
from headrace.model.event import Event
from headrace.model.firing import firing_of
from headrace.stages.workflow import Workflow, workflow


def body(definition: Definition, word: str, time_ms: int) -> bytes:
    """Return the Workflow that Headrace would make of the set `word`, under another firing's name."""
    events = tuple(
        Event(f"{name}:0:{offset}", name, time_ms, 0, offset, payload(word).decode())
        for offset, name in enumerate(definition.dependencies)
    )
    made = workflow(firing_of(definition, "", events, replay=word), {"set": word})
    assert isinstance(made, Workflow), made
    return made.body


class BareCreation:
    """Posts bodies from a process of its own, a number of them in flight over connections that are open already."""

    def __init__(self, namespace: str, bodies: list[bytes], in_flight: int) -> None:
        """Prepare; the block has the connections open."""
        self._child = Child(_post_all, namespace, bodies, in_flight)

    def __enter__(self) -> Self:
        self._child.__enter__().hear()
        return self

    def __exit__(self, *_: object) -> None:
        self._child.__exit__(None, None, None)

    def run(self, timeout_s: float) -> float:
        """Post everything; return when (`time.monotonic`) the first request was sent.

        Raises:
            ChildFailed: a request was refused.
        """
        self._child.say("go")
        began_s: float = self._child.hear(timeout_s)
        return began_s


def _post_all(connection: Connection, namespace: str, bodies: list[bytes], in_flight: int) -> None:
    asyncio.run(_post(connection, namespace, bodies, in_flight))


async def _post(connection: Connection, namespace: str, bodies: list[bytes], in_flight: int) -> None:
    known = await credentials.load()
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if known.authorization is not None:
        headers["Authorization"] = known.authorization
    connector = aiohttp.TCPConnector(limit=in_flight, ssl=known.tls.context)
    url = f"{known.server}{argo_path('workflows', namespace)}"
    async with aiohttp.ClientSession(connector=connector, headers=headers, cookie_jar=aiohttp.DummyCookieJar()) as http:

        async def warm() -> None:
            async with http.get(f"{known.server}/version") as answer:
                await answer.read()

        await asyncio.gather(*(warm() for _ in range(in_flight)))
        # What was imported is not the baseline's to carry.
        gc.collect()
        gc.freeze()
        connection.send("ready")
        connection.recv()
        began_s = time.monotonic()
        left = iter(bodies)

        async def post() -> None:
            for one in left:
                async with http.post(url, data=one) as answer:
                    await answer.read()
                    if answer.status != 201:
                        raise RuntimeError(f"the API server answers {answer.status} to a bare creation")

        await asyncio.gather(*(post() for _ in range(in_flight)))
        connection.send(began_s)
