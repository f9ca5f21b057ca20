"""Kafka through librdkafka: how clients are made, how records are read, how failures are worded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from headrace.model.errors import NoBrokerError, SettingsError
from headrace.model.event import Position
from headrace.settings import Settings
from headrace.stages.read import RawRecord

Place = tuple[str, int]
"""A topic and one of its partitions."""

REQUEST_TIMEOUT_S = 10.0
_CHECK_INTERVAL_S = 0.5
_SETTLE_INTERVAL_S = 0.05
# A broker that has just started may not know yet what it leads, nor which partitions there are.
_LEADER_SETTLES = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError._UNKNOWN_PARTITION,
)
_PRODUCER_ONLY = ("acks", "linger.", "delivery.", "enable.idempotence", "queue.buffering.", "batch.", "message.")


def admin_client(settings: Settings, on_error: Callable[[KafkaError], None] | None = None) -> AdminClient:
    """Make an admin client; `on_error` is told, from within its calls, what librdkafka meets in the background.

    Raises:
        SettingsError: librdkafka does not know a property, or refuses its value.
    """
    properties = without(settings.client(), _PRODUCER_ONLY)
    if on_error is not None:
        properties["error_cb"] = on_error
    try:
        return AdminClient(properties)
    except KafkaException as error:
        raise SettingsError(
            f"Kafka's client refuses its settings ({error.args[0].str()}): check the variables HEADRACE_KAFKA_*"
        ) from None


def consumer(settings: Settings, **properties: str) -> Consumer:
    """Make a consumer that stores and commits nothing by itself; underscores in `properties` stand for dots."""
    own = {
        "group.id": f"{settings.topics.prefix}reader",
        "enable.auto.commit": "false",
        "enable.auto.offset.store": "false",
        "auto.offset.reset": "error",
        "allow.auto.create.topics": "false",
    }
    own.update({name.replace("_", "."): value for name, value in properties.items()})
    return Consumer({**without(settings.client(), _PRODUCER_ONLY), **own})


def offsets(client: AdminClient, places: Iterable[Place], which: OffsetSpec) -> dict[Place, int]:
    """Return the offset at one end of each partition: of its oldest record, or the one after its newest.

    Raises:
        KafkaException: no broker answers, or a partition has no leader.
    """
    asked = {TopicPartition(*place): which for place in places}
    found = client.list_offsets(asked, request_timeout=REQUEST_TIMEOUT_S) if asked else {}
    return {(at.topic, at.partition): future.result().offset for at, future in found.items()}


def committed_offsets(settings: Settings, group: str, places: Iterable[Place]) -> dict[Place, int]:
    """Return what a group has committed of these partitions; negative where it has committed nothing.

    It is asked by a consumer that never joins: the admin client's own request for it ends the process with a
    segmentation fault where the group's coordinator goes away meanwhile (librdkafka 2.16.0).

    Raises:
        KafkaException: no broker answers.
    """
    client = consumer(settings, group_id=group)
    try:
        asked = [TopicPartition(*place) for place in places]
        return {(at.topic, at.partition): at.offset for at in client.committed(asked, timeout=REQUEST_TIMEOUT_S)}
    finally:
        client.close()


def without(properties: dict[str, str], prefixes: tuple[str, ...]) -> dict[str, Any]:
    """Leave out the properties that this kind of client does not know, which would make it warn at each start."""
    return {name: value for name, value in properties.items() if not name.startswith(prefixes)}


def check_broker(settings: Settings, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
    """Return if a broker answers.

    Raises:
        NoBrokerError: none did within `timeout_s`, or one refuses our credentials or we its certificate.
    """
    met: list[KafkaError] = []
    client = admin_client(settings, met.append)
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            client.list_topics(timeout=_CHECK_INTERVAL_S)
            return
        except KafkaException as error:
            client.poll(0)
            # librdkafka tries on and on, and in the end only says that it got nowhere; these say why, and stay.
            refused = next((e for e in met if e.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL)), None)
            if refused is not None:
                raise NoBrokerError(
                    f"the Kafka at {settings.bootstrap_servers} cannot be used ({refused.str()}): check "
                    "HEADRACE_KAFKA_SASL_* and HEADRACE_KAFKA_SSL_*"
                ) from None
            if time.monotonic() >= deadline_s:
                raise no_broker(settings, error) from None


def no_broker(settings: Settings, error: KafkaException) -> NoBrokerError:
    """Word the failure to reach Kafka."""
    cause = error.args[0]
    text = cause.str() if isinstance(cause, KafkaError) else str(cause)
    return NoBrokerError(
        f"no Kafka broker answers at {settings.bootstrap_servers} ({text}): is it running, and are "
        "HEADRACE_BOOTSTRAP_SERVERS and HEADRACE_KAFKA_* right?"
    )


def raw_record(message: Message) -> RawRecord:
    """Take a record out of librdkafka's hands."""
    kind, timestamp_ms = message.timestamp()
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None and partition is not None and offset is not None
    pairs = header_pairs(message)
    return RawRecord(
        Position(topic, partition, offset),
        message.key(),
        message.value(),
        tuple((name, _header(value)) for name, value in pairs) if pairs else (),
        timestamp_ms if kind and timestamp_ms >= 0 else None,
    )


def header_pairs(message: Message) -> list[tuple[str, str | bytes | None]]:
    """Return a consumed record's headers, which librdkafka always gives as pairs."""
    headers = message.headers()
    return headers if isinstance(headers, list) else []


def _header(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def read_to_end(client: Consumer, starts: list[TopicPartition], timeout_s: float = 60.0) -> Iterator[Message]:
    """Yield every record from `starts` up to what was the end when the call was made.

    Args:
        client: a consumer of its own; its assignment is replaced.
        starts: partitions with the offsets to begin with; `OFFSET_BEGINNING` where none is given.
        timeout_s: how long to wait without any progress.

    Raises:
        NoBrokerError: nothing moved for `timeout_s`.
    """
    ends: dict[tuple[str, int], int] = {}
    assignment = []
    for start in starts:
        low, high = watermarks(client, start)
        first = max(low, start.offset) if start.offset >= 0 else low
        if first < high:
            ends[(start.topic, start.partition)] = high
            assignment.append(TopicPartition(start.topic, start.partition, first))
    if not assignment:
        return
    client.assign(assignment)
    deadline_s = time.monotonic() + timeout_s
    while ends:
        batch = client.consume(1000, 0.05)
        if not batch and time.monotonic() > deadline_s:
            raise NoBrokerError(
                f"Kafka sent nothing of {', '.join(sorted({t for t, _ in ends}))} for {timeout_s:.0f} s"
            )
        for message in batch:
            if message.error() is not None:
                continue
            deadline_s = time.monotonic() + timeout_s
            yield message
        # By position, not by the last record's offset: compaction and transactions leave gaps at a log's end.
        for at in client.position([TopicPartition(topic, partition) for topic, partition in ends]):
            if at.offset >= ends[(at.topic, at.partition)]:
                del ends[(at.topic, at.partition)]
    client.unassign()


def watermarks(client: Consumer, at: TopicPartition) -> tuple[int, int]:
    """Return a partition's first offset and the one after its last; a leader that is not there yet is waited for.

    Raises:
        KafkaException: no broker answers, or the partition has no leader for long.
    """
    deadline_s = time.monotonic() + REQUEST_TIMEOUT_S
    while True:
        try:
            return client.get_watermark_offsets(at, timeout=REQUEST_TIMEOUT_S)
        except KafkaException as error:
            # A topic made a moment ago has its leader in the metadata before the leader itself knows.
            if error.args[0].code() not in _LEADER_SETTLES or time.monotonic() > deadline_s:
                raise
            time.sleep(_SETTLE_INTERVAL_S)


def all_partitions(client: Consumer | AdminClient, topic: str) -> list[TopicPartition]:
    """Return every partition of a topic, from the beginning; none where the topic does not exist."""
    metadata = client.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic]
    if metadata.error is not None:
        return []
    return [TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in sorted(metadata.partitions)]
