"""Access tokens for Kafka's OAUTHBEARER, by OAuth's client credentials grant (RFC 6749, section 4.4)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiokafka.abc import AbstractTokenProvider

from headrace.model.errors import HeadraceError

_REQUEST_TIMEOUT_S = 30.0
# A token is replaced when this share of its life is left, so that no connection begins with one about to expire.
_LIFE_LEFT_SHARE = 0.2
_ANSWER_CHARACTERS_SHOWN = 200


class TokenError(HeadraceError):
    """The token endpoint gave no token."""


@dataclass(frozen=True)
class TokenRequest:
    """What to ask a token endpoint."""

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    # What to ask access for, as the authorization server names it.
    scope: str | None = None
    # For https only.
    tls: ssl.SSLContext | None = None

    @property
    def authorization(self) -> str:
        """How the client shows who it is: HTTP Basic, as librdkafka does it."""
        return "Basic " + base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()


class OAuthTokens(AbstractTokenProvider):  # type: ignore[misc]
    """Gives each new connection a token that is good for a while, asking for one only when needed."""

    def __init__(self, request: TokenRequest, extensions: Mapping[str, str] | None = None) -> None:
        """Prepare; `extensions` are sent to the broker with the token."""
        self._request = request
        self._extensions = dict(extensions or {})
        self._token: str | None = None
        self._replace_at_s = 0.0
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """Return a token.

        Raises:
            TokenError: none was given.
        """
        async with self._lock:
            if self._token is None or time.monotonic() >= self._replace_at_s:
                token, life_s = await self._fetch()
                self._token = token
                self._replace_at_s = time.monotonic() + life_s * (1 - _LIFE_LEFT_SHARE)
            return self._token

    def extensions(self) -> dict[str, str]:
        """Return what is sent beside the token."""
        return self._extensions

    async def _fetch(self) -> tuple[str, float]:
        asked = self._request
        form = {"grant_type": "client_credentials"}
        if asked.scope:
            form["scope"] = asked.scope
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_S)) as session,
                session.post(
                    asked.url,
                    data=form,
                    headers={"Authorization": asked.authorization, "Accept": "application/json"},
                    ssl=True if asked.tls is None else asked.tls,
                    # The secret is for this server only.
                    allow_redirects=False,
                ) as response,
            ):
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError) as error:
            raise TokenError(
                f"the token endpoint {asked.url} did not answer: {error or type(error).__name__}; check "
                "sasl.oauthbearer.token.endpoint.url and the network."
            ) from error
        if response.status != 200:
            raise TokenError(
                f"the token endpoint {asked.url} answered {response.status}: {text[:_ANSWER_CHARACTERS_SHOWN]!r}; "
                "check sasl.oauthbearer.client.id, .client.secret and .scope."
            )
        return _read_answer(asked.url, text)


def _read_answer(url: str, text: str) -> tuple[str, float]:
    """Return the token and its life in seconds."""
    try:
        answer = json.loads(text)
        token = answer["access_token"]
    except (ValueError, KeyError, TypeError):
        raise TokenError(
            f"the token endpoint {url} answered without an access_token: is it the token endpoint of an OAuth server?"
        ) from None
    if not isinstance(token, str) or not token:
        raise TokenError(f"the token endpoint {url} answered with an access_token that is no text.")
    return token, _life_s(answer.get("expires_in"), token)


def _life_s(expires_in: Any, token: str) -> float:
    """How long a token is good: what the endpoint says, else what a JWT says, else only for now."""
    try:
        return max(0.0, float(expires_in))
    except (TypeError, ValueError):
        pass
    try:
        claims_part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(claims_part + "=" * (-len(claims_part) % 4)))
        return max(0.0, float(claims["exp"]) - time.time())
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return 0.0
