"""Listing: what the topics hold now, for a person or a program."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from confluent_kafka import KafkaException, Message, TopicPartition
from confluent_kafka.admin import OffsetSpec

from headrace.edges.kafka.clients import (
    REQUEST_TIMEOUT_S,
    Place,
    admin_client,
    all_partitions,
    committed_offsets,
    consumer,
    no_broker,
    offsets,
    raw_record,
    read_to_end,
    watermarks,
)
from headrace.edges.kafka.trigger_feed import read_triggers
from headrace.model.dead_letter import DeadLetter
from headrace.model.errors import NotFoundError, RecordError
from headrace.model.run import Run
from headrace.model.trigger import TriggerRecord
from headrace.settings import Settings
from headrace.stages.read import Unreadable, read

STATUS_REACH_MS = 4_000


def follow(settings: Settings, topic: str, *, follow: bool, last: int | None = None) -> Iterator[Message]:
    """Yield a topic's records: those that are there and, if asked, those to come.

    Args:
        settings: where Kafka is.
        topic: the topic.
        follow: go on with new records until the caller stops.
        last: begin with at most this many of the newest records of each partition.

    Raises:
        NotFoundError: the topic does not exist.
        NoBrokerError: Kafka does not answer.
    """
    client = consumer(settings, enable_partition_eof="false")
    try:
        partitions = _existing(settings, client, topic)
        starts, ends = [], []
        for at in partitions:
            low, high = watermarks(client, at)
            starts.append(TopicPartition(topic, at.partition, low if last is None else max(low, high - last)))
            ends.append(TopicPartition(topic, at.partition, high))
        yield from read_to_end(client, starts)
        if follow:
            client.assign(ends)
            while True:
                message = client.poll(0.5)
                if message is not None and message.error() is None:
                    yield message
    except KafkaException as error:
        raise no_broker(settings, error) from None
    finally:
        client.close()


def _existing(settings: Settings, client: Any, topic: str) -> list[TopicPartition]:
    try:
        partitions = all_partitions(client, topic)
    except KafkaException as error:
        raise no_broker(settings, error) from None
    if not partitions and topic in (internal.name for internal in settings.internal_topics()):
        raise NotFoundError(
            f"there is no topic {topic}, so Headrace never ran on this Kafka: start it with `headrace up`, or its "
            "roles with `headrace run ROLE`"
        )
    if not partitions:
        raise NotFoundError(f"there is no topic {topic}: it is made when a trigger that waits for it is deployed")
    return partitions


def event_rows(messages: Iterator[Message]) -> Iterator[dict[str, Any]]:
    """Read event records as the router would; an unreadable one says why."""
    for message in messages:
        record = raw_record(message)
        outcome = read(record, time.time_ns() // 1_000_000)
        position = {"partition": record.position.partition, "offset": record.position.offset}
        if isinstance(outcome, Unreadable):
            yield {"name": record.position.topic, **position, "unreadable": outcome.reason, "message": outcome.message}
        else:
            event = outcome.event
            yield {
                "id": event.id,
                "name": event.name,
                "time_ms": event.time_ms,
                **position,
                "payload": orjson.Fragment(event.payload),
            }


def runs(messages: Iterator[Message]) -> Iterator[Run]:
    """Read run records, each state as it came."""
    for message in messages:
        value = message.value()
        if value is not None:
            try:
                yield Run.decode(value)
            except RecordError:
                continue


def newest_runs(settings: Settings, trigger: str | None = None) -> list[Run]:
    """Return each run's newest state, oldest firing first."""
    newest: dict[str, Run] = {}
    for run in runs(follow(settings, settings.topics.runs, follow=False)):
        before = newest.get(run.firing)
        if (trigger is None or run.trigger == trigger) and not run.is_outdated(before.state if before else None):
            newest[run.firing] = run
    return sorted(newest.values(), key=lambda run: (run.fired_ms, run.firing))


def dead_letters(settings: Settings) -> dict[str, DeadLetter]:
    """Return the dead letters that have not been retried or removed, oldest first."""
    letters: dict[str, DeadLetter] = {}
    for message in follow(settings, settings.topics.dead_letters, follow=False):
        key, value = (message.key() or b"").decode(), message.value()
        if value is None:
            letters.pop(key, None)
        else:
            letters[key] = DeadLetter.decode(value)
    return letters


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one role is behind in one topic."""

    role: str
    topic: str
    records: int


def lags(settings: Settings) -> list[Lag]:
    """Return what each role has yet to read, summed over partitions.

    Raises:
        NoBrokerError: Kafka does not answer.
    """
    names = settings.topics
    starts = _starts(read_triggers(settings).values())
    wanted = [("route", event) for event in sorted(starts)] + [("join", names.matches), ("submit", names.firings)]
    admin = admin_client(settings)
    try:
        metadata = admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        places = {topic: [(topic, p) for p in metadata[topic].partitions] for _, topic in wanted if topic in metadata}
        # The ends last, so that what is read meanwhile counts as lag, and never the other way round.
        done: dict[Place, int] = {}
        for role in dict.fromkeys(role for role, _ in wanted):
            own = [place for its, topic in wanted if its == role for place in places.get(topic, ())]
            done |= committed_offsets(settings, names.group(role), own) if own else {}
        asked = [place for its in places.values() for place in its]
        ends, lows = offsets(admin, asked, OffsetSpec.latest()), offsets(admin, asked, OffsetSpec.earliest())
    except KafkaException as error:
        raise no_broker(settings, error) from None

    def unread(at: Place) -> int:
        topic, partition = at
        return max(0, ends[at] - max(done.get(at, -1), lows[at], starts.get(topic, {}).get(partition, 0)))

    return [Lag(role, topic, sum(map(unread, places[topic]))) for role, topic in wanted if topic in places]


def _starts(triggers: Iterable[TriggerRecord]) -> dict[str, dict[int, int]]:
    """Return the first offset that any trigger wants, by event and partition; what lies before is nobody's lag."""
    starts: dict[str, dict[int, int]] = {}
    for trigger in triggers:
        for event in {dependency.name for dependency in trigger.spec.events}:
            own = {int(partition): offset for partition, offset in trigger.starts.get(event, {}).items()}
            known = starts.setdefault(event, own)
            # A partition that one of them does not name counts from 0 for it.
            starts[event] = {partition: min(known[partition], own[partition]) for partition in known.keys() & own}
    return starts


def role_statuses(settings: Settings) -> list[dict[str, Any]]:
    """Return what each running role last said of itself.

    Raises:
        NotFoundError: Headrace never ran on this Kafka.
        NoBrokerError: Kafka does not answer.
    """
    client = consumer(settings)
    newest: dict[str, dict[str, Any]] = {}
    try:
        at = _existing(settings, client, settings.topics.progress)[0]
        since_ms = time.time_ns() // 1_000_000 - STATUS_REACH_MS
        asked = TopicPartition(at.topic, 0, since_ms)
        start = client.offsets_for_times([asked], timeout=REQUEST_TIMEOUT_S)[0]
        if start.offset >= 0:
            for message in read_to_end(client, [start]):
                record = orjson.loads(message.value() or b"{}")
                if record.get("kind") == "role":
                    newest[record["instance"]] = record
    except KafkaException as error:
        raise no_broker(settings, error) from None
    finally:
        client.close()
    running = [record for record in newest.values() if record["why"] != "stopped"]
    return sorted(running, key=lambda record: (record["role"], record["host"], record["pid"]))
