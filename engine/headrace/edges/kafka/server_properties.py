"""What the embedded Kafka is configured with: to run alone, on loopback, on a laptop's disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace.edges.loopback_port import LOOPBACK

# The name of the listener that clients use; Kafka wants one besides the security protocol's name.
CLIENT_LISTENER = "CLIENT"

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class ListenerSecurity:
    """How clients reach the embedded Kafka; the default, plain text, suits loopback and one user."""

    # Kafka's name of the protocol of the client listener: PLAINTEXT, SASL_SSL, …
    protocol: str = "PLAINTEXT"
    # Broker properties that belong to it: key stores, SASL mechanisms.
    broker_properties: Mapping[str, str] = field(default_factory=dict)
    # Arguments of `kafka-storage format`: SCRAM credentials have to exist before the first connection.
    format_arguments: tuple[str, ...] = ()
    # librdkafka properties with which the readiness check itself gets in.
    client_properties: Mapping[str, str] = field(default_factory=dict)


PLAINTEXT = ListenerSecurity()


def server_properties(
    *, data: Path, port: int, controller_port: int, security: ListenerSecurity, extra: Mapping[str, str]
) -> dict[str, str]:
    """Return the broker's properties; `extra` is applied last and may replace any of them."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        # A static quorum of one: unlike a dynamic one it stores no port, so every start may choose a free
        # one.
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "listeners": f"{CLIENT_LISTENER}://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"{CLIENT_LISTENER}://{LOOPBACK}:{port}",
        "listener.security.protocol.map": f"{CLIENT_LISTENER}:{security.protocol},CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": CLIENT_LISTENER,
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(data),
        **_ALONE,
        **_LAPTOP,
        **security.broker_properties,
        **extra,
    }


# One node: every replication factor is 1, and nobody else is worth waiting for.
_ALONE = {
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # After a crash the controller waits this long before it lets the broker in again: by default 9 s.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # Kafka's own default, kept so that publishing to a topic which no trigger names yet works with any
    # producer. It does Headrace no harm: `up` creates its internal topics before any role runs, deploy
    # creates the topics that it names, and a topic's start offsets come from the trigger's record, not from
    # who created the topic.
    "auto.create.topics.enable": "true",
    "num.partitions": "1",
}

# A laptop: bounded disk, few files, and clocks that stand still for weeks while the lid is closed.
_LAPTOP = {
    "log.segment.bytes": str(64 * MEBIBYTE),
    "log.retention.bytes": str(1024 * MEBIBYTE),
    "log.retention.hours": str(30 * 24),
    # An index of a 64 MiB segment never needs more; the default reserves 10 MiB for each of two files.
    "log.index.size.max.bytes": str(MEBIBYTE),
    # Taken from the heap at once: the default is a quarter of it.
    "log.cleaner.dedupe.buffer.size": str(32 * MEBIBYTE),
    # The defaults of 50 partitions serve clusters; here they only make starts and recoveries slower.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "1",
    # Ten years. With the default of a week, a holiday would lose every group's position, and with it events.
    "offsets.retention.minutes": str(10 * 365 * 24 * 60),
}

LOG_CONFIGURATION = """\
status = error
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = ${sys:headrace.kafka.log}
appender.file.filePattern = ${sys:headrace.kafka.log}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{ISO8601} %p %m (%c)%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
"""


def as_properties_file(properties: Mapping[str, str]) -> str:
    """Return the text of a Java properties file, which is Latin-1: anything else is escaped."""
    return "".join(f"{key}={_escaped(value)}\n" for key, value in properties.items())


def _escaped(value: str) -> str:
    pieces: list[str] = []
    for character in value:
        if character == "\\":
            pieces.append("\\\\")
        elif character == "\n":
            pieces.append("\\n")
        elif " " <= character <= "~":
            pieces.append(character)
        else:
            units = character.encode("utf-16-be")
            pieces.extend(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
    text = "".join(pieces)
    # A leading blank would be taken for the space after the equals sign.
    return f"\\{text}" if text.startswith(" ") else text
