"""Faust's settings from librdkafka's properties: who is trusted, as whom Headrace acts, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import ipaddress
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials

from headrace.edges.faust_credentials import faust_credentials, faust_settings
from headrace.edges.oauth_tokens import OAuthTokens, TokenError, TokenRequest
from headrace.edges.tls_context import tls_context
from headrace.model.errors import SettingsError

KEY_PASSWORD = "opensesame"


@dataclass(frozen=True)
class Certificates:
    """A self-signed certificate for 127.0.0.1, with its key in plain and encrypted."""

    certificate: Path
    key: Path
    encrypted_key: Path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory = tmp_path_factory.mktemp("certificates")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = Certificates(directory / "certificate.pem", directory / "key.pem", directory / "encrypted.pem")
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pkcs8 = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    files.key.write_bytes(key.private_bytes(*pkcs8, serialization.NoEncryption()))
    encryption = serialization.BestAvailableEncryption(KEY_PASSWORD.encode())
    files.encrypted_key.write_bytes(key.private_bytes(*pkcs8, encryption))
    return files


@contextlib.asynccontextmanager
async def tls_server(certificates: Certificates, *, asks_for_certificate: bool = False) -> AsyncIterator[int]:
    """Run a server that speaks TLS and sends one byte; yield its port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.certificate, certificates.key)
    if asks_for_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates.certificate)

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"!")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def connect(port: int, context: ssl.SSLContext, name: str = "127.0.0.1") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    try:
        return await reader.readexactly(1)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_a_named_authority_is_trusted(certificates: Certificates) -> None:
    async with tls_server(certificates) as port:
        by_file = tls_context({"ssl.ca.location": str(certificates.certificate)})
        assert await connect(port, by_file) == b"!"
        by_text = tls_context({"ssl.ca.pem": certificates.certificate.read_text()})
        assert await connect(port, by_text) == b"!"


async def test_without_a_named_authority_an_unknown_server_is_refused(certificates: Certificates) -> None:
    async with tls_server(certificates) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(port, tls_context({}))
        assert await connect(port, tls_context({"enable.ssl.certificate.verification": "false"})) == b"!"


async def test_the_hosts_name_is_checked_unless_switched_off(certificates: Certificates) -> None:
    trusted = {"ssl.ca.location": str(certificates.certificate)}
    async with tls_server(certificates) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(port, tls_context(trusted), "elsewhere.example")
        unnamed = tls_context({**trusted, "ssl.endpoint.identification.algorithm": "none"})
        assert await connect(port, unnamed, "elsewhere.example") == b"!"


async def test_a_certificate_of_ones_own_is_shown(certificates: Certificates) -> None:
    trusted = {"ssl.ca.location": str(certificates.certificate)}
    by_files = {
        "ssl.certificate.location": str(certificates.certificate),
        "ssl.key.location": str(certificates.encrypted_key),
        "ssl.key.password": KEY_PASSWORD,
    }
    by_text = {
        "ssl.certificate.pem": certificates.certificate.read_text(),
        "ssl.key.pem": certificates.key.read_text(),
    }
    async with tls_server(certificates, asks_for_certificate=True) as port:
        assert await connect(port, tls_context({**trusted, **by_files})) == b"!"
        assert await connect(port, tls_context({**trusted, **by_text})) == b"!"
        with pytest.raises((ssl.SSLError, asyncio.IncompleteReadError, ConnectionError)):
            await connect(port, tls_context(trusted))


@pytest.mark.parametrize(
    "properties",
    [
        {"ssl.ca.location": "/nowhere/ca.pem"},
        {"ssl.ca.pem": "no certificate"},
        {"ssl.key.pem": "without its certificate"},
        {"ssl.cipher.suites": "NONE-OF-THESE"},
        {"ssl.endpoint.identification.algorithm": "sometimes"},
        {"enable.ssl.certificate.verification": "perhaps"},
    ],
)
def test_unusable_tls_properties_are_refused(properties: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        tls_context(properties)


def test_a_wrong_key_password_is_refused_and_not_asked_for(certificates: Certificates) -> None:
    with pytest.raises(SettingsError):
        tls_context(
            {
                "ssl.certificate.location": str(certificates.certificate),
                "ssl.key.location": str(certificates.encrypted_key),
            }
        )


@pytest.mark.parametrize(
    ("protocol", "mechanism"),
    [("SASL_PLAINTEXT", "PLAIN"), ("sasl_ssl", "SCRAM-SHA-256"), ("SASL_SSL", "scram-sha-512")],
)
@pytest.mark.parametrize("property_name", ["sasl.mechanism", "sasl.mechanisms"])
def test_passwords(protocol: str, mechanism: str, property_name: str) -> None:
    credentials = faust_credentials(
        {"security.protocol": protocol, property_name: mechanism, "sasl.username": "u", "sasl.password": "p"}
    )
    assert isinstance(credentials, SASLCredentials)
    assert credentials.protocol.value == protocol.upper()
    assert credentials.mechanism.value == mechanism.upper()
    assert (credentials.username, credentials.password) == ("u", "p")
    assert (credentials.ssl_context is not None) == (protocol.upper() == "SASL_SSL")


def test_plain_text_and_tls_alone() -> None:
    assert faust_credentials({}) is None
    assert isinstance(faust_credentials({"security.protocol": "ssl"}), SSLCredentials)


SASL = {"security.protocol": "SASL_PLAINTEXT"}
OIDC = {**SASL, "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.method": "oidc"}
ENDPOINT = {"sasl.oauthbearer.token.endpoint.url": "https://tokens.example"}
CLIENT = {"sasl.oauthbearer.client.id": "c", "sasl.oauthbearer.client.secret": "s"}


@pytest.mark.parametrize(
    ("properties", "named"),
    [
        # librdkafka would take GSSAPI where no mechanism is named.
        (SASL, "GSSAPI"),
        ({**SASL, "sasl.mechanism": "GSSAPI"}, "GSSAPI"),
        ({**SASL, "sasl.mechanism": "PLAIN"}, "sasl.username"),
        ({**SASL, "sasl.mechanism": "PLAIN", "sasl.username": "u"}, "sasl.password"),
        ({"security.protocol": "TELEPATHY"}, "security.protocol"),
        ({"ssl.keystore.location": "a.p12"}, "ssl.keystore.location"),
        ({**SASL, "sasl.kerberos.keytab": "a"}, "sasl.kerberos.keytab"),
        ({**SASL, "sasl.mechanism": "OAUTHBEARER"}, "sasl.oauthbearer.method"),
        (OIDC, "sasl.oauthbearer.token.endpoint.url"),
        ({**OIDC, **ENDPOINT}, "sasl.oauthbearer.client.id"),
        ({**OIDC, **ENDPOINT, "sasl.oauthbearer.client.id": "c"}, "sasl.oauthbearer.client.secret"),
        ({**OIDC, **ENDPOINT, **CLIENT, "sasl.oauthbearer.grant.type": "jwt"}, "grant.type"),
        ({**OIDC, **CLIENT, "sasl.oauthbearer.token.endpoint.url": "file:///etc/passwd"}, "token.endpoint.url"),
        ({**OIDC, **ENDPOINT, **CLIENT, "sasl.oauthbearer.extensions": "nonsense"}, "extensions"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(properties: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        faust_credentials(properties)


def test_addresses_and_tuning() -> None:
    settings = faust_settings(
        {
            "bootstrap.servers": "SASL_SSL://one:9093, two,[::1]:9094",
            "client.id": "me",
            "max.partition.fetch.bytes": "4096",
            "metadata.max.age.ms": "1000",
            "connections.max.idle.ms": "2000",
            "check.crcs": "false",
        }
    )
    assert settings["broker"] == ["kafka://one:9093", "kafka://two", "kafka://[::1]:9094"]
    assert settings["broker_client_id"] == "me"
    assert settings["consumer_max_fetch_size"] == 4096
    assert settings["consumer_metadata_max_age_ms"] == 1000
    assert settings["consumer_connections_max_idle_ms"] == 2000
    assert settings["broker_check_crcs"] is False


def test_tuning_without_a_counterpart_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        faust_settings({"bootstrap.servers": "one", "queued.min.messages": "1", "linger.ms": "5"})
    (record,) = [record for record in caplog.records if "no counterpart" in record.message]
    assert "linger.ms, queued.min.messages" in record.message


@pytest.mark.parametrize(
    "properties",
    [{}, {"bootstrap.servers": " , "}, {"bootstrap.servers": "one", "max.partition.fetch.bytes": "many"}],
)
def test_malformed_tuning_is_refused(properties: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        faust_settings(properties)


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
