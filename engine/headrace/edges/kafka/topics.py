"""Topics: the internal ones are created and checked, event topics are created where a trigger names them."""

from __future__ import annotations

import time

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from headrace.edges.kafka.clients import REQUEST_TIMEOUT_S, admin_client, no_broker
from headrace.model.errors import TopicError
from headrace.model.names import collides
from headrace.model.topics import InternalTopic
from headrace.settings import Settings


def ensure_internal_topics(settings: Settings) -> dict[str, int]:
    """Create what is missing, check what is there, and return each internal topic's count of partitions.

    Raises:
        NoBrokerError: Kafka does not answer.
        TopicError: a topic could not be made, or an existing one is set so that it would lose data.
    """
    client = admin_client(settings)
    wanted = settings.internal_topics()
    try:
        existing = client.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        missing = [topic for topic in wanted if topic.name not in existing]
        _create(client, [NewTopic(t.name, t.partitions, t.replication, config=t.config) for t in missing])
        _await_topics(client, [topic.name for topic in wanted])
        _check(client, settings, wanted)
        metadata = client.list_topics(timeout=REQUEST_TIMEOUT_S).topics
    except KafkaException as error:
        raise no_broker(settings, error) from None
    counts = {topic.name: len(metadata[topic.name].partitions) for topic in wanted}
    names = settings.topics
    for one, other in ((names.matches, names.joins), (names.firings, names.runs)):
        if counts[one] != counts[other]:
            raise TopicError(
                f"{one} has {counts[one]} partitions and {other} has {counts[other]}; they must have the same count: "
                "delete the emptier one, and start again"
            )
    return counts


def ensure_event_topics(settings: Settings, events: list[str]) -> set[str]:
    """Create the event topics that do not exist, with the broker's own defaults; return the names of the new ones.

    Raises:
        NoBrokerError: Kafka does not answer.
        TopicError: a topic could not be made, or its name collides with another's.
    """
    client = admin_client(settings)
    try:
        existing = set(client.list_topics(timeout=REQUEST_TIMEOUT_S).topics)
        missing = [event for event in dict.fromkeys(events) if event not in existing]
        for event in missing:
            other = collides(event, existing | set(missing))
            if other is not None:
                raise TopicError(f"the events {event} and {other} cannot both be topics: Kafka folds '.' into '_'")
        _create(client, [NewTopic(event, -1, -1) for event in missing])
        _await_topics(client, missing)
    except KafkaException as error:
        raise no_broker(settings, error) from None
    return set(missing)


def partition_counts(client: AdminClient, topics: set[str]) -> dict[str, int]:
    """Return the count of partitions of those of `topics` that exist."""
    metadata = client.list_topics(timeout=REQUEST_TIMEOUT_S).topics
    return {t: len(metadata[t].partitions) for t in topics if t in metadata and metadata[t].error is None}


def _create(client: AdminClient, topics: list[NewTopic]) -> None:
    if not topics:
        return
    for name, future in client.create_topics(topics, request_timeout=REQUEST_TIMEOUT_S).items():
        try:
            future.result()
        except KafkaException as error:
            cause = error.args[0]
            # Several roles start at once, and each makes what is missing.
            if cause.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise TopicError(f"the topic {name} could not be created: {cause.str()}") from None


def _await_topics(client: AdminClient, names: list[str]) -> None:
    deadline_s = time.monotonic() + 30
    missing = set(names)
    while missing:
        metadata = client.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        missing = {
            name
            for name in missing
            if name not in metadata
            or metadata[name].error is not None
            or not metadata[name].partitions
            or any(partition.leader < 0 for partition in metadata[name].partitions.values())
        }
        if missing and time.monotonic() > deadline_s:
            raise TopicError(f"the topics {', '.join(sorted(missing))} were created but have no leader after 30 s")


def _check(client: AdminClient, settings: Settings, wanted: list[InternalTopic]) -> None:
    resources = [ConfigResource(ResourceType.TOPIC, topic.name) for topic in wanted]
    described = {
        resource.name: {name: entry.value for name, entry in future.result().items()}
        for resource, future in client.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S).items()
    }
    metadata = client.list_topics(timeout=REQUEST_TIMEOUT_S).topics
    for topic in wanted:
        replicas = min(len(p.replicas) for p in metadata[topic.name].partitions.values())
        _check_one(topic, described[topic.name], replicas)


def _check_one(topic: InternalTopic, config: dict[str, str], replicas: int) -> None:
    def refuse(what: str) -> None:
        raise TopicError(f"the topic {topic.name} {what}: change it with kafka-configs, or set Headrace to match")

    if replicas < topic.replication:
        refuse(f"has {replicas} replicas; HEADRACE_REPLICATION asks for {topic.replication}")
    policy = topic.config["cleanup.policy"]
    if set(config["cleanup.policy"].split(",")) != set(policy.split(",")):
        refuse(f"has cleanup.policy={config['cleanup.policy']}; it must be {policy}")
    if int(config["min.insync.replicas"]) < int(topic.config["min.insync.replicas"]):
        refuse(
            f"has min.insync.replicas={config['min.insync.replicas']}; it needs {topic.config['min.insync.replicas']}"
        )
    if int(config["max.message.bytes"]) < int(topic.config["max.message.bytes"]):
        refuse(f"has max.message.bytes={config['max.message.bytes']}; it needs {topic.config['max.message.bytes']}")
    retention_ms = int(config["retention.ms"])
    if topic.retention_ms is not None and 0 <= retention_ms < topic.retention_ms:
        refuse(f"has retention.ms={retention_ms}; it needs {topic.retention_ms}")
