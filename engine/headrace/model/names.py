"""Names of events and triggers, and the hash that spreads keys over partitions."""

from __future__ import annotations

import re
import zlib

from headrace.model import bounds
from headrace.model.errors import EventNameError, TriggerError

_EVENT_NAME = re.compile(r"[A-Za-z0-9._-]+")
_TRIGGER_PART = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def check_event_name(name: str) -> str:
    """Return `name` if Kafka can have a topic of that name.

    Raises:
        EventNameError: it cannot, and the message says why.
    """
    if not name or name in {".", ".."} or not _EVENT_NAME.fullmatch(name):
        raise EventNameError(
            f"{name!r} cannot be an event's name: use letters, digits, '.', '_' and '-' (it names a Kafka topic)"
        )
    if len(name) > bounds.EVENT_NAME_CHARACTERS_MAX:
        raise EventNameError(
            f"the event name {name[:40]}… has {len(name)} characters; Kafka allows {bounds.EVENT_NAME_CHARACTERS_MAX}"
        )
    return name


def collides(name: str, others: set[str]) -> str | None:
    """Return the name among `others` that Kafka cannot hold beside `name`, if any.

    Kafka's metric names fold '.' into '_', so it refuses `a.b` where `a_b` exists.
    """
    folded = name.replace(".", "_")
    return next((other for other in sorted(others) if other != name and other.replace(".", "_") == folded), None)


def trigger_name(text: str, default_namespace: str) -> str:
    """Return the full name, `namespace/name`, of a trigger that a person named.

    Raises:
        TriggerError: a part is no Kubernetes name (lower-case letters, digits, '-' and '.').
    """
    namespace, slash, name = text.rpartition("/")
    if not slash:
        namespace = default_namespace
    for part in (namespace, name):
        if not _TRIGGER_PART.fullmatch(part):
            raise TriggerError(
                f"{text!r} cannot name a trigger: {part!r} needs lower-case "
                "letters, digits, '-' or '.', as in ml/model-refresh"
            )
    return f"{namespace}/{name}"


def partition_of(trigger: str, key: str, partitions: int) -> int:
    """Return the partition of `headrace.matches` that holds (`trigger`, `key`): CRC-32 modulo the count."""
    return zlib.crc32(f"{trigger}\x00{key}".encode()) % partitions


def firing_partition_of(trigger: str, partitions: int) -> int:
    """Return the partition of `headrace.firings` and `headrace.runs` that holds a trigger's firings."""
    return zlib.crc32(trigger.encode()) % partitions
