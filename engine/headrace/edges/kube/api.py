"""The Kubernetes API as submitting needs it: bytes out and bytes back, over connections that stay open.

The `kubernetes` package gives the configuration and credentials; requests go through aiohttp itself, because turning
each body into the package's objects and back would halve the rate at which Workflows can be created.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
from multidict import CIMultiDict
from yarl import URL

from headrace.edges.kube import credentials
from headrace.edges.kube.credentials import Credentials, configured
from headrace.model.errors import HeadraceError, TargetError

__all__ = ["ApiUnreachable", "KubeApi", "Reply", "RequestRefused", "configured"]

REQUEST_TIMEOUT_S = 10.0
CONNECTIONS_MAX = 64
ARGO_PATH = "/apis/argoproj.io/v1alpha1"
# API servers close connections that were idle for 90 s, and many load balancers after 60 s: ours go first.
_IDLE_CONNECTION_S = 50.0
# Tokens in files, of plugins and of service accounts are replaced minutes before they expire.
_CREDENTIALS_AGE_MAX_S = 300.0
# A server that refuses good credentials must not make us run an exec plugin for every request.
_CREDENTIALS_AGE_MIN_S = 10.0
# etcd takes objects of 1.5 MiB, which are larger as JSON; an endless line is no event.
_WATCH_LINE_BYTES_MAX = 16 * 1024 * 1024
# RuntimeError is aiohttp's word for a session that was closed meanwhile.
_TRANSPORT_ERRORS = (aiohttp.ClientError, OSError, RuntimeError)

_log = logging.getLogger(__name__)


class ApiUnreachable(HeadraceError):
    """No answer came from the Kubernetes API. Whether a request took effect is not known: ask, or repeat it."""


class RequestRefused(HeadraceError):
    """The Kubernetes API answered a watch with something else than events."""

    def __init__(self, reply: Reply, message: str) -> None:
        super().__init__(message)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the API server, whatever it says."""

    status: int
    """HTTP status."""
    body: bytes
    retry_after_s: float | None
    """How long the server asks us to stay away, seconds."""


class KubeApi:
    """A connection pool to one API server, with credentials that renew themselves.

    Every method raises `ApiUnreachable` when no answer comes, within 10 s in all. A refusal is an answer: it comes
    back as the `Reply`. After a 401 the credentials are read anew, at most every 10 s, and new ones are tried at once.
    """

    def __init__(self, credentials: Credentials, connections_max: int) -> None:
        """Use `connect` instead: credentials are read, and may run programs, without blocking."""
        self._credentials = credentials
        self._connections_max = connections_max
        self._renewing = asyncio.Lock()
        self._renewed_s = -math.inf
        self._retired: list[aiohttp.ClientSession] = []
        self._open_sessions()
        self._keeper = asyncio.create_task(self._keep_fresh(), name="kubernetes credentials")

    @classmethod
    async def connect(cls, connections_max: int = CONNECTIONS_MAX) -> KubeApi:
        """Read the credentials; connections are opened by the first requests, or by `warm`.

        Raises:
            TargetError: neither a kubeconfig nor in-cluster credentials exist, or they cannot be used.
        """
        return cls(await credentials.load(), connections_max)

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self._credentials.server

    @property
    def context_namespace(self) -> str:
        """Namespace of the kubeconfig's context, or of the service account; else `default`."""
        return self._credentials.namespace

    async def warm(self, connections: int) -> None:
        """Open up to `connections` connections now, so that no early request waits for a TLS handshake.

        Raises:
            ApiUnreachable: one of them could not be opened.
        """
        # Requests that start in one moment find no free connection, so that each opens its own.
        requests = (self.get("/version") for _ in range(min(connections, self._connections_max)))
        for outcome in await asyncio.gather(*requests, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def create_workflow(self, namespace: str, body: bytes) -> Reply:
        """Create a Workflow from its JSON; 201 with the object, 409 where the name is taken."""
        # Otherwise the server decodes strictly, for warnings that nobody would read.
        return await self._request("POST", f"{argo_path('workflows', namespace)}?fieldValidation=Ignore", body)

    async def get_workflow(self, namespace: str, name: str) -> Reply:
        """Read one Workflow; 404 where there is none."""
        return await self._request("GET", f"{argo_path('workflows', namespace)}/{quote(name, safe='')}")

    async def get(self, path: str) -> Reply:
        """Read `path`, which begins with a slash, is quoted already and may have a query."""
        return await self._request("GET", path)

    async def annotate(self, path: str, annotations: dict[str, str | None]) -> Reply:
        """Set annotations of the object at `path`; None removes one."""
        body = orjson.dumps({"metadata": {"annotations": annotations}})
        return await self._request("PATCH", path, body, "application/merge-patch+json")

    async def watch(self, path: str, silence_max_s: float) -> AsyncGenerator[bytes, None]:
        """Yield an empty line once the watch is open, then one JSON line for each event, until the server ends it.

        Args:
            path: as for `get`, with `watch=true` and `timeoutSeconds` in its query.
            silence_max_s: a stream that says nothing for so long counts as broken.

        Raises:
            RequestRefused: the answer was not 200.
            ApiUnreachable: the stream could not be opened, or broke.
        """
        timeout = aiohttp.ClientTimeout(total=None, connect=REQUEST_TIMEOUT_S, sock_read=silence_max_s)
        while True:
            used = self._credentials
            try:
                async with self._watch_session.get(_url(used.server, path), timeout=timeout, **self._options) as stream:
                    if stream.status == 200:
                        try:
                            yield b""
                            async for line in _lines(stream.content):
                                yield line
                        finally:
                            _abort(stream)
                        return
                    reply = Reply(stream.status, await stream.read(), _retry_after_s(stream))
            except TimeoutError as error:
                raise self._unreachable("GET", path, f"silence for {silence_max_s:g} s") from error
            except (*_TRANSPORT_ERRORS, _EndlessLine) as error:
                raise self._unreachable("GET", path, error) from error
            if reply.status != 401 or not await self._renew(used):
                words = reply.body[:300].decode("utf-8", "replace")
                raise RequestRefused(
                    reply, f"{used.server} refuses {path.partition('?')[0]}: HTTP {reply.status} {words}"
                )

    async def close(self) -> None:
        """Close all connections; requests still in flight fail with `ApiUnreachable`."""
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        for session in (*self._retired, self._session, self._watch_session):
            await session.close()

    def _open_sessions(self) -> None:
        self._session = self._new_session(self._connections_max)
        # Watches hold their connections for minutes; they have their own, so that submitting never waits for one.
        self._watch_session = self._new_session(0)
        self._use_header()

    def _new_session(self, connections_max: int) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=connections_max, ssl=self._credentials.tls.context, keepalive_timeout=_IDLE_CONNECTION_S
        )
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        return aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())

    def _use_header(self) -> None:
        self._headers: CIMultiDict[str] = CIMultiDict(
            {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": "headrace"}
        )
        if self._credentials.authorization is not None:
            self._headers["Authorization"] = self._credentials.authorization
        self._options: dict[str, Any] = {"headers": self._headers, "allow_redirects": False}
        if self._credentials.proxy is not None:
            self._options["proxy"] = self._credentials.proxy
        if self._credentials.tls.server_hostname is not None:
            self._options["server_hostname"] = self._credentials.tls.server_hostname

    async def _request(self, method: str, path: str, body: bytes | None = None, kind: str | None = None) -> Reply:
        used = self._credentials
        try:
            reply = await self._attempt(method, path, body, kind)
        except _StaleConnection:
            # The server closed an idle connection just as we chose it. All our methods may be repeated: a Workflow
            # that was created after all answers 409, and a patch says what shall be.
            reply = await self._attempt(method, path, body, kind)
        if reply.status == 401 and await self._renew(used):
            reply = await self._attempt(method, path, body, kind)
        return reply

    async def _attempt(self, method: str, path: str, body: bytes | None, kind: str | None) -> Reply:
        url = _url(self._credentials.server, path)
        options = self._options
        if kind is not None:
            options = {**options, "headers": {**self._headers, "Content-Type": kind}}
        try:
            async with self._session.request(method, url, data=body, **options) as response:
                return Reply(response.status, await response.read(), _retry_after_s(response))
        except aiohttp.ClientConnectorError as error:
            raise self._unreachable(method, path, error) from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise _StaleConnection(str(self._unreachable(method, path, error))) from error
        except TimeoutError as error:
            raise self._unreachable(method, path, f"silence for {REQUEST_TIMEOUT_S:g} s") from error
        except _TRANSPORT_ERRORS as error:
            raise self._unreachable(method, path, error) from error

    def _unreachable(self, method: str, path: str, why: BaseException | str) -> ApiUnreachable:
        return ApiUnreachable(
            f"the Kubernetes API at {self.server} did not answer {method} {path.partition('?')[0]}: "
            f"{str(why) or type(why).__name__}; check that it runs and can be reached from here"
        )

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(_CREDENTIALS_AGE_MAX_S)
            await self._renew(self._credentials)

    async def _renew(self, used: Credentials) -> bool:
        """Read the credentials anew, and say whether others than `used` are there now."""
        async with self._renewing:
            now_s = asyncio.get_running_loop().time()
            if self._credentials is used and now_s - self._renewed_s >= _CREDENTIALS_AGE_MIN_S:
                self._renewed_s = now_s
                try:
                    await self._adopt(await credentials.load())
                except TargetError as error:
                    _log.warning("Kubernetes credentials were not renewed; the old ones stay in use: %s", error)
            return self._credentials is not used

    async def _adopt(self, fresh: Credentials) -> None:
        old = self._credentials
        if fresh.identity == old.identity:
            return
        self._credentials = fresh
        if (fresh.server, fresh.tls.identity) == (old.server, old.tls.identity):
            self._use_header()
            return
        # Requests are still in flight on the old connections; those of the time before have long ended.
        for session in self._retired:
            await session.close()
        self._retired = [self._session, self._watch_session]
        self._open_sessions()


class _StaleConnection(ApiUnreachable):
    """A connection ended under a request; a new one may do better at once."""


class _EndlessLine(Exception):
    """A watch sent more than any event can have."""


def argo_path(plural: str, namespace: str | None = None) -> str:
    """Return the path of Argo's objects of one kind; without a namespace those of all, or of a kind that has none."""
    within = "" if namespace is None else f"/namespaces/{quote(namespace, safe='')}"
    return f"{ARGO_PATH}{within}/{plural}"


@lru_cache(maxsize=1024)
def _url(server: str, path: str) -> URL:
    return URL(server + path, encoded=True)


def _retry_after_s(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    # Kubernetes writes whole seconds; the header's other form, a date, is a proxy's and not worth a parser.
    return float(text) if text.isascii() and text.isdigit() else None


def _abort(stream: aiohttp.ClientResponse) -> None:
    """Drop the connection of a watch that is left: a goodbye by TLS may outlast the event loop."""
    if stream.connection is not None and stream.connection.transport is not None:
        stream.connection.transport.abort()


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    rest = bytearray()
    async for part in content.iter_any():
        rest += part
        if b"\n" not in part:
            if len(rest) > _WATCH_LINE_BYTES_MAX:
                raise _EndlessLine(f"an event of more than {_WATCH_LINE_BYTES_MAX} bytes")
            continue
        *complete, last = bytes(rest).split(b"\n")
        rest = bytearray(last)
        for line in complete:
            yield line
