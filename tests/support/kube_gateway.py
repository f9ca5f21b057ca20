"""A gateway before the API server that counts requests and fails where it is told to, as real ones do."""

from __future__ import annotations

import asyncio
import random
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web

from .kube_server import KubeServer

_SHUTDOWN_TIMEOUT_S = 5.0
_PASSED_ON = ("Authorization", "Accept", "Content-Type")


@dataclass(frozen=True)
class Fault:
    """An answer that the gateway gives in the server's place, once."""

    part: str
    """Text that the request's method, path and query must hold, as in `GET /apis/…?watch=true`."""
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Weather:
    """What befalls requests for as long as it lasts."""

    part: str = ""
    """Text that the request's method, path and query must hold."""
    share: float = 1.0
    """How many of these requests it hits."""
    status: int | None = None
    """Answered in the server's place."""
    reaches_server: bool = True
    """Whether the server hears of the request at all; the connection breaks otherwise."""
    delay_s: float = 0.0
    """How long the server's answer is withheld."""
    answer_lost: bool = False
    """Whether the connection then breaks, instead of the answer being passed on."""


FAIR = Weather(part="no request holds this")


class KubeGateway:
    """Passes requests on to the API server: ``async with KubeGateway(kube) as gateway: ...``."""

    def __init__(self, server: KubeServer) -> None:
        self.requests: list[str] = []
        """Method, path and query of each request so far."""
        self.connections: set[asyncio.Transport] = set()
        """Each connection that a request came by."""
        self.weather = FAIR
        """May be set from any thread."""
        self.hit = 0
        """Requests that some weather other than `FAIR` has befallen."""
        self.creating = 0
        """Creations that the server has not answered yet."""
        self._server = server
        self._faults: list[Fault] = []
        self._streams: set[asyncio.Transport] = set()
        self._address = ""
        self._closing = False
        self._passing: set[asyncio.Task[Any]] = set()
        self._opening: set[asyncio.Task[aiohttp.ClientResponse]] = set()

    async def __aenter__(self) -> Self:
        tls = ssl.create_default_context(cafile=str(self._server.ca_file))
        self._client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, limit=0))
        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(application, shutdown_timeout=_SHUTDOWN_TIMEOUT_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self._address = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Go away, with all connections; doing so again does nothing."""
        self._closing = True
        # Connections that are being opened are let be opened: asyncio forgets one that is given up during TLS.
        await asyncio.gather(*self._opening, return_exceptions=True)
        for passing in list(self._passing):
            passing.cancel()
        await self._runner.cleanup()
        await self._client.close()

    @property
    def url(self) -> str:
        """Address of the gateway."""
        return self._address

    def fail_next(self, fault: Fault) -> None:
        """Answer the next request that has the fault's part with the fault."""
        self._faults.append(fault)

    def count(self, part: str) -> int:
        """How many requests so far hold the text."""
        return sum(part in request for request in self.requests)

    def cut_streams(self) -> int:
        """Break all answers under way, without their proper end; return how many there were."""
        streams = list(self._streams)
        self._streams.clear()
        for stream in streams:
            stream.abort()
        return len(streams)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        text = f"{request.method} {request.path_qs}"
        self.requests.append(text)
        transport = request.transport
        assert transport is not None
        self.connections.add(transport)
        fault = next((fault for fault in self._faults if fault.part in text), None)
        if fault is not None:
            self._faults.remove(fault)
            return web.Response(status=fault.status, body=fault.body, headers=fault.headers)
        if self._closing:
            return web.Response(status=502)
        weather = self.weather if self.weather.part in text and random.random() < self.weather.share else FAIR
        self.hit += weather is not FAIR
        if weather.status is not None:
            status = {"kind": "Status", "status": "Failure", "message": "the weather", "code": weather.status}
            return web.json_response(status, status=weather.status)
        if not weather.reaches_server:
            transport.abort()
            return web.Response(status=502)
        self.creating += request.method == "POST"
        try:
            answer = await self._forward(request)
        except aiohttp.ClientError:
            # The server is away: as with a load balancer before it.
            return web.Response(status=502)
        finally:
            self.creating -= request.method == "POST"
        async with answer:
            await asyncio.sleep(weather.delay_s)
            if weather.answer_lost:
                transport.abort()
                return web.Response(status=502)
            return await self._pass_on(answer, request, transport)

    async def _forward(self, request: web.Request) -> aiohttp.ClientResponse:
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        url = self._server.url + request.raw_path
        body = await request.read()
        opening = asyncio.create_task(self._open(request.method, url, body, headers))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)
        return await opening

    async def _open(self, method: str, url: str, body: bytes, headers: dict[str, str]) -> aiohttp.ClientResponse:
        return await self._client.request(method, url, data=body or None, headers=headers)

    async def _pass_on(
        self, answer: aiohttp.ClientResponse, request: web.Request, transport: asyncio.Transport
    ) -> web.StreamResponse:
        passed = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
        await passed.prepare(request)
        self._streams.add(transport)
        passing = asyncio.current_task()
        assert passing is not None
        self._passing.add(passing)
        # Either side may break off: a test cuts the client's connection, or closes the gateway.
        try:
            async for part in answer.content.iter_any():
                await passed.write(part)
            await passed.write_eof()
        except (ConnectionError, aiohttp.ClientError):
            pass
        finally:
            self._passing.discard(passing)
            self._streams.discard(transport)
            if answer.connection is not None and answer.connection.transport is not None:
                answer.connection.transport.abort()
        return passed


def write_kubeconfig(
    path: Path,
    url: str,
    user: dict[str, Any],
    *,
    namespace: str | None = None,
    ca_file: Path | None = None,
) -> Path:
    """Write a kubeconfig with one context, replacing the file as a whole, and return its path."""
    cluster = {"server": url, **({"certificate-authority": str(ca_file)} if ca_file else {})}
    context = {"cluster": "test", "user": "test", **({"namespace": namespace} if namespace else {})}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": context}],
        "current-context": "test",
    }
    unfinished = path.with_suffix(".new")
    unfinished.write_text(yaml.safe_dump(document))
    return unfinished.rename(path)
