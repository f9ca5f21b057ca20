"""Waiting: firings that a submitter holds back, and when each may be tried."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum

from headrace.model.firing import Firing


class Why(StrEnum):
    """What a held firing waits for: the closed set."""

    RETRY = "retry"
    """A moment: the last try failed in a way that may pass."""
    PAUSED = "paused"
    """Its trigger is paused."""
    SLOT = "slot"
    """All local processes are busy."""


@dataclass(slots=True)
class Held:
    """One firing that waits. Its bytes are durable in `headrace.runs`."""

    firing: Firing
    partition: int
    """Of `headrace.firings` and `headrace.runs`."""
    why: Why
    due_s: float
    """Not before this moment, seconds of the caller's clock."""
    attempts: int
    since_ms: int
    """When it first had to wait, milliseconds since 1970."""
    decided_ms: int
    """When it came to Kafka; of a firing that another submitter held before, when it first had to wait."""
    retry_of: str = ""
    """The dead letter that a person asked to retry; empty for a firing that comes by itself."""


class Waiting:
    """The held firings of one submitter, oldest first."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, firing_id: str) -> bool:
        return firing_id in self._held

    def hold(self, held: Held) -> None:
        """Hold a firing, or hold it again for another reason."""
        self._held.pop(held.firing.id, None)
        self._held[held.firing.id] = held

    def drop_partition(self, partition: int) -> None:
        """Let go of a partition's firings: another submitter holds them now."""
        for firing_id in [f for f, held in self._held.items() if held.partition == partition]:
            del self._held[firing_id]

    def take_due(self, now_s: float, count_max: int, free_slots: int, paused: Container[str]) -> list[Held]:
        """Take out what may be tried now, in the order in which it came to wait.

        Args:
            now_s: the caller's clock.
            count_max: how many at most.
            free_slots: local processes that may start.
            paused: names of the triggers that are paused.
        """
        due: list[Held] = []
        for held in self._held.values():
            if len(due) >= count_max:
                break
            if held.firing.definition.trigger in paused:
                continue
            if held.why is Why.RETRY and held.due_s > now_s:
                continue
            if held.firing.definition.run_kind == "flow":
                if free_slots <= 0:
                    continue
                free_slots -= 1
            due.append(held)
        for held in due:
            del self._held[held.firing.id]
        return due
