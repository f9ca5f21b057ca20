"""What was published, read back from its topic."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing

from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.support.kafka import DEADLINE_S, KafkaServer, create_topics, wait_until


def create_visible_topic(kafka: KafkaServer, topic: str) -> None:
    """Create a topic with two partitions, and return once the broker, and not only the controller, knows it."""
    client = {"bootstrap.servers": kafka.bootstrap_servers}
    create_topics(client, {topic: 2})
    admin = AdminClient({**client})
    wait_until(lambda: admin.list_topics(topic, DEADLINE_S).topics[topic].error is None, f"the topic {topic}")


def records(client: Mapping[str, str], topic: str, partitions: int = 2) -> list[Message]:
    """All records of a topic as it is now, by partition and offset."""
    properties = {**client, "group.id": "reader", "enable.auto.commit": False, "enable.partition.eof": False}
    with closing(Consumer(properties)) as consumer:
        starts = [TopicPartition(topic, partition) for partition in range(partitions)]
        ends = [consumer.get_watermark_offsets(start, DEADLINE_S)[1] for start in starts]
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        read: list[Message] = []
        while len(read) < sum(ends):
            batch = consumer.consume(sum(ends) - len(read), DEADLINE_S)
            assert batch, f"{topic} ended after {len(read)} of {sum(ends)} records"
            read += batch
    assert [record.error() for record in read if record.error()] == []
    return sorted(read, key=lambda record: (record.partition() or 0, record.offset() or 0))


def headers(record: Message) -> dict[str, str]:
    """The record's headers as text."""
    pairs = record.headers() or []
    assert isinstance(pairs, list)
    return {name: value.decode() for name, value in pairs if isinstance(value, bytes)}


def payload(record: Message) -> dict[str, object]:
    """The record's value, which is a JSON object."""
    value = json.loads(record.value() or b"")
    assert isinstance(value, dict)
    return value


def published(kafka: KafkaServer, topic: str) -> list[Message]:
    """All records of a topic with two partitions on the plain Kafka, by partition and offset."""
    return records({"bootstrap.servers": kafka.bootstrap_servers}, topic)


def published_ids(kafka: KafkaServer, topic: str) -> list[str]:
    """The ids of all events of such a topic."""
    return [headers(record)["ce_id"] for record in published(kafka, topic)]
