"""Turns: a router's bookkeeping of what it has read and what of that is durable.

A turn is what the router read between two flushes. It ends once every record that it caused is delivered, and only then
do its offsets count as done; turns end in the order in which they began.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

TopicPartition = tuple[str, int]


@dataclass(slots=True)
class Turn:
    """What one turn read, and how much of what it caused is still under way."""

    next_offsets: dict[TopicPartition, int] = field(default_factory=dict)
    routed_ms: dict[TopicPartition, int] = field(default_factory=dict)
    """Log time of the last event of each partition, milliseconds since 1970."""
    outstanding: int = 0
    closed: bool = False
    """Whether nothing more will be added."""

    def saw(self, partition: TopicPartition, offset: int, time_ms: int) -> None:
        """Note one record as read."""
        self.next_offsets[partition] = offset + 1
        self.routed_ms[partition] = time_ms


class Turns:
    """The open turn, and those that wait for their deliveries."""

    def __init__(self) -> None:
        self.open = Turn()
        self._closed: deque[Turn] = deque()

    @property
    def outstanding(self) -> int:
        """Records under way, over all turns."""
        return self.open.outstanding + sum(turn.outstanding for turn in self._closed)

    @property
    def count(self) -> int:
        """Turns that have not ended."""
        return len(self._closed) + bool(self.open.next_offsets)

    def close(self) -> None:
        """End the reading of the open turn and begin another."""
        if self.open.next_offsets or self.open.outstanding:
            self.open.closed = True
            self._closed.append(self.open)
            self.open = Turn()

    def forget(self, partition: TopicPartition) -> None:
        """Let no turn speak for a partition that is given back or lost: who has it next goes on by its own turns."""
        for turn in (*self._closed, self.open):
            turn.next_offsets.pop(partition, None)
            turn.routed_ms.pop(partition, None)

    def done(self) -> list[Turn]:
        """Take out the turns that have ended, oldest first."""
        ended: list[Turn] = []
        while self._closed and self._closed[0].outstanding == 0:
            ended.append(self._closed.popleft())
        return ended
