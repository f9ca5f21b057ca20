"""The feed of firings: a consumer group's share of `headrace.firings`, with a ledger for each partition."""

from __future__ import annotations

import logging
from typing import Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from headrace.edges.clock import Clock
from headrace.edges.crossing import Crossing
from headrace.edges.kafka.access import Kafka
from headrace.edges.kafka.clients import REQUEST_TIMEOUT_S, header_pairs, watermarks
from headrace.roles.handover import Handover
from headrace.roles.ledger import Ledger, read_ledger

log = logging.getLogger(__name__)


RETRY_HEADER = "headrace-retry"
"""Of a firing that a person sends once more; its value is the dead letter's id."""


def retry_of_record(message: Message) -> str:
    """Return the id of the dead letter whose retry this firing is; empty if it is none."""
    values = [value for name, value in header_pairs(message) if name == RETRY_HEADER]
    return values[-1].decode() if values and isinstance(values[-1], bytes) else ""


class Owner(Protocol):
    """Who works on the firings; both are called in its event loop and awaited."""

    async def assigned(self, ledgers: dict[int, Ledger]) -> None:
        """Partitions are ours from now on."""

    async def revoked(self, partitions: set[int]) -> None:
        """Partitions are about to be another's: finish what is under way."""


class FiringFeed:
    """Polls in a thread, so that librdkafka's waits never hold the event loop.

    Only that thread may touch the consumer: during a rebalance it waits for the owner's event loop, and a call from
    the loop would wait for the rebalance.
    """

    def __init__(self, kafka: Kafka, owner: Owner, crossing: Crossing, clock: Clock) -> None:
        """Prepare; nothing is read before `start`."""
        self._kafka = kafka
        self._topic = kafka.names.firings
        self._crossing = crossing
        self._clock = clock
        self._owner = owner
        self._handovers: dict[int, Handover] = {}
        self._released: dict[int, int] = {}
        """Partition -> next offset, which the polling thread is to store."""
        self._holding_back = False
        self._leaving = False
        self._consumer = kafka.consumer(
            group_id=kafka.names.group("submit"),
            partition_assignment_strategy="cooperative-sticky",
            enable_auto_commit="true",
            auto_commit_interval_ms="500",
            session_timeout_ms="10000",
            fetch_wait_max_ms="100",
            fetch_queue_backoff_ms="20",
        )

    def start(self) -> None:
        """Join the group."""
        self._consumer.subscribe(
            [self._topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    async def poll(self, count_max: int, timeout_s: float) -> list[Message]:
        """Return up to `count_max` firings, after `timeout_s` seconds at the latest; with 0, stay a member."""
        return await self._crossing.away(lambda: self._poll(count_max, timeout_s))

    def done(self, partition: int, offset: int) -> None:
        """Release a firing's offset: its outcome is durable."""
        handover = self._handovers.get(partition)
        offset_next = None if handover is None else handover.done(offset)
        if offset_next is not None:
            self._released[partition] = offset_next

    async def close(self) -> None:
        """Commit and leave the group."""
        await self._crossing.away(self._close)

    def _close(self) -> None:
        self._store_released()
        self._leaving = True
        self._consumer.close()

    def _store_released(self) -> None:
        while self._released:
            partition, offset = self._released.popitem()
            try:
                self._consumer.store_offsets(offsets=[TopicPartition(self._topic, partition, offset)])
            except KafkaException as error:
                # Revoked in between: the next owner reads these firings again, and the ledger knows them.
                log.info("offset %d of partition %d is not stored: %s", offset, partition, error)

    def _poll(self, count_max: int, timeout_s: float) -> list[Message]:
        self._store_released()
        self._hold_back(count_max <= 0)
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        messages = []
        for message in [first, *self._consumer.consume(max(0, count_max - 1), 0)]:
            if message.error() is not None:
                self._report(message.error())
                continue
            partition, offset = message.partition(), message.offset()
            assert partition is not None and offset is not None
            if partition in self._handovers:
                self._handovers[partition].begin(offset)
                messages.append(message)
        return messages

    def _hold_back(self, hold: bool) -> None:
        if hold != self._holding_back:
            change = self._consumer.pause if hold else self._consumer.resume
            change(self._consumer.assignment())
            self._holding_back = hold

    def _report(self, error: KafkaError | None) -> None:
        if error is None:
            return
        if error.fatal() or error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise KafkaException(error)
        log.warning("Kafka reports for the firings: %s", error.str())

    def _on_assign(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        if self._leaving:
            # A rebalance that was under way at the stop: whoever stays takes these partitions.
            return
        committed = client.committed(partitions, timeout=REQUEST_TIMEOUT_S) if partitions else []
        ledgers = {}
        for at in committed:
            low, _ = watermarks(client, at)
            at.offset = at.offset if at.offset >= 0 else low
            ledgers[at.partition] = read_ledger(self._kafka, at.partition, at.offset, self._clock.now_ms())
            self._handovers[at.partition] = Handover()
        self._crossing.back(self._owner.assigned(ledgers))
        client.incremental_assign(committed)
        # Both ways: a partition that was given up while it was paused comes back paused.
        (client.pause if self._holding_back else client.resume)(committed)

    def _on_revoke(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        revoked = {at.partition for at in partitions}
        self._crossing.back(self._owner.revoked(revoked))
        self._store_released()
        try:
            client.commit(asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._NO_OFFSET:
                log.warning("offsets were not committed on revocation, so some firings are read twice: %s", error)
        self._forget(client, partitions)

    def _on_lost(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        log.warning("this submitter lost its place in the group; its firings are read again by others")
        self._crossing.back(self._owner.revoked({at.partition for at in partitions}))
        self._forget(client, partitions)

    def _forget(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        for at in partitions:
            self._handovers.pop(at.partition, None)
            # Of a lost partition these must not be stored once it is ours again: others have gone on since.
            self._released.pop(at.partition, None)
        client.incremental_unassign(partitions)
