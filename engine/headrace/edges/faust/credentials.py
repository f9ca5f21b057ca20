"""Faust's settings from librdkafka's properties, so that one set of settings serves all clients."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from typing import Any

from faust.auth import Credentials, OAuthCredentials, SASLCredentials, SSLCredentials

from headrace.edges.faust.oauth_tokens import OAuthTokens, TokenRequest
from headrace.edges.faust.tls_context import TLS_PROPERTIES, flag, tls_context, trusting_context
from headrace.model.errors import SettingsError

log = logging.getLogger(__name__)

_PASSWORD_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_OAUTH = "sasl.oauthbearer."
# Tuning that Faust has under another name, and how its value is read.
_TUNING = {
    "client.id": ("broker_client_id", str),
    "max.partition.fetch.bytes": ("consumer_max_fetch_size", int),
    "fetch.message.max.bytes": ("consumer_max_fetch_size", int),
    "metadata.max.age.ms": ("consumer_metadata_max_age_ms", int),
    "connections.max.idle.ms": ("consumer_connections_max_idle_ms", int),
}
# Read elsewhere: the limits by `Timing`, the rest below.
_READ = {
    "bootstrap.servers",
    "metadata.broker.list",
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "https.ca.location",
    "https.ca.pem",
    "check.crcs",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
    *TLS_PROPERTIES,
    *(
        _OAUTH + name
        for name in (
            "method",
            "client.id",
            "client.credentials.client.id",
            "client.secret",
            "client.credentials.client.secret",
            "scope",
            "extensions",
            "token.endpoint.url",
            "grant.type",
        )
    ),
}
# What decides whom Headrace trusts, and as whom it acts: here nothing may be left out in silence.
_SECURITY = ("ssl.", "sasl.", "https.", "enable.ssl.", "enable.sasl.", "security.")


def faust_settings(properties: Mapping[str, str]) -> dict[str, Any]:
    """Return Faust's settings for its broker, its credentials and its tuning.

    Properties without a counterpart are named in one line of the log: they serve the other clients only.

    Raises:
        SettingsError: the credentials cannot be served by Faust, or a value is malformed.
    """
    settings: dict[str, Any] = {
        "broker": _broker_urls(properties),
        "broker_credentials": faust_credentials(properties),
        "broker_check_crcs": flag(properties, "check.crcs", True),
    }
    for name, (setting, read) in _TUNING.items():
        text = properties.get(name)
        if text is None:
            continue
        try:
            settings[setting] = read(text)
        except ValueError:
            raise SettingsError(f"{name} must be a whole number, but is {text!r}: set it.") from None
    without = sorted(name for name in properties if name not in _READ and name not in _TUNING)
    if without:
        log.info("Faust has no counterpart for %s: they serve the other Kafka clients only", ", ".join(without))
    return settings


def faust_credentials(properties: Mapping[str, str]) -> Credentials | None:
    """Return what Faust connects to Kafka with; None for plain text without authentication.

    Raises:
        SettingsError: Faust cannot do what the properties ask for; the message names them.
    """
    unknown = sorted(name for name in properties if name.startswith(_SECURITY) and name not in _READ)
    if unknown:
        raise SettingsError(
            f"the join cannot serve {', '.join(unknown)}: unset them, or use the properties that docs and librdkafka "
            "list for files, PEM text, SASL PLAIN, SCRAM and OAUTHBEARER by OIDC."
        )
    protocol = properties.get("security.protocol", "plaintext").upper()
    match protocol:
        case "PLAINTEXT":
            return None
        case "SSL":
            return SSLCredentials(tls_context(properties))
        case "SASL_PLAINTEXT":
            return _sasl(properties, None)
        case "SASL_SSL":
            return _sasl(properties, tls_context(properties))
        case _:
            raise SettingsError(
                f"security.protocol must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, but is {protocol!r}: set it."
            )


def _broker_urls(properties: Mapping[str, str]) -> list[str]:
    servers = properties.get("bootstrap.servers") or properties.get("metadata.broker.list", "")
    # librdkafka lets each address begin with a protocol.
    addresses = [address.strip().rpartition("://")[2] for address in servers.split(",") if address.strip()]
    if not addresses:
        raise SettingsError("bootstrap.servers names no broker: set it to host:port of one or more brokers.")
    return [f"kafka://{address}" for address in addresses]


def _sasl(properties: Mapping[str, str], tls: ssl.SSLContext | None) -> Credentials:
    # librdkafka's default is GSSAPI.
    mechanism = (properties.get("sasl.mechanism") or properties.get("sasl.mechanisms") or "GSSAPI").upper()
    if mechanism == "OAUTHBEARER":
        return OAuthCredentials(oauth_cb=_oauth_tokens(properties), ssl_context=tls)
    if mechanism not in _PASSWORD_MECHANISMS:
        raise SettingsError(
            f"the join cannot serve sasl.mechanism {mechanism}: set it to {', '.join(_PASSWORD_MECHANISMS)} or "
            "OAUTHBEARER."
        )
    return SASLCredentials(
        mechanism=mechanism,
        username=_needed(properties, "sasl.username"),
        password=_needed(properties, "sasl.password"),
        ssl_context=tls,
    )


def _oauth_tokens(properties: Mapping[str, str]) -> OAuthTokens:
    method = properties.get(_OAUTH + "method", "default").lower()
    if method != "oidc":
        raise SettingsError(
            f"the join cannot serve sasl.oauthbearer.method {method}: set it to oidc, with the token endpoint's "
            "address, client id and client secret."
        )
    grant = properties.get(_OAUTH + "grant.type", "client_credentials")
    if grant != "client_credentials":
        raise SettingsError(f"the join cannot serve sasl.oauthbearer.grant.type {grant}: set it to client_credentials.")
    url = _needed(properties, _OAUTH + "token.endpoint.url")
    if not url.startswith(("https://", "http://")):
        raise SettingsError(f"sasl.oauthbearer.token.endpoint.url must be an https address, but is {url!r}: set it.")
    authority = properties.get("https.ca.location"), properties.get("https.ca.pem")
    request = TokenRequest(
        url=url,
        client_id=_needed(properties, _OAUTH + "client.id", _OAUTH + "client.credentials.client.id"),
        client_secret=_needed(properties, _OAUTH + "client.secret", _OAUTH + "client.credentials.client.secret"),
        scope=properties.get(_OAUTH + "scope") or None,
        tls=trusting_context(*authority) if url.startswith("https://") else None,
    )
    return OAuthTokens(request, _extensions(properties.get(_OAUTH + "extensions", "")))


def _extensions(text: str) -> dict[str, str]:
    extensions: dict[str, str] = {}
    for part in text.split(","):
        if not part.strip():
            continue
        name, equals, value = part.strip().partition("=")
        if not (name and equals):
            raise SettingsError(
                f"sasl.oauthbearer.extensions must be name=value pairs with commas between, but holds {part!r}: set it."
            )
        extensions[name] = value
    return extensions


def _needed(properties: Mapping[str, str], *names: str) -> str:
    for name in names:
        value = properties.get(name)
        if value:
            return value
    raise SettingsError(f"{names[0]} is not set, and the chosen way to authenticate needs it: set it.")
