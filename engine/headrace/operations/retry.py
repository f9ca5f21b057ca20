"""Retry: a dead letter goes back to where it came from, with its original bytes."""

from __future__ import annotations

import base64

from confluent_kafka import Producer

from headrace.edges.faust.fenced_producer import producer_properties
from headrace.edges.kafka.clients import admin_client
from headrace.edges.kafka.topics import partition_counts
from headrace.model.dead_letter import DeadLetter
from headrace.model.errors import HeadraceError, NotFoundError
from headrace.model.firing import Firing
from headrace.model.names import firing_partition_of
from headrace.operations.listing import dead_letters
from headrace.roles.firing_feed import RETRY_HEADER
from headrace.settings import Settings


def find(settings: Settings, letter_id: str) -> DeadLetter:
    """Return one dead letter by its id, or by the beginning of it.

    Raises:
        NotFoundError: there is none, or several begin so.
    """
    found = [letter for key, letter in dead_letters(settings).items() if key.startswith(letter_id)]
    if len(found) != 1:
        what = "there is no dead letter" if not found else "several dead letters begin with"
        raise NotFoundError(f"{what} {letter_id}: `headrace deadletters list` shows them")
    return found[0]


def retry(settings: Settings, letter: DeadLetter) -> str:
    """Send a dead letter's record again, then take the letter away; return where it went.

    A crash in between leaves the letter: retrying twice is harmless, since events and firings keep their ids.

    Raises:
        HeadraceError: the letter holds no bytes, or Kafka did not take them.
    """
    if letter.value is None:
        raise HeadraceError(
            f"the dead letter {letter.id} was too large to keep: its record is {letter.topic}:{letter.partition}:"
            f"{letter.offset}; publish it again from there"
        )
    value = base64.b64decode(letter.value)
    names = settings.topics
    if letter.kind == "firing":
        firing = Firing.decode(value)
        count = partition_counts(admin_client(settings), {names.firings})[names.firings]
        partition = firing_partition_of(firing.definition.trigger, count)
        _send(settings, names.firings, partition, firing.id.encode(), value, [(RETRY_HEADER, letter.id.encode())])
        where = names.firings
    else:
        headers = [(name, base64.b64decode(text)) for name, text in letter.headers]
        if not any(name == "ce_id" for name, _ in headers):
            # Without an id of its own, the event is its first place in Kafka: again the same event, not another.
            headers.append(("ce_id", f"{letter.topic}:{letter.partition}:{letter.offset}".encode()))
        key = base64.b64decode(letter.key) if letter.key is not None else None
        _send(settings, letter.topic, -1, key, value, headers)
        where = letter.topic
    _send(settings, names.dead_letters, 0, letter.id.encode(), None, [])
    return where


def _send(
    settings: Settings,
    topic: str,
    partition: int,
    key: bytes | None,
    value: bytes | None,
    headers: list[tuple[str, bytes]],
) -> None:
    producer = Producer(producer_properties(settings.client(), 30.0))
    failures: list[str] = []
    producer.produce(
        topic,
        value,
        key,
        partition,
        lambda error, _: failures.append(str(error)) if error is not None else None,
        headers=list(headers),
    )
    if producer.flush(35) or failures:
        raise HeadraceError(
            f"Kafka did not take the record for {topic}: {failures[0] if failures else 'no answer came'}"
        )
