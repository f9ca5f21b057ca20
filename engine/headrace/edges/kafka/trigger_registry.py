"""The registry of triggers, `headrace.triggers`: new records with the offsets from which their events count."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import OffsetSpec

from headrace.edges.faust.fenced_producer import producer_properties
from headrace.edges.kafka.clients import admin_client, no_broker, offsets
from headrace.edges.kafka.topics import ensure_event_topics, partition_counts
from headrace.model.errors import HeadraceError
from headrace.model.trigger import TriggerRecord
from headrace.settings import Settings

Starts = dict[str, dict[str, int]]


def register(
    settings: Settings, drafts: list[TriggerRecord], existing: Mapping[str, TriggerRecord]
) -> tuple[list[TriggerRecord], int]:
    """Write `drafts`, with their topics made and their starts recorded; return the records and the last one's offset.

    Args:
        drafts: triggers whose `starts` are still empty and whose `generation` is 1.
        existing: the deployed triggers by name; a draft of the same name is their next generation, unless it is that of
            a Sensor that was made anew, which makes another trigger.

    Raises:
        HeadraceError: a topic could not be made, or Kafka did not take a record.
    """
    events = {dependency.name for draft in drafts for dependency in draft.spec.events}
    created = ensure_event_topics(settings, sorted(events))
    ends = _ends(settings, events, created)
    records = [_record(draft, existing.get(draft.name), ends) for draft in drafts]
    return records, write_triggers(settings, {record.name: record.encode() for record in records})


def _ends(settings: Settings, events: set[str], created: set[str]) -> Starts:
    admin = admin_client(settings)
    counts = partition_counts(admin, events)
    places = [(topic, p) for topic, count in counts.items() if topic not in created for p in range(count)]
    ends: Starts = {event: {} for event in events}
    try:
        for (topic, partition), offset in offsets(admin, places, OffsetSpec.latest()).items():
            ends[topic][str(partition)] = offset
    except KafkaException as error:
        raise no_broker(settings, error) from None
    return ends


def _record(draft: TriggerRecord, old: TriggerRecord | None, ends: Starts) -> TriggerRecord:
    events = list(dict.fromkeys(dependency.name for dependency in draft.spec.events))
    starts = {event: ends[event] for event in events}
    if old is None or (draft.sensor is not None and draft.creation != old.creation):
        return draft.model_copy(update={"starts": starts})
    # What the trigger waited for already, it goes on waiting for from where it began.
    starts.update({event: old.starts[event] for event in events if event in old.starts})
    resumed_ms = {event: old.resumed_ms[event] for event in events if event in old.resumed_ms}
    update = {
        "starts": starts,
        "resumed_ms": resumed_ms,
        # A submitter that was away since the last generation still has to know.
        "drop_held_ms": draft.drop_held_ms or old.drop_held_ms,
        "creation": old.creation,
        "generation": old.generation + 1,
    }
    return draft.model_copy(update=update)


def write_triggers(settings: Settings, values: Mapping[str, bytes | None]) -> int:
    """Write records (None deletes) to `headrace.triggers` and return the last one's offset.

    Raises:
        HeadraceError: Kafka did not take one.
    """
    producer = Producer(producer_properties(settings.client(), 30.0))
    written: list[int] = []
    failures: list[str] = []

    def delivered(error: object, message: object) -> None:
        if error is not None:
            failures.append(str(error))
        else:
            written.append(message.offset())  # type: ignore[attr-defined]

    for name, value in values.items():
        producer.produce(settings.topics.triggers, value, name.encode(), 0, delivered)
    left = producer.flush(35)
    if failures or left:
        raise HeadraceError(f"Kafka did not take the trigger: {failures[0] if failures else 'no answer came'}")
    return max(written)
