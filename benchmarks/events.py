"""Events, triggers and topics as several rows need them, written past the command line."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from headrace.edges.kafka.clients import all_partitions, consumer, read_to_end, watermarks
from headrace.edges.kafka.trigger_registry import write_triggers
from headrace.model.trigger import TriggerRecord, TriggerSpec
from headrace.settings import Settings

PADDING = "x" * 100


def fact(number: int, **fields: Any) -> bytes:
    """Return one event of some 170 bytes; `rows` runs from 0 to 99 again and again."""
    return orjson.dumps({"set": f"set-{number}", "rows": number % 100, **fields, "padding": PADDING})


def fill(settings: Settings, records: Iterable[tuple[str, int, bytes | None, bytes]]) -> None:
    """Write topic, partition, key and value of each record, as fast as it goes; -1 lets the key decide."""
    producer = Producer(
        {**settings.client(), "linger.ms": "20", "acks": "all", "queue.buffering.max.messages": "1000000"}
    )
    failures: list[str] = []
    for topic, partition, key, value in records:
        while True:
            try:
                producer.produce(topic, value, key, partition, lambda e, _: failures.append(e.str()) if e else None)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    left = producer.flush(120)
    if failures or left:
        raise RuntimeError(f"Kafka did not take the records: {failures[0] if failures else left}")


def trigger(name: str, events: list[dict[str, Any]]) -> TriggerRecord:
    """Return a trigger whose events count from the beginning of their topics."""
    spec = TriggerSpec.model_validate({"events": events, "run": {"workflowTemplate": "bench"}})
    return TriggerRecord(
        name=f"bench/{name}",
        creation=uuid.uuid4().hex,
        generation=1,
        spec=spec,
        starts={event.name: {} for event in spec.events},
        deployed_ms=time.time_ns() // 1_000_000,
    )


def register(settings: Settings, triggers: Iterable[TriggerRecord]) -> None:
    """Write triggers for roles that are not running yet."""
    write_triggers(settings, {record.name: record.encode() for record in triggers})


def end_offsets(settings: Settings, topic: str) -> int:
    """Return how many records were ever written to a topic."""
    client = consumer(settings)
    try:
        return sum(watermarks(client, at)[1] for at in all_partitions(client, topic))
    finally:
        client.close()


class Counter:
    """Counts a topic's records over one connection."""

    def __init__(self, settings: Settings, topic: str) -> None:
        """Connect."""
        self._client: Consumer = consumer(settings)
        self._partitions: list[TopicPartition] = all_partitions(self._client, topic)

    @property
    def count(self) -> int:
        """Records ever written."""
        return sum(watermarks(self._client, at)[1] for at in self._partitions)

    def close(self) -> None:
        """Disconnect."""
        self._client.close()


def records_of(settings: Settings, topic: str) -> Iterator[tuple[int, bytes, bytes | None]]:
    """Yield partition, key and value of each record that a topic holds."""
    client = consumer(settings)
    try:
        for message in read_to_end(client, all_partitions(client, topic)):
            yield message.partition() or 0, message.key() or b"", message.value()
    finally:
        client.close()


def headers_of(headers: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return headers as librdkafka takes them."""
    return list(headers.items())
