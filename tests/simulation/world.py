"""The world of one scenario: its chance, its time, its log, its groups, and the record of what happened."""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from headrace.model.topics import TopicNames
from headrace.settings import Settings
from tests.simulation.faults import Faults, Kind
from tests.simulation.groups import Group
from tests.simulation.log import Log
from tests.simulation.virtual_loop import VirtualLoop

if TYPE_CHECKING:
    from tests.simulation.judge import Judge

EPOCH_MS = 1_780_000_000_000
PARTITIONS = 2
NAMES = TopicNames("headrace.")
SESSIONS_S = {"route": 10.0, "join": 18.0, "submit": 10.0}
"""Session timeouts; the join's is shorter than its default, and its other limits follow from it."""
INTERNAL = {
    NAMES.triggers: 1,
    NAMES.matches: PARTITIONS,
    NAMES.joins: PARTITIONS,
    NAMES.firings: PARTITIONS,
    NAMES.runs: PARTITIONS,
    NAMES.dead_letters: 1,
    NAMES.progress: 1,
}


@dataclass
class Trace:
    """What happened, a line for each thing; printed as it happens where somebody watches."""

    loop: VirtualLoop
    verbose: bool
    lines: int = 0
    digest: int = 0

    def __call__(self, who: str, what: str) -> None:
        """Note one thing."""
        self.lines += 1
        line = f"{self.loop.now_s:9.3f}  {who:<9} {what}"
        # Two runs of one seed must agree in everything; the digest tells whether they did.
        self.digest = zlib.crc32(line.encode(), self.digest)
        if self.verbose:
            print(line)


@dataclass
class World:
    """Everything outside the processes of the roles."""

    seed: int
    loop: VirtualLoop
    settings: Settings
    verbose: bool = False
    random: Random = field(init=False)
    faults: Faults = field(init=False)
    log: Log = field(init=False)
    trace: Trace = field(init=False)
    groups: dict[str, Group] = field(init=False)
    judge: Judge = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.faults = Faults(Random(self.seed + 1))
        self.log = Log(self.now_ms)
        self.trace = Trace(self.loop, self.verbose)
        for topic, count in INTERNAL.items():
            self.log.create(topic, count)
        self.groups = {
            NAMES.group(role): Group(self, role, session_s, eager=role == "join")
            for role, session_s in SESSIONS_S.items()
        }

    def now_ms(self) -> int:
        """The true time, milliseconds since 1970."""
        return EPOCH_MS + round(self.loop.now_s * 1000)

    def skew_ms(self) -> int:
        """How far off a machine's clock is, milliseconds."""
        return round(self.between(-2000, 2000)) if self.faults.strikes(Kind.SKEWED_ROLE, 0.4) else 0

    def between(self, low: float, high: float) -> float:
        """A random number."""
        return self.random.uniform(low, high)

    async def watch_sessions(self) -> None:
        """Let the groups notice who has gone silent."""
        while True:
            await asyncio.sleep(0.5)
            for group in self.groups.values():
                group.expire()
