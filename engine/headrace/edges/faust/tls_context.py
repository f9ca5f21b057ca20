"""A TLS context for Python's Kafka client, from the properties that librdkafka takes."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from headrace.model.errors import SettingsError

TLS_PROPERTIES = frozenset(
    {
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.certificate.pem",
        "ssl.key.location",
        "ssl.key.pem",
        "ssl.key.password",
        "ssl.crl.location",
        "ssl.cipher.suites",
        "enable.ssl.certificate.verification",
        "ssl.endpoint.identification.algorithm",
    }
)
"""What `tls_context` understands."""


def tls_context(properties: Mapping[str, str]) -> ssl.SSLContext:
    """Return a context that trusts, verifies and identifies itself as the properties say.

    Raises:
        SettingsError: a file is missing or unusable, or a value unknown; the message names the property.
    """
    try:
        # Python adds the system's authorities only where none are named here.
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, **_authorities(properties))
        revoked = properties.get("ssl.crl.location")
        if revoked:
            context.load_verify_locations(cafile=revoked)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        _identify(context, properties)
        ciphers = properties.get("ssl.cipher.suites")
        if ciphers:
            context.set_ciphers(ciphers.replace(",", ":"))
    except (OSError, ValueError) as error:
        # An SSLError is an OSError too.
        raise SettingsError(
            f"the ssl.* properties cannot be used: {error}; check that the files exist, can be read, and hold what "
            "the properties' names say."
        ) from error
    _verify(context, properties)
    return context


def trusting_context(location: str | None, pem: str | None) -> ssl.SSLContext:
    """Return a context for HTTPS that trusts these authorities, or the system's where neither is given."""
    named = {"ssl.ca.location": location, "ssl.ca.pem": pem}
    return tls_context({name: value for name, value in named.items() if value})


def flag(properties: Mapping[str, str], name: str, default: bool) -> bool:
    """Read a property that is true or false, as librdkafka does.

    Raises:
        SettingsError: it is neither.
    """
    text = properties.get(name)
    if text is None:
        return default
    if text.lower() in ("true", "t", "1"):
        return True
    if text.lower() in ("false", "f", "0"):
        return False
    raise SettingsError(f"{name} must be true or false, but is {text!r}: set it.")


def _authorities(properties: Mapping[str, str]) -> dict[str, str]:
    location, pem = properties.get("ssl.ca.location"), properties.get("ssl.ca.pem")
    if pem:
        return {"cadata": pem}
    if not location or location == "probe":
        return {}
    return {"capath" if Path(location).is_dir() else "cafile": location}


def _identify(context: ssl.SSLContext, properties: Mapping[str, str]) -> None:
    with ExitStack() as files:
        certificate = _file(files, properties, "ssl.certificate")
        key = _file(files, properties, "ssl.key")
        if certificate is None and key is None:
            return
        if certificate is None:
            raise SettingsError("ssl.key.* is set without ssl.certificate.location or ssl.certificate.pem: set both.")
        # Without a password Python would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password=properties.get("ssl.key.password", ""))


def _file(files: ExitStack, properties: Mapping[str, str], name: str) -> str | None:
    pem = properties.get(f"{name}.pem")
    if pem:
        return files.enter_context(_private_file(pem))
    return properties.get(f"{name}.location") or None


@contextmanager
def _private_file(text: str) -> Iterator[str]:
    """Keep text in a file for a moment: Python reads certificates and keys from files only."""
    # mkstemp makes it readable for this user only.
    descriptor, name = tempfile.mkstemp()
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        yield name
    finally:
        Path(name).unlink()


def _verify(context: ssl.SSLContext, properties: Mapping[str, str]) -> None:
    algorithm = properties.get("ssl.endpoint.identification.algorithm", "https").lower()
    if algorithm not in ("https", "none"):
        raise SettingsError(
            f"ssl.endpoint.identification.algorithm must be https or none, but is {algorithm!r}: set it."
        )
    if not flag(properties, "enable.ssl.certificate.verification", True):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif algorithm == "none":
        context.check_hostname = False
