"""The publisher, in batches and call by call, beside librdkafka with the same bytes and headers; and its import."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

import orjson
from confluent_kafka import Producer

from benchmarks.parts import Parts
from headrace.bench.children import result_of
from headrace.bench.figures import Aim, Figure, Sample
from headrace_publisher import Publisher
from headrace_publisher.record import build_record
from tests.support.kafka import create_topics

TOPIC = "published"
PAYLOAD = {"table": "sales", "region": "north", "rows": 5000, "days": 14, "padding": "x" * 100}
IMPORT = "import time; began = time.perf_counter(); import headrace_publisher; print(time.perf_counter() - began)"


def measure(parts: Parts) -> Sequence[Figure]:
    """Measure the row."""
    # A second of it is too short: whether Kafka's compiler or page cache is at work then decides.
    batch_count, count = parts.size(1_000_000, 60_000), parts.size(300_000, 60_000)
    create_topics({"bootstrap.servers": parts.kafka}, {TOPIC: 4})
    batch, single, calls = [], [], []
    for _ in range(parts.repetitions):
        bare: float = result_of(_bare, parts.kafka, batch_count)
        many: float = result_of(_many, parts.kafka, batch_count)
        one_rate, call_us = result_of(_one_by_one, parts.kafka, count)
        batch.append(Sample(many, bare))
        single.append(Sample(one_rate, bare))
        calls.append(Sample(call_us))
    imports = [Sample(_import_ms()) for _ in range(2 * parts.repetitions)]
    baseline = "librdkafka produce, same bytes, headers and properties"
    batch_facts, facts = {"events": batch_count}, {"events": count}
    return [
        Figure("publisher", "publish_many, acknowledged", "events/s", tuple(batch), baseline, Aim(0.8), batch_facts),
        Figure("publisher", "publish, acknowledged", "events/s", tuple(single), baseline, None, facts),
        Figure("publisher", "one call of publish", "µs", tuple(calls), "", Aim(30.0, lower_is_better=True)),
        Figure("publisher", "import headrace_publisher", "ms", tuple(imports), "", Aim(120.0, lower_is_better=True)),
    ]


def _bare(connection: Connection, servers: str, count: int) -> None:
    with Publisher(servers) as publisher:
        properties, source = dict(publisher.settings.properties), publisher.settings.source
    producer = Producer(properties)
    producer.list_topics(TOPIC, timeout=10)
    record = build_record(TOPIC, PAYLOAD, source=source)
    value, headers = orjson.dumps(PAYLOAD), record.headers
    refused: list[str] = []

    def report(error: object, _: object) -> None:
        if error is not None:
            refused.append(str(error))

    began_s = time.perf_counter()
    for number in range(count):
        while True:
            try:
                producer.produce(TOPIC, value, None, -1, report, None, 0, headers)
                break
            except BufferError:
                producer.poll(0.01)
        if number % 1000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0 and not refused, refused
    connection.send(count / (time.perf_counter() - began_s))


def _many(connection: Connection, servers: str, count: int) -> None:
    with Publisher(servers) as publisher:
        publisher.deliver(TOPIC, PAYLOAD)
        began_s = time.perf_counter()
        publisher.publish_many(TOPIC, (PAYLOAD for _ in range(count)))
        assert publisher.flush(60) == 0
        connection.send(count / (time.perf_counter() - began_s))


def _one_by_one(connection: Connection, servers: str, count: int) -> None:
    with Publisher(servers) as publisher:
        publisher.deliver(TOPIC, PAYLOAD)
        began_s = time.perf_counter()
        for _ in range(count):
            publisher.publish(TOPIC, PAYLOAD)
        called_s = time.perf_counter() - began_s
        assert publisher.flush(60) == 0
        connection.send((count / (time.perf_counter() - began_s), 1e6 * called_s / count))


def _import_ms() -> float:
    said = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    return 1000 * float(said.stdout)
