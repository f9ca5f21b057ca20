"""Takes HTTP requests in: bounded, authenticated, and whole before anybody looks at what they say."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from headrace.edges import metrics
from headrace.model import bounds
from headrace.model.errors import SettingsError
from headrace.stages.receive import ATTRIBUTE_PREFIX, Request

SIGNATURE_HEADER = "X-Headrace-Signature"
KEY_HEADER = "X-API-Key"
_SIGNATURE_PREFIX = "sha256="
_BEARER = "bearer "
READ_TIMEOUT_S = 30.0
"""A body that has not come by then is not waited for."""
STOP_TIMEOUT_S = 25.0
"""How long a stop waits for requests that are under way."""
STOP_GRACE_S = 2.0
"""How long it then waits for the last answers to be sent."""
BUSY_RETRY_S = 1

log = logging.getLogger(__name__)
# What is no HTTP is answered with 400 by aiohttp, which also logs it with a traceback; anybody could fill our log so.
_http_log = logging.getLogger(f"{__name__}.http")
_http_log.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered."""

    status: int
    outcome: str
    """For the counter; from a small fixed set, never a text from outside."""
    fields: Mapping[str, object]
    """The JSON object of the body."""
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal(status: int, outcome: str, message: str, **headers: str) -> Answer:
    """Make an answer that says what was wrong; underscores in the names of `headers` stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, outcome, {"error": outcome, "message": message}, named)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request must show; all that is set here is asked for."""

    token: str | None = field(default=None, repr=False)
    hmac_secret: str | None = field(default=None, repr=False)

    def check_token(self, authorization: str, key: str) -> Answer | None:
        """Refuse a request without the token, as a bearer token or in the header that Metaflow's service has."""
        if self.token is None:
            return None
        shown = authorization[len(_BEARER) :].strip() if authorization[: len(_BEARER)].lower() == _BEARER else key
        if _equal(shown, self.token):
            return None
        message = f"the token is missing or wrong: send it as Authorization: Bearer … or {KEY_HEADER}: …"
        return refusal(401, "unauthorized", message, WWW_Authenticate="Bearer")

    def check_signature(self, signature: str, request: Request) -> Answer | None:
        """Refuse a request whose body was not signed with the secret."""
        if self.hmac_secret is None:
            return None
        right = _SIGNATURE_PREFIX + hmac.new(self.hmac_secret.encode(), request.body, hashlib.sha256).hexdigest()
        if not _equal(signature.strip().lower(), right):
            message = f"the header {SIGNATURE_HEADER} is missing or wrong: it is sha256= and the body's HMAC in hex"
            return refusal(401, "unauthorized", message)
        if request.attributes:
            message = "a signature covers the body alone, so a CloudEvent must come in structured or batched mode"
            return refusal(401, "unauthorized", message)
        return None

    @property
    def are_asked_for(self) -> bool:
        """Whether not everybody may send."""
        return self.token is not None or self.hmac_secret is not None


def _equal(shown: str, right: str) -> bool:
    # Headers may hold what is no UTF-8; it arrives as lone surrogates, which compare_digest takes as bytes alone.
    return hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), right.encode("utf-8", "surrogateescape"))


class HttpIntake:
    """An HTTP server whose every path takes POST requests; `answer` decides about each that may come in."""

    def __init__(self, address: str, credentials: Credentials, answer: Callable[[Request], Awaitable[Answer]]) -> None:
        """Listen nowhere before `start`; `address` is `host:port`, and port 0 takes a free one."""
        self._address = address
        self._credentials = credentials
        self._answer = answer
        self._requests = 0
        self._bytes = 0
        self._stopping = False
        self._idle = asyncio.Event()
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle, expect_handler=self._expect)
        # What is compressed could be larger than what was counted.
        self._runner = web.AppRunner(
            application, access_log=None, logger=_http_log, auto_decompress=False, shutdown_timeout=STOP_GRACE_S
        )

    async def start(self) -> str:
        """Listen, and return the address.

        Raises:
            SettingsError: the address cannot be had.
        """
        host, _, port = self._address.rpartition(":")
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host.strip("[]"), int(port), backlog=bounds.INGRESS_REQUESTS_MAX).start()
        except (OSError, ValueError, OverflowError) as error:
            await self._runner.cleanup()
            raise SettingsError(
                f"the ingress cannot listen on {self._address} ({error}): set HEADRACE_INGRESS_ADDRESS to a free "
                "address"
            ) from None
        return f"{host}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Listen no more, and answer the requests that are under way."""
        for site in list(self._runner.sites):
            await site.stop()
        # The runner's own stop reads nothing any more, so that a body which is half there would never be whole.
        self._stopping = True
        if self._requests:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), STOP_TIMEOUT_S)
        await self._runner.cleanup()

    async def _expect(self, request: web.Request) -> web.StreamResponse | None:
        """Invite a body whose sender has asked first, unless it is refused anyway."""
        refused = self._refused_unread(request)
        if refused is None and request.version == HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        return None if refused is None else _respond(refused)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._requests += 1
        metrics.INGRESS_IN_FLIGHT.set(self._requests)
        try:
            with metrics.INGRESS_SECONDS.time():
                response = _respond(await self._take(request))
            if self._stopping:
                response.force_close()
            return response
        finally:
            self._requests -= 1
            metrics.INGRESS_IN_FLIGHT.set(self._requests)
            if self._stopping and not self._requests:
                self._idle.set()

    async def _take(self, request: web.Request) -> Answer:
        refused = self._refused_unread(request)
        if refused is not None:
            return refused
        # What is announced is reserved; what is not is counted as it comes.
        taken = _Taken(self, request.content_length or 0)
        try:
            body = await self._read(request, taken)
            if isinstance(body, Answer):
                return body
            whole = Request(body, request.headers.get(hdrs.CONTENT_TYPE, ""), _attributes(request))
            refused = self._credentials.check_signature(request.headers.get(SIGNATURE_HEADER, ""), whole)
            return refused or await self._answer(whole)
        except asyncio.CancelledError:
            raise
        except Exception:
            # Whatever it is, it concerns this request alone, and must not read as a success.
            log.exception("a request could not be handled")
            return refusal(500, "failed", "the ingress failed; its log says why")
        finally:
            taken.give_back()

    def _refused_unread(self, request: web.Request) -> Answer | None:
        """Refuse what needs no look at the body."""
        headers = request.headers
        if (request.content_length or 0) > bounds.INGRESS_BODY_BYTES_MAX:
            return _too_large()
        if request.method != hdrs.METH_POST:
            return refusal(405, "wrong-method", "events are sent by POST", Allow=hdrs.METH_POST)
        refused = self._credentials.check_token(headers.get(hdrs.AUTHORIZATION, ""), headers.get(KEY_HEADER, ""))
        if refused is not None:
            return refused
        if hdrs.ORIGIN in headers and not self._credentials.are_asked_for:
            # Any page that a person visits can post to an address that only this machine has.
            message = "a web page may send events only where a token or a signature is asked for"
            return refusal(403, "from-a-web-page", message)
        if headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
            return refusal(415, "unknown-format", "the body is compressed; send it as it is")
        if self._requests > bounds.INGRESS_REQUESTS_MAX or self._is_full(request.content_length or 0):
            return _busy()
        return None

    def _is_full(self, more_bytes: int) -> bool:
        return self._bytes + more_bytes > bounds.INGRESS_BYTES_MAX

    async def _read(self, request: web.Request, taken: _Taken) -> bytes | Answer:
        body = bytearray()
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                async for part in request.content.iter_any():
                    body += part
                    if len(body) > bounds.INGRESS_BODY_BYTES_MAX:
                        return _too_large()
                    if not taken.covers(len(body)):
                        return _busy()
        except TimeoutError:
            return refusal(408, "too-slow", f"the body did not come within {READ_TIMEOUT_S:.0f} s")
        except (web.RequestPayloadError, HttpProcessingError, OSError) as error:
            return refusal(400, "bad-request", f"the body could not be read: {type(error).__name__}")
        return bytes(body)


class _Taken:
    """The room that one request takes among those in flight."""

    def __init__(self, intake: HttpIntake, size_bytes: int) -> None:
        self._intake = intake
        self._size_bytes = size_bytes
        intake._bytes += size_bytes

    def covers(self, size_bytes: int) -> bool:
        """Take more room if that is needed and there."""
        more = size_bytes - self._size_bytes
        if more <= 0:
            return True
        if self._intake._is_full(more):
            return False
        self._intake._bytes += more
        self._size_bytes = size_bytes
        return True

    def give_back(self) -> None:
        self._intake._bytes -= self._size_bytes


def _attributes(request: web.Request) -> tuple[tuple[str, str], ...]:
    lowered = ((name.lower(), value) for name, value in request.headers.items())
    return tuple(
        (name.removeprefix(ATTRIBUTE_PREFIX), value) for name, value in lowered if name.startswith(ATTRIBUTE_PREFIX)
    )


def _too_large() -> Answer:
    return refusal(
        413, "too-large", f"the body is larger than {bounds.INGRESS_BODY_BYTES_MAX} bytes: send less at once"
    )


def _busy() -> Answer:
    message = "too much is in flight already: send it again in a moment"
    return refusal(503, "busy", message, Retry_After=str(BUSY_RETRY_S))


def _respond(answer: Answer) -> web.Response:
    metrics.INGRESS_REQUESTS.labels(answer.outcome).inc()
    body = json.dumps(answer.fields, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    return web.Response(
        status=answer.status,
        body=body,
        content_type="application/json",
        headers={"Server": "headrace", **answer.headers},
    )
