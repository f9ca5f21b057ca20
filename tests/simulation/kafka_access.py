"""One process's access to the log in memory, as production's `Kafka`."""

from __future__ import annotations

from typing import cast

from confluent_kafka import Consumer, Producer

from headrace.model.topics import TopicNames
from tests.simulation.kafka_consumer import SimConsumer
from tests.simulation.kafka_producer import SimProducer
from tests.simulation.process import Process
from tests.simulation.world import NAMES


class SimKafka:
    """Makes the process's clients."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def names(self) -> TopicNames:
        """The internal topics' names."""
        return NAMES

    def consumer(self, **properties: str) -> Consumer:
        """Make a consumer; it belongs to a group only where the group is one of the roles'."""
        group = self._process.world.groups.get(properties["group_id"])
        return cast(Consumer, SimConsumer(self._process, group, properties))

    def producer(self, delivery_timeout_s: float) -> Producer:
        """Make a producer."""
        return cast(Producer, SimProducer(self._process, delivery_timeout_s))

    def partition_counts(self, events: set[str]) -> dict[str, int]:
        """Tell how many partitions the topics have."""
        counts = self._process.world.log.counts
        return {event: counts[event] for event in events if event in counts}
