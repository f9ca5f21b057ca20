"""Load: sets of events, published by a bare librdkafka producer that knows nothing of Headrace."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import orjson
from confluent_kafka import KafkaError, Producer

from headrace.model.errors import HeadraceError
from headrace.settings import Settings

DELIVERY_TIMEOUT_S = 60.0
PADDING = "x" * 100
"""So that a payload has the size of a small fact, some 150 bytes."""


class LoadRefused(HeadraceError):
    """Kafka did not take the load."""


def payload(word: str) -> bytes:
    """Return one event of the set `word`."""
    return orjson.dumps({"set": word, "rows": 1200, "padding": PADDING})


class Load:
    """Publishes; every record is acknowledged by all in-sync replicas before a call returns."""

    def __init__(self, settings: Settings) -> None:
        """Connect lazily."""
        properties = {"linger.ms": "0", "acks": "all", "enable.idempotence": "true"}
        self._producer = Producer({**settings.client(), **properties, "queue.buffering.max.messages": "2000000"})
        self._refused: list[KafkaError] = []

    def warm(self, topics: Iterable[str]) -> None:
        """Learn the topics' leaders, so that no first event waits for that."""
        for topic in topics:
            self._producer.list_topics(topic, timeout=10)

    def burst(self, topics: Sequence[str], words: Sequence[str]) -> None:
        """Publish an event to each topic for each set, at once."""
        for word in words:
            value = payload(word)
            for topic in topics:
                self._produce(topic, value)
        self._flush()

    def steady(
        self, topics: Sequence[str], words: Sequence[str], rate_per_s: float, apart_s: float
    ) -> dict[str, float]:
        """Publish the sets at a rate, and the events of each set apart, which all come before the next set's.

        Returns:
            when (`time.monotonic`) each set's last event was published, by the set's word.
        """
        sent_s: dict[str, float] = {}
        began_s = time.monotonic()
        for index, word in enumerate(words):
            value = payload(word)
            for number, topic in enumerate(topics):
                # A schedule: a late event does not shift those behind it.
                due_s = began_s + index / rate_per_s + number * apart_s
                time.sleep(max(0.0, due_s - time.monotonic()))
                sent_s[word] = time.monotonic()
                self._produce(topic, value)
        self._flush()
        return sent_s

    def _produce(self, topic: str, value: bytes) -> None:
        self._producer.produce(topic, value, on_delivery=self._report)
        self._producer.poll(0)

    def _report(self, error: KafkaError | None, _: object) -> None:
        if error is not None:
            self._refused.append(error)

    def _flush(self) -> None:
        left = self._producer.flush(DELIVERY_TIMEOUT_S)
        if left or self._refused:
            raise LoadRefused(f"Kafka did not take the load: {self._refused[0].str() if self._refused else left}")
