"""Faust's settings from librdkafka's properties: who is trusted, as whom Headrace acts, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from faust.auth import SASLCredentials, SSLCredentials

from headrace.edges.faust.credentials import faust_credentials, faust_settings
from headrace.edges.faust.tls_context import tls_context
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
