"""Latency: from publishing a set's last event until its Workflow is seen, beside the same way without Headrace."""

from __future__ import annotations

import http.client
import ssl
import time
import uuid
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import NamedTuple
from urllib.parse import urlsplit

from confluent_kafka import Consumer, Producer, TopicPartition

from headrace.bench.children import Child
from headrace.bench.creation import body
from headrace.bench.figures import Aim, Figure, Sample, percentile
from headrace.bench.ground import PAIR, SINGLE, Ground
from headrace.bench.load import Load
from headrace.bench.watch import CreatedWorkflows
from headrace.edges.kube import credentials
from headrace.edges.kube.api import argo_path
from headrace.model.definition import Definition

RATE_PER_S = 50.0
WARM_S = 4.0
SILENCE_MAX_S = 30.0
_FETCH_WAIT_MS = "100"
HOPS = {SINGLE: 2, PAIR: 3}


class Arrival(NamedTuple):
    """How the events of a set come."""

    name: str
    kind: str
    apart_s: float = 0.0
    """From one event of the set to the next."""


ARRIVALS = (
    Arrival("single", SINGLE),
    # Two pipelines hardly ever end within the same microseconds, so this is what a join is like.
    Arrival("pair", PAIR, 0.01),
    # The last event's way then begins behind the other's, at each hop.
    Arrival("pair-at-once", PAIR),
)


def latency(ground: Ground, arrival: Arrival, sets: int, repetitions: int) -> list[Figure]:
    """Measure the medians and the 99th percentiles, milliseconds, of `sets` sets at 50 a second.

    The baseline is a chain of bare processes: each consumes a record and produces it to the next topic, and the last
    posts the Workflow, one at a time.
    """
    load, medians, tails, bare_tails_ms = Load(ground.settings), [], [], []
    name, kind, apart_s = arrival
    topics = [f"{ground.name}-hop-{name}-{number}" for number in range(HOPS[kind])]
    load.warm(ground.events(kind))
    with ground.watch() as watch, BareChain(ground, kind, topics):
        for ways in (topics[:1], ground.events(kind)):
            _seconds(load, watch, ways, int(WARM_S * RATE_PER_S), apart_s)
        for _ in range(repetitions):
            bare = _seconds(load, watch, topics[:1], sets, apart_s)
            joined = _seconds(load, watch, ground.events(kind), sets, apart_s)
            medians.append(Sample(1000 * percentile(joined, 0.5), 1000 * percentile(bare, 0.5)))
            # The aim holds the 99th percentile against the median of the same sets.
            tails.append(Sample(1000 * percentile(joined, 0.99), 1000 * percentile(joined, 0.5)))
            bare_tails_ms.append(1000 * percentile(bare, 0.99))
    row, what = f"latency-{name}", f"publish to Workflow, {name}, {RATE_PER_S:g}/s"
    facts = {"sets": sets, "events_apart_ms": 1000 * apart_s, "baseline_p99_ms": bare_tails_ms}
    return [
        Figure(
            row,
            f"{what}, p50",
            "ms",
            tuple(medians),
            f"{HOPS[kind]} bare Kafka hops and one bare POST, p50",
            Aim(1.5, lower_is_better=True),
            facts,
        ),
        Figure(row, f"{what}, p99", "ms", tuple(tails), "its own p50", Aim(2.0, lower_is_better=True), facts),
    ]


def _seconds(load: Load, watch: CreatedWorkflows, topics: list[str], sets: int, apart_s: float) -> list[float]:
    run = uuid.uuid4().hex[:12]
    words = [f"{run}-{number}" for number in range(sets)]
    sent_s = load.steady(topics, words, RATE_PER_S, apart_s)
    watch.wait_for_all(words, SILENCE_MAX_S)
    return [watch.creations(word)[0][1] - sent_s[word] for word in words]


class BareChain:
    """The processes of the baseline, running while the block lasts."""

    def __init__(self, ground: Ground, kind: str, topics: list[str]) -> None:
        """Prepare a chain over `topics`, which it makes; the first is where records go in."""
        ground.make_topics(topics)
        client, definition = ground.settings.client(), ground.bare_definition(kind)
        self._children = [Child(_hop, client, topic, onto) for topic, onto in pairwise(topics)]
        self._children.append(Child(_post, client, topics[-1], ground.namespace, definition))

    def __enter__(self) -> BareChain:
        for child in self._children:
            child.__enter__()
        for child in self._children:
            child.hear()
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.__exit__(None, None, None)


def _records(connection: Connection, client: dict[str, str], topic: str) -> Consumer:
    consumer = Consumer(
        {**client, "group.id": topic, "enable.auto.commit": "false", "fetch.wait.max.ms": _FETCH_WAIT_MS}
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    consumer.poll(0.5)
    connection.send("ready")
    return consumer


def _hop(connection: Connection, client: dict[str, str], topic: str, onto: str) -> None:
    producer = Producer({**client, "linger.ms": "0", "acks": "all", "enable.idempotence": "true"})
    producer.list_topics(onto, timeout=10)
    consumer = _records(connection, client, topic)
    while not connection.poll(0):
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            producer.produce(onto, message.value())
        producer.poll(0)


def _post(connection: Connection, client: dict[str, str], topic: str, namespace: str, definition: Definition) -> None:
    import asyncio
    import json

    known = asyncio.run(credentials.load())
    address = urlsplit(known.server)
    context: ssl.SSLContext = known.tls.context
    api = http.client.HTTPSConnection(address.hostname or "", address.port or 443, context=context)
    headers = {"Content-Type": "application/json", "Authorization": known.authorization or ""}
    api.request("GET", "/version", headers=headers)
    api.getresponse().read()
    consumer = _records(connection, client, topic)
    while not connection.poll(0):
        message = consumer.poll(0.2)
        if message is None or message.error() is not None:
            continue
        word = json.loads(message.value() or b"{}")["set"]
        made = body(definition, word, time.time_ns() // 1_000_000)
        api.request("POST", f"{address.path}{argo_path('workflows', namespace)}", made, headers)
        answer = api.getresponse()
        answer.read()
        if answer.status != 201:
            raise RuntimeError(f"the API server answers {answer.status} to a bare creation")
