"""The role route over a backlog, and the bare loop that does the same without a guarantee; each in its process."""

from __future__ import annotations

import threading
import time
from multiprocessing.connection import Connection

import cel
import orjson
import prometheus_client
from confluent_kafka import Consumer, TopicPartition

from headrace.bench.children import result_of
from headrace.edges import metrics
from headrace.edges.clock import SystemClock
from headrace.edges.kafka.access import KafkaAccess
from headrace.edges.kafka.topics import ensure_internal_topics
from headrace.roles.health import Health
from headrace.roles.route import Router
from headrace.roles.start import steady_heap
from headrace.settings import Settings

_LOOK_S = 0.02


def route_rate(settings: Settings, count: int) -> float:
    """Return the events a second at which a router works `count` of them off, counted from the first ones on."""
    rate: float = result_of(_route, settings, count)
    return rate


def bare_rate(settings: Settings, topic: str, partitions: int, count: int, program: str) -> float:
    """Return the records a second of consume, `orjson.loads` and one CEL program in a bare loop."""
    rate: float = result_of(_consume, settings, topic, partitions, count, program)
    return rate


def _route(connection: Connection, settings: Settings, count: int) -> None:
    partitions = ensure_internal_topics(settings)
    router = Router(settings, KafkaAccess(settings), SystemClock(), partitions, Health(settings, "route"))
    steady_heap()
    stop = threading.Event()
    marks: list[tuple[float, float]] = []

    def look() -> None:
        while not stop.wait(_LOOK_S):
            routed = total(metrics.EVENTS)
            if routed and (not marks or routed > marks[-1][1]):
                marks.append((time.monotonic(), routed))
            if routed >= count:
                stop.set()

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    router.run(stop)
    looking.join()
    (began_s, first), (ended_s, last) = marks[0], marks[-1]
    connection.send((last - first) / (ended_s - began_s))


def total(counter: prometheus_client.Counter) -> float:
    """Return the sum over a counter's labels."""
    samples = (sample for metric in counter.collect() for sample in metric.samples)
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))


def _consume(connection: Connection, settings: Settings, topic: str, partitions: int, count: int, program: str) -> None:
    execute = cel.compile(program).execute
    consumer = Consumer({**settings.client(), "group.id": "bare", "enable.auto.commit": "false"})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    seen = first = passed = 0
    began_s = 0.0
    while seen < count:
        batch = consumer.consume(500, 0.05)
        for message in batch:
            if execute({"event": orjson.loads(message.value() or b"")}):
                passed += 1
        seen += len(batch)
        if batch and not began_s:
            began_s, first = time.monotonic(), seen
    rate = (seen - first) / (time.monotonic() - began_s)
    consumer.close()
    connection.send(rate)
