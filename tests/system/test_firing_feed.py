"""The feed of firings against a real Kafka."""

from __future__ import annotations

from confluent_kafka import Producer

from headrace.edges.clock import SystemClock
from headrace.edges.crossing import ThreadCrossing
from headrace.edges.kafka.access import KafkaAccess
from headrace.edges.kafka.topics import ensure_internal_topics
from headrace.roles.firing_feed import FiringFeed
from headrace.roles.ledger import Ledger
from headrace.settings import load
from tests.support.kafka import KafkaServer


class Owner:
    """Has no work of its own."""

    def __init__(self) -> None:
        self.owned: set[int] = set()

    async def assigned(self, ledgers: dict[int, Ledger]) -> None:
        self.owned |= set(ledgers)

    async def revoked(self, partitions: set[int]) -> None:
        self.owned -= partitions


async def test_partitions_that_were_given_up_amid_a_pause_are_read_once_they_are_back(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    settings = load(
        {
            "HEADRACE_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "HEADRACE_REPLICATION": "1",
            "HEADRACE_TOPIC_PREFIX": topic_prefix,
        }
    )
    partitions = range(ensure_internal_topics(settings)[settings.topics.firings])
    access, crossing, clock = KafkaAccess(settings), ThreadCrossing(), SystemClock()
    owner, other = Owner(), Owner()
    feed, guest = (FiringFeed(access, each, crossing, clock) for each in (owner, other))
    feed.start()
    while len(owner.owned) < len(partitions):
        await feed.poll(1, 0.05)
    # Without room it pauses, and so it is when the guest takes some of them away.
    guest.start()
    while len(owner.owned) + len(other.owned) < len(partitions) or not other.owned:
        await feed.poll(0, 0.05)
        await guest.poll(1, 0.05)
    await feed.poll(1, 0.05)
    await guest.close()
    while len(owner.owned) < len(partitions):
        await feed.poll(1, 0.05)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for partition in partitions:
        producer.produce(settings.topics.firings, b"a firing", partition=partition)
    assert producer.flush(30) == 0
    read: set[int | None] = set()
    while read < set(partitions):
        read |= {message.partition() for message in await feed.poll(10, 0.05)}
    await feed.close()
