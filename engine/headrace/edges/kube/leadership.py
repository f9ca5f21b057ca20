"""Leadership: of several processes one acts, and another takes over where it ends.

The owner of a one-partition topic in a consumer group leads. Nothing is read from the topic.
"""

from __future__ import annotations

import logging

from confluent_kafka import Consumer, KafkaException, TopicPartition

from headrace.edges.kafka.clients import consumer
from headrace.settings import Settings

log = logging.getLogger(__name__)


class Leadership:
    """One process's candidacy; `leads` changes inside `poll` only."""

    def __init__(self, settings: Settings, role: str) -> None:
        """Stand for the leadership of `role`."""
        self.leads = False
        self._consumer = consumer(
            settings, group_id=settings.topics.group(role), session_timeout_ms="10000", auto_offset_reset="latest"
        )
        self._consumer.subscribe(
            [settings.topics.progress], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def poll(self, timeout_s: float) -> bool:
        """Stay a candidate, for `timeout_s` seconds at the most; return whether this process leads."""
        message = self._consumer.poll(timeout_s)
        error = message.error() if message is not None else None
        if error is not None:
            if error.fatal():
                raise KafkaException(error)
            log.warning("Kafka reports: %s", error.str())
        return self.leads

    def close(self) -> None:
        """Step down."""
        self._consumer.close()

    def _on_assign(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        client.assign(partitions)
        if partitions:
            client.pause(partitions)
            self.leads = True

    def _on_revoke(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        self.leads = False
