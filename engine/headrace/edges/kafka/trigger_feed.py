"""The feed of deployed triggers: `headrace.triggers`, read from its beginning and then followed."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from pydantic import ValidationError

from headrace.edges.kafka.access import Kafka, KafkaAccess
from headrace.edges.kafka.clients import all_partitions, no_broker, read_to_end, watermarks
from headrace.model.trigger import RefusedTrigger, TriggerRecord
from headrace.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TriggerChange:
    """One record of `headrace.triggers`."""

    name: str
    """namespace/name"""
    record: TriggerRecord | None
    """None where the trigger was deleted, or is none."""
    offset: int
    refused: RefusedTrigger | None = None
    """Why it is none, where a Sensor was to be one."""


class TriggerFeed:
    """Follows `headrace.triggers`. `applied` counts only what was handed out."""

    def __init__(self, kafka: Kafka) -> None:
        self._topic = kafka.names.triggers
        self._consumer = kafka.consumer(group_id=f"{kafka.names.prefix}triggers-reader")
        self._assigned = False
        self.applied = -1
        """The last offset handed out; -1 for none."""

    def read_to_end(self) -> list[TriggerChange]:
        """Return every change up to what is the topic's end now.

        Raises:
            NoBrokerError: Kafka does not answer.
        """
        _, end = watermarks(self._consumer, TopicPartition(self._topic, 0))
        if end - 1 <= self.applied:
            return []
        if not self._assigned:
            changes = _changes(read_to_end(self._consumer, all_partitions(self._consumer, self._topic)))
            self.applied = end - 1
            self._consumer.assign([TopicPartition(self._topic, 0, end)])
            self._assigned = True
            return changes
        changes = []
        while self.applied < end - 1:
            changes.extend(self.poll(0.05))
        return changes

    def poll(self, timeout_s: float = 0.0) -> list[TriggerChange]:
        """Return the changes that have come since; `read_to_end` must have been called before."""
        if not self._assigned:
            self._consumer.assign([TopicPartition(self._topic, 0, self.applied + 1)])
            self._assigned = True
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        messages = [m for m in [first, *self._consumer.consume(500, 0)] if m.error() is None]
        if messages:
            self.applied = messages[-1].offset() or 0
        return _changes(messages)

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


def _changes(messages: object) -> list[TriggerChange]:
    changes: list[TriggerChange] = []
    message: Message
    for message in messages:  # type: ignore[attr-defined]
        name = (message.key() or b"").decode("utf-8", "replace")
        value, offset = message.value(), message.offset()
        assert offset is not None
        if value is None:
            changes.append(TriggerChange(name, None, offset))
            continue
        try:
            if b'"refused":' in value and (refused := _refused(value)) is not None:
                changes.append(TriggerChange(name, None, offset, refused))
                continue
            changes.append(TriggerChange(name, TriggerRecord.model_validate_json(value), offset))
        except ValidationError as error:
            # Left as it was: a trigger that this release cannot read must not take the others down.
            log.error("the trigger %s cannot be read and is left out: %s", name, error.errors()[0]["msg"])
    return changes


def _refused(value: bytes) -> RefusedTrigger | None:
    try:
        return RefusedTrigger.model_validate_json(value)
    except ValidationError:
        # A trigger that merely speaks of something refused.
        return None


def read_triggers(settings: Settings) -> dict[str, TriggerRecord]:
    """Return every deployed trigger by its name; none where Headrace never ran on this Kafka.

    Raises:
        NoBrokerError: Kafka does not answer.
    """
    return {name: held for name, held in read_registry(settings).items() if isinstance(held, TriggerRecord)}


def read_registry(settings: Settings) -> dict[str, TriggerRecord | RefusedTrigger]:
    """Return every deployed trigger, and every Sensor that cannot be one, by its name.

    Raises:
        NoBrokerError: Kafka does not answer.
    """
    feed = TriggerFeed(KafkaAccess(settings))
    try:
        registry: dict[str, TriggerRecord | RefusedTrigger] = {}
        for change in feed.read_to_end():
            keep(registry, change)
        return registry
    except KafkaException as error:
        if error.args[0].code() in (KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART):
            return {}
        raise no_broker(settings, error) from None
    finally:
        feed.close()


def keep(registry: dict[str, TriggerRecord | RefusedTrigger], change: TriggerChange) -> None:
    """Take one change into a copy of the registry."""
    held = change.record or change.refused
    if held is None:
        registry.pop(change.name, None)
    else:
        registry[change.name] = held
