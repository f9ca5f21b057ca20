"""The settings: flags, then the environment, then what `headrace up` left in its state directory, then defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson

from headrace.model.errors import EventNameError, SettingsError, TriggerError
from headrace.model.names import check_event_name
from headrace.model.times import duration_ms
from headrace.model.topics import InternalTopic, TopicNames, internal_topics
from headrace_publisher.settings import kafka_properties

STATE_FILE = "up.json"
_PREFIX = "HEADRACE_"


@dataclass(frozen=True)
class Settings:
    """Everything that can be set, checked."""

    bootstrap_servers: str | None = None
    """Brokers; None where nothing names any, and then `headrace up` starts the embedded Kafka."""
    kafka: Mapping[str, str] = field(default_factory=dict)
    """librdkafka properties for every client, without `bootstrap.servers`."""
    topics: TopicNames = field(default_factory=lambda: TopicNames("headrace."))
    state: Path = Path(".headrace")
    """State directory of the embedded mode."""
    namespaces: tuple[str, ...] | None = ()
    """Where triggers may start workflows; None for everywhere, empty for the context's namespace."""
    window_ms: int = 3_600_000
    lateness_ms: int = 60_000
    replication: int = 3
    partitions: int = 8
    http_address: str = "127.0.0.1:0"
    """Where a role serves /livez, /readyz and /metrics; port 0 takes a free one, which the log names."""
    local_runs_max: int = 4
    """Local processes that one submitter runs at a time."""
    ingress_address: str = "127.0.0.1:12000"
    """Where the ingress takes events by HTTP; port 0 takes a free one, which the log names."""
    ingress_token: str | None = field(default=None, repr=False)
    """What a sender must show as a bearer token; None: nothing."""
    ingress_hmac_secret: str | None = field(default=None, repr=False)
    """What a sender must sign bodies with; None: nothing."""

    def client(self, **properties: str) -> dict[str, str]:
        """Return the properties of one Kafka client; underscores in `properties` stand for dots.

        Raises:
            SettingsError: no broker is known.
        """
        if self.bootstrap_servers is None:
            raise SettingsError(
                "no Kafka is configured: set HEADRACE_BOOTSTRAP_SERVERS, or start the embedded one with `headrace up`"
            )
        own = {name.replace("_", "."): value for name, value in properties.items()}
        return {"bootstrap.servers": self.bootstrap_servers, **self.kafka, **own}

    def internal_topics(self) -> list[InternalTopic]:
        """Declare the internal topics as these settings want them."""
        return internal_topics(self.topics, self.partitions, self.replication)


def load(environment: Mapping[str, str] | None = None, **flags: object) -> Settings:
    """Read the settings.

    Args:
        environment: defaults to the process's own.
        flags: values from the command line by field name; None means that the flag was not given.

    Raises:
        SettingsError: a value cannot work; the message names the variable.
    """
    env = os.environ if environment is None else environment
    state = Path(str(flags.get("state") or env.get("HEADRACE_STATE") or ".headrace"))
    left = _state_file(state)
    kafka = kafka_properties(env)
    named = (
        flags.get("bootstrap_servers") or env.get("HEADRACE_BOOTSTRAP_SERVERS") or kafka.pop("bootstrap.servers", None)
    )
    servers = named or left.get("bootstrap_servers")
    embedded = bool(left) and not named
    settings = Settings(
        bootstrap_servers=str(servers) if servers else None,
        kafka={name: value for name, value in kafka.items() if name != "bootstrap.servers"},
        topics=TopicNames(_prefix(env.get("HEADRACE_TOPIC_PREFIX") or str(left.get("topic_prefix") or "headrace."))),
        state=state,
        namespaces=_namespaces(env.get("HEADRACE_NAMESPACES", "")),
        window_ms=_duration(env, "HEADRACE_WINDOW", "1h"),
        lateness_ms=_duration(env, "HEADRACE_LATENESS", "60s"),
        replication=_count(env, "HEADRACE_REPLICATION", 1 if embedded else 3),
        partitions=_count(env, "HEADRACE_PARTITIONS", 8),
        http_address=env.get("HEADRACE_HTTP_ADDRESS") or "127.0.0.1:0",
        local_runs_max=_count(env, "HEADRACE_LOCAL_RUNS", 4),
        ingress_address=env.get("HEADRACE_INGRESS_ADDRESS") or "127.0.0.1:12000",
        # A secret that was read from a file may end with a line's end; a header cannot.
        ingress_token=env.get("HEADRACE_INGRESS_TOKEN", "").strip() or None,
        ingress_hmac_secret=env.get("HEADRACE_INGRESS_HMAC_SECRET", "").strip() or None,
    )
    given = {name: value for name, value in flags.items() if value is not None and name not in ("state",)}
    return replace(settings, **given)  # type: ignore[arg-type]


def _state_file(state: Path) -> dict[str, object]:
    try:
        left = orjson.loads((state / STATE_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, orjson.JSONDecodeError) as error:
        raise SettingsError(
            f"{state / STATE_FILE} cannot be read ({error}): remove it, or start `headrace up`"
        ) from None
    return left if isinstance(left, dict) else {}


def _prefix(text: str) -> str:
    try:
        return check_event_name(text)
    except EventNameError:
        raise SettingsError(
            f"HEADRACE_TOPIC_PREFIX is {text!r}; topics' names begin with it, so use letters, digits, '.', '_' and '-'"
        ) from None


def _namespaces(text: str) -> tuple[str, ...] | None:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    return None if names == ("*",) else names


def _duration(env: Mapping[str, str], name: str, default: str) -> int:
    try:
        return duration_ms(env.get(name) or default)
    except TriggerError as error:
        raise SettingsError(f"{name}: {error}") from None


def _count(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise SettingsError(f"{name} is {text!r}; it needs a whole number of at least 1")
    return int(text)
