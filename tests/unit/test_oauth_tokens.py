"""Tokens for OAUTHBEARER: asked for when needed, kept while they live, and refused with a reason."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from faust.auth import OAuthCredentials

from headrace.edges.faust.credentials import faust_credentials
from headrace.edges.faust.oauth_tokens import OAuthTokens, TokenError, TokenRequest
from tests.unit.test_faust_credentials import CLIENT, OIDC


@dataclass
class TokenEndpoint:
    """A real OAuth token endpoint; it gives the tokens t1, t2, …, and remembers what it was asked."""

    expires_in: object = 3600
    status: int = 200
    body: str | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        self.asked.append({"authorization": request.headers.get("Authorization"), **form})
        if self.body is not None:
            return web.Response(text=self.body, status=self.status, content_type="application/json")
        answer = {"access_token": f"t{len(self.asked)}", "token_type": "Bearer", "expires_in": self.expires_in}
        return web.json_response(answer, status=self.status)

    def request(self, **changed: Any) -> TokenRequest:
        return TokenRequest(**{"url": self.url, "client_id": "me", "client_secret": "s:cret", **changed})


@pytest.fixture
async def endpoint() -> AsyncIterator[TokenEndpoint]:
    made = TokenEndpoint()
    application = web.Application()
    application.router.add_post("/token", made.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/token"
    yield made
    await runner.cleanup()


async def test_a_token_is_asked_for_once_and_kept(endpoint: TokenEndpoint) -> None:
    tokens = OAuthTokens(endpoint.request(scope="kafka"))
    assert await asyncio.gather(*(tokens.token() for _ in range(5))) == ["t1"] * 5
    basic = base64.b64encode(b"me:s:cret").decode()
    assert endpoint.asked == [{"authorization": f"Basic {basic}", "grant_type": "client_credentials", "scope": "kafka"}]


def jwt(expires_at_s: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": expires_at_s}).encode()).decode().rstrip("=")
    return f"e30.{claims}.signature"


async def test_an_expired_token_is_replaced(endpoint: TokenEndpoint) -> None:
    endpoint.expires_in = 0
    tokens = OAuthTokens(endpoint.request())
    assert [await tokens.token(), await tokens.token()] == ["t1", "t2"]


@pytest.mark.parametrize(("life_s", "asked"), [(3600, 1), (-1, 2)])
async def test_a_token_that_is_a_jwt_tells_its_life_itself(endpoint: TokenEndpoint, life_s: float, asked: int) -> None:
    endpoint.body = json.dumps({"access_token": jwt(time.time() + life_s)})
    tokens = OAuthTokens(endpoint.request())
    await tokens.token()
    await tokens.token()
    assert len(endpoint.asked) == asked


async def test_a_token_of_unknown_life_is_used_once(endpoint: TokenEndpoint) -> None:
    endpoint.expires_in = None
    tokens = OAuthTokens(endpoint.request())
    assert [await tokens.token(), await tokens.token()] == ["t1", "t2"]


@pytest.mark.parametrize("body", ["not JSON", "[]", "{}", '{"access_token": 7}', '{"access_token": ""}'])
async def test_an_answer_without_a_token_is_an_error(endpoint: TokenEndpoint, body: str) -> None:
    endpoint.body = body
    with pytest.raises(TokenError):
        await OAuthTokens(endpoint.request()).token()


async def test_a_refusal_is_reported_without_the_secret(endpoint: TokenEndpoint) -> None:
    endpoint.status, endpoint.body = 401, '{"error": "invalid_client"}'
    with pytest.raises(TokenError, match="invalid_client") as caught:
        await OAuthTokens(endpoint.request()).token()
    assert "s:cret" not in str(caught.value)
    assert "s:cret" not in repr(endpoint.request())


async def test_an_endpoint_that_is_not_there_is_an_error(endpoint: TokenEndpoint) -> None:
    unreachable = endpoint.request(url="http://127.0.0.1:1/token")
    with pytest.raises(TokenError, match="did not answer"):
        await OAuthTokens(unreachable).token()


async def test_the_endpoint_is_asked_as_the_properties_say(endpoint: TokenEndpoint) -> None:
    credentials = faust_credentials(
        {
            **OIDC,
            **CLIENT,
            "sasl.oauthbearer.token.endpoint.url": endpoint.url,
            "sasl.oauthbearer.scope": "kafka",
            "sasl.oauthbearer.extensions": "logicalCluster=lkc-1,identityPoolId=pool",
        }
    )
    assert isinstance(credentials, OAuthCredentials)
    assert await credentials.oauth_cb.token() == "t1"
    assert credentials.oauth_cb.extensions() == {"logicalCluster": "lkc-1", "identityPoolId": "pool"}
    assert endpoint.asked[0]["scope"] == "kafka"
