"""A gateway before the API server that counts requests and fails where it is told to, as real ones do."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
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


class KubeGateway:
    """Passes requests on to the API server: ``async with KubeGateway(kube) as gateway: ...``."""

    def __init__(self, server: KubeServer) -> None:
        self.requests: list[str] = []
        """Method, path and query of each request so far."""
        self.connections: set[asyncio.Transport] = set()
        """Each connection that a request came by."""
        self._server = server
        self._faults: list[Fault] = []
        self._streams: set[asyncio.Transport] = set()
        self._address = ""

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
        # First the server's side, whose end ends all answers under way.
        await self._client.close()
        await self._runner.cleanup()

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
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        url = self._server.url + request.raw_path
        body = await request.read()
        try:
            async with self._client.request(request.method, url, data=body or None, headers=headers) as answer:
                return await self._pass_on(answer, request, transport)
        except (aiohttp.ClientError, RuntimeError) as error:
            return web.Response(status=502, text=f"the gateway is closing: {error}")

    async def _pass_on(
        self, answer: aiohttp.ClientResponse, request: web.Request, transport: asyncio.Transport
    ) -> web.StreamResponse:
        passed = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
        await passed.prepare(request)
        self._streams.add(transport)
        # Either side may break off: a test cuts the client's connection, or closes the gateway.
        with suppress(ConnectionError, aiohttp.ClientError):
            async for part in answer.content.iter_any():
                await passed.write(part)
            await passed.write_eof()
        self._streams.discard(transport)
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
