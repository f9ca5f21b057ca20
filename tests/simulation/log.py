"""Kafka's log in memory: topics, partitions, offsets. What is appended is durable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

TopicPartition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Entry:
    """One record."""

    topic: str
    partition: int
    offset: int
    time_ms: int
    """When the broker took it, milliseconds since 1970."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class Log:
    """Every topic's partitions. Whoever watches hears of each record in the moment in which it becomes durable."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._partitions: dict[TopicPartition, list[Entry]] = {}
        self.counts: dict[str, int] = {}
        """Topic -> its count of partitions."""
        self.on_append: Callable[[Entry], None] = lambda _: None

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic."""
        self.counts[topic] = partitions
        for partition in range(partitions):
            self._partitions[(topic, partition)] = []

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> Entry:
        """Make a record durable."""
        entries = self._partitions[(topic, partition)]
        entry = Entry(topic, partition, len(entries), self._now_ms(), key, value, headers)
        entries.append(entry)
        self.on_append(entry)
        return entry

    def of(self, topic: str, partition: int) -> list[Entry]:
        """A partition's records; an entry's place is its offset."""
        return self._partitions[(topic, partition)]

    def end(self, topic: str, partition: int) -> int:
        """The offset that the next record will have."""
        return len(self._partitions[(topic, partition)])

    def partitions(self, topic: str) -> list[TopicPartition]:
        """Every partition of a topic."""
        return [(topic, partition) for partition in range(self.counts[topic])]
