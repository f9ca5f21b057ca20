"""The plan of a run: which faults come in which order, drawn from the run's seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from tests.support.engine import ROLES


class Kind(StrEnum):
    """What can befall a run."""

    KILLED = "killed"
    TERMINATED = "terminated"
    FROZEN = "frozen beyond its session, then resumed"
    KILLED_IN_RECOVERY = "killed, and again while it recovers"
    SCALED = "scaled 1, 3, 2"
    ROLLED = "every role restarted one by one"
    WIPED = "killed and its state directory wiped"
    BROKER_RESTARTED = "broker restarted"
    BROKER_KILLED = "broker killed"
    API_STOPPED = "API server stopped"
    API_CUT = "API server cut off"
    API_SLOW = "API server slow"
    API_BUSY = "API server answers 429"
    API_BROKEN = "API server answers 500"
    API_FORBIDS = "API server answers 403"
    API_LOSES = "API server creates, its answer is lost"
    POISONED = "burst of poison"
    DUPLICATED = "burst of duplicates"
    DELETED = "workflows deleted, firings replayed"
    OUTAGE = "outage of two hours"


OF_ONE_ROLE = (Kind.KILLED, Kind.TERMINATED, Kind.FROZEN, Kind.SCALED)
OF_JOIN = (Kind.WIPED, Kind.KILLED_IN_RECOVERY)
OUTAGE_SHARE = 0.05
"""Of all sets: those whose events come while nothing runs."""


@dataclass(frozen=True)
class Planned:
    """One fault of a plan."""

    kind: Kind
    role: str | None
    share: float
    """After which share of the load it is injected."""

    def __str__(self) -> str:
        return f"{self.role} {self.kind}" if self.role else str(self.kind)


def plan(seed: int, count: int) -> list[Planned]:
    """Draw `count` faults. As many as there are kinds hold each kind once; an outage comes at most once.

    Over as many seeds in a row as there are roles, each kind that befalls one role befalls each of them.
    """
    chance = random.Random(f"plan {seed}")
    kinds: list[tuple[Kind, str | None]] = []
    deck_number = 0
    while len(kinds) < count:
        deck = [(kind, _role(kind, seed + deck_number)) for kind in Kind if kind is not Kind.OUTAGE or not deck_number]
        chance.shuffle(deck)
        kinds += deck
        deck_number += 1
    return [Planned(kind, role, (index + 1) / (count + 1)) for index, (kind, role) in enumerate(kinds[:count])]


def _role(kind: Kind, turn: int) -> str | None:
    if kind in OF_JOIN:
        return "join"
    return ROLES[(turn + OF_ONE_ROLE.index(kind)) % len(ROLES)] if kind in OF_ONE_ROLE else None


def outage_of(planned: list[Planned]) -> tuple[float, float] | None:
    """Return where the outage lies, as shares of the sets; None where the plan has none."""
    begin = next((fault.share for fault in planned if fault.kind is Kind.OUTAGE), None)
    return None if begin is None else (begin, begin + min(OUTAGE_SHARE, (1 - begin) / 2))
