"""What goes wrong: how likely each kind is in one scenario, and how often each has happened."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from random import Random


class Kind(StrEnum):
    """The kinds of faults. A batch of seeds in which one of them never happened has proven nothing about it."""

    DUPLICATE_AT_ONCE = "duplicate, at once"
    DUPLICATE_LATER = "duplicate, after the Workflow's end"
    LATE = "late event"
    SKEWED = "skewed event clock"
    REORDERED = "events read out of order"
    POISON = "unreadable record"
    SKEWED_ROLE = "skewed role clock"
    CRASH_ROUTE = "crash of route"
    CRASH_JOIN = "crash of join"
    CRASH_SUBMIT = "crash of submit"
    STOP = "stopped and started anew"
    ZOMBIE = "paused beyond the session"
    FENCED = "write refused by the fence"
    REBALANCE = "partitions taken over"
    ACK_LOST = "delivery reported as failed, though written"
    UNDELIVERED = "delivery failed"
    LANDED_AFTER_DEATH = "written after its sender's death"
    COMMIT_ACK_LOST = "commit reported as failed, though accepted"
    COMMIT_REFUSED = "commit refused"
    COMPACTED = "changelog read compacted"
    API_429 = "API: 429"
    API_500 = "API: 500"
    API_403 = "API: 403"
    API_SLOW = "API: slow"
    API_AWAY = "API: no answer, nothing created"
    API_TIMEOUT = "API: no answer, though created"
    TTL = "Workflow deleted"
    REDEPLOYED = "trigger deployed anew"
    DEPLOYED = "trigger deployed amid events"
    PAUSED = "trigger paused"


CRASHES = {"route": Kind.CRASH_ROUTE, "join": Kind.CRASH_JOIN, "submit": Kind.CRASH_SUBMIT}


class Faults:
    """One scenario's faults. Nothing happens any more once `healed`."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.counts: Counter[str] = Counter()
        self.healed = False
        # A scenario has some kinds often, some seldom, some not at all: all of everything would test restarts.
        self._rates = {kind: random.choice([0.0, 0.3, 1.0, 1.0, 3.0]) for kind in Kind}

    def strikes(self, kind: Kind, probability: float) -> bool:
        """Decide whether a fault of this kind happens now, and count it."""
        if self.healed or self._random.random() >= probability * self._rates[kind]:
            return False
        self.note(kind)
        return True

    def note(self, kind: Kind) -> None:
        """Count a fault that followed from others."""
        self.counts[kind] += 1
