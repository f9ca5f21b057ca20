"""Where Kafka is and how to talk to it: arguments, then environment, then the state file of `headrace up`.

The engine reads the same settings through `bootstrap_servers` and `kafka_properties`.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypedDict
from urllib.parse import quote

from .errors import NotConfigured
from .record import PAYLOAD_BYTES_MAX

_PREFIX = "HEADRACE_KAFKA_"
_STATE_FILE = "up.json"
_KEY_AND_HEADERS_BYTES = 64 * 1024

# librdkafka knows some properties by two names and takes whichever is set last, so ours must give way under
# both.
_ALIASES = {
    "metadata.broker.list": "bootstrap.servers",
    "delivery.timeout.ms": "message.timeout.ms",
    "queue.buffering.max.ms": "linger.ms",
}

_PRODUCER_DEFAULTS = {
    "client.id": "headrace-publisher",
    "enable.idempotence": "true",  # also means acks=all, and order within a partition
    "queue.buffering.max.messages": "100000",
    "queue.buffering.max.kbytes": str(128 * 1024),
    # A topic that was made just now is waited for, but not for so long that a wrong name goes unnoticed.
    "topic.metadata.propagation.max.ms": "5000",
    "topic.metadata.refresh.interval.ms": "10000",
    # Connection errors are part of the report for each event; librdkafka's own lines would say them twice a
    # second.
    "log_level": "2",
}


class Location(NamedTuple):
    """Brokers, and which setting named them."""

    servers: str
    origin: str


def kafka_properties(environment: Mapping[str, str]) -> dict[str, str]:
    """The librdkafka properties that `HEADRACE_KAFKA_*` variables set.

    The rest of a variable's name, in lower case, is the property, with `_` for `.`:
    `HEADRACE_KAFKA_SECURITY_PROTOCOL` sets `security.protocol`. A double `__` stands for an underscore:
    `HEADRACE_KAFKA_LOG__LEVEL` sets `log_level`. Of a property with two names the one is returned that this
    package uses (`delivery.timeout.ms` becomes `message.timeout.ms`). Empty variables count as not set.
    """
    properties = {}
    for variable in environment:
        if variable.startswith(_PREFIX) and (value := environment[variable]):
            parts = variable.removeprefix(_PREFIX).lower().split("__")
            properties["_".join(part.replace("_", ".") for part in parts)] = value
    return canonical_properties(properties)


def canonical_properties(properties: Mapping[str, str]) -> dict[str, str]:
    """The same properties, each under the one of its names that this package uses."""
    return {_ALIASES.get(name, name): value for name, value in properties.items()}


def bootstrap_servers(argument: str | None, environment: Mapping[str, str]) -> str:
    """The brokers as `host:port[,host:port…]`; raises NotConfigured where none are known.

    In this order: `argument`, `HEADRACE_BOOTSTRAP_SERVERS`, `HEADRACE_KAFKA_BOOTSTRAP_SERVERS`, and what a
    running `headrace up` left in its state directory (`HEADRACE_STATE`, default `./.headrace`).
    """
    return locate(argument, environment).servers


def locate(argument: str | None, environment: Mapping[str, str]) -> Location:
    """As `bootstrap_servers`, with the setting that named the brokers."""
    if argument:
        return Location(argument, "given as argument")
    if servers := environment.get("HEADRACE_BOOTSTRAP_SERVERS"):
        return Location(servers, "from HEADRACE_BOOTSTRAP_SERVERS")
    if servers := kafka_properties(environment).get("bootstrap.servers"):
        return Location(servers, "from HEADRACE_KAFKA_BOOTSTRAP_SERVERS")
    state_file = _state_file(environment)
    return Location(_servers_in(state_file), f"from {state_file}, which `headrace up` wrote")


def is_configured(environment: Mapping[str, str]) -> bool:
    """Whether a variable or a state file names a Kafka, be it usable or not.

    What is named and cannot be used is for `locate` to refuse: whoever named it does not want another way taken.
    """
    named = environment.get("HEADRACE_BOOTSTRAP_SERVERS") or kafka_properties(environment).get("bootstrap.servers")
    return bool(named) or os.path.exists(_state_file(environment))


def _state_file(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("HEADRACE_STATE") or ".headrace") / _STATE_FILE


def _servers_in(state_file: Path) -> str:
    try:
        state = json.loads(state_file.read_bytes())
    except FileNotFoundError as error:
        raise NotConfigured(
            "no Kafka is configured: set HEADRACE_BOOTSTRAP_SERVERS to its brokers (host:port), or start one "
            f"with `headrace up` in this directory (there is no {state_file})."
        ) from error
    except (OSError, ValueError) as error:
        raise NotConfigured(
            f"no Kafka is configured: {state_file} cannot be read ({error}). Start `headrace up` anew, or "
            "set HEADRACE_BOOTSTRAP_SERVERS."
        ) from error
    servers = state.get("bootstrap_servers") if isinstance(state, dict) else None
    if not isinstance(servers, str) or not servers:
        raise NotConfigured(
            f"no Kafka is configured: {state_file} names no bootstrap_servers. Start `headrace up` anew, or "
            "set HEADRACE_BOOTSTRAP_SERVERS."
        )
    return servers


class PublisherOptions(TypedDict, total=False):
    """What Publisher and AsyncPublisher take beside the brokers, all by keyword."""

    kafka: Mapping[str, str]
    """librdkafka properties by their own names; they win over `HEADRACE_KAFKA_*`, and that over our defaults."""
    source: str
    """The CloudEvents source of all events, a URI reference; default `/headrace-publisher/<host name>`."""
    delivery_timeout_s: float
    """How long Kafka may take to acknowledge an event, retries included; default 30."""
    queue_timeout_s: float
    """How long publishing waits for room in a full queue; default 5."""
    close_timeout_s: float
    """How long closing waits for what is undelivered; default 10, which is the most at the process's end."""
    payload_bytes_max: int
    """The bound of a payload as JSON; default 1 MiB."""


@dataclass(frozen=True)
class PublisherSettings:
    """What a publisher works by, with everything resolved. Equal settings may share a publisher."""

    location: Location
    # Passwords are among them, so they stay out of any output.
    properties: tuple[tuple[str, str], ...] = field(repr=False)
    source: str
    queue_timeout_s: float
    close_timeout_s: float
    payload_bytes_max: int

    @property
    def delivery_timeout_s(self) -> float:
        """How long Kafka may take to acknowledge an event, as librdkafka was told; 0: without limit."""
        return int(dict(self.properties)["message.timeout.ms"]) / 1000


def resolve(
    servers: str | None, environment: Mapping[str, str], options: PublisherOptions | None = None
) -> PublisherSettings:
    """The settings that result from arguments and environment; raises NotConfigured."""
    options = options or {}
    if unknown := options.keys() - PublisherOptions.__annotations__:
        raise TypeError(f"A publisher takes no argument {sorted(unknown)[0]!r}.")
    location = locate(servers, environment)
    return PublisherSettings(
        location=location,
        properties=_producer_properties(location.servers, environment, options),
        source=options.get("source") or _default_source(),
        queue_timeout_s=options.get("queue_timeout_s", 5.0),
        close_timeout_s=options.get("close_timeout_s", 10.0),
        payload_bytes_max=options.get("payload_bytes_max", PAYLOAD_BYTES_MAX),
    )


@cache
def _default_source() -> str:
    return f"/headrace-publisher/{quote(socket.gethostname())}"


def _producer_properties(
    servers: str, environment: Mapping[str, str], options: PublisherOptions
) -> tuple[tuple[str, str], ...]:
    timeout_ms = {"message.timeout.ms": str(round(options.get("delivery_timeout_s", 30.0) * 1000))}
    # A payload of the greatest size must fit with its key and headers.
    record_bytes_max = options.get("payload_bytes_max", PAYLOAD_BYTES_MAX) + _KEY_AND_HEADERS_BYTES
    properties: dict[str, object] = {
        **_PRODUCER_DEFAULTS,
        **timeout_ms,
        "message.max.bytes": record_bytes_max,
        **kafka_properties(environment),
        **(timeout_ms if "delivery_timeout_s" in options else {}),
        **canonical_properties(options.get("kafka", {})),
        "bootstrap.servers": servers,
    }
    if not str(properties["message.timeout.ms"]).isdigit():
        raise NotConfigured(
            f"The Kafka property message.timeout.ms must be a whole number, not {properties['message.timeout.ms']!r}."
        )
    return tuple(sorted((name, str(value)) for name, value in properties.items()))
