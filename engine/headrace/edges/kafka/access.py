"""Access to one Kafka: the clients that roles work with. A simulation has its own, over a log in memory."""

from __future__ import annotations

from typing import Protocol

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from headrace.edges.faust.fenced_producer import producer_properties
from headrace.edges.kafka import clients, topics
from headrace.model.topics import TopicNames
from headrace.settings import Settings


class Kafka(Protocol):
    """Where a role gets its clients from."""

    @property
    def names(self) -> TopicNames:
        """The internal topics' names."""

    def consumer(self, **properties: str) -> Consumer:
        """Make a consumer that stores and commits nothing by itself; underscores in `properties` stand for dots."""

    def producer(self, delivery_timeout_s: float) -> Producer:
        """Make a producer that neither loses nor reorders nor doubles, and gives a record up after that time."""

    def partition_counts(self, events: set[str]) -> dict[str, int]:
        """Return the count of partitions of those of `events` that exist."""


class KafkaAccess:
    """A real one, as the settings say."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin: AdminClient | None = None

    @property
    def names(self) -> TopicNames:
        """The internal topics' names."""
        return self._settings.topics

    def consumer(self, **properties: str) -> Consumer:
        """Make a consumer, see `Kafka`."""
        return clients.consumer(self._settings, **properties)

    def producer(self, delivery_timeout_s: float) -> Producer:
        """Make a producer, see `Kafka`; it sends at once."""
        return Producer({**producer_properties(self._settings.client(), delivery_timeout_s), "linger.ms": "0"})

    def partition_counts(self, events: set[str]) -> dict[str, int]:
        """Ask how many partitions the topics have."""
        if self._admin is None:
            self._admin = clients.admin_client(self._settings)
        return topics.partition_counts(self._admin, events)
