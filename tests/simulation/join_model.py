"""A join process: production's decisions, order of effects, state, fence and first frame, in a model of its Faust edge.

Modelled here, since Faust cannot be driven without Kafka: reading frames in order, recovery from the changelog, the
commit that waits for what was written before it, and the drain before partitions are given back. The real edge is
tested on a real Kafka, by `tests/system/test_faust_edge.py` and the chaos tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from headrace.edges.faust.app import Frame
from headrace.edges.faust.fence import Fence, FenceExpired
from headrace.edges.faust.first_frame import first_frame
from headrace.edges.faust.sequels import Delivered, Outgoing, Sequels
from headrace.edges.faust.timing import Timing
from headrace.model.errors import HeadraceError
from headrace.roles.join import Decisions
from headrace.stages.changelog import Change
from headrace.stages.join import JoinState
from tests.simulation.faults import Kind
from tests.simulation.groups import Member
from tests.simulation.kafka_producer import LoopProducer
from tests.simulation.log import Entry, TopicPartition
from tests.simulation.process import Process
from tests.simulation.world import NAMES, SESSIONS_S

_COMMIT_INTERVAL_S = 1.0
# Few, so that it happens that they are too many.
_SEQUELS_MAX = 4
_SEQUELS_BYTES_MAX = 10_000


class JoinModel:
    """One life of a join."""

    def __init__(self, process: Process) -> None:
        timing = Timing.of({"session.timeout.ms": str(round(SESSIONS_S["join"] * 1000))})
        self._process, self._world = process, process.world
        self._group = process.world.groups[NAMES.group("join")]
        self._timing = timing
        self._fence = Fence(timing.fence_s, process.elapsed_s)
        self._producer = LoopProducer(process, timing.delivery_s, self._fence)
        self._sequels = Sequels(self._fenced, process.fail, waiting_max=_SEQUELS_MAX, bytes_max=_SEQUELS_BYTES_MAX)
        self._decisions = Decisions(NAMES, process.world.log.counts[NAMES.firings], self)
        self._states: dict[int, JoinState] = {}
        self._next: dict[int, int] = {}
        self._begun: dict[int, int] = {}
        self._done: dict[int, int] = {}
        self._committing = asyncio.Lock()
        self._member: Member = self._group.join(process.name, {NAMES.matches})

    # What `Decisions` writes through, as production's `JoinApp`.

    def send_all(self, records: Iterable[Outgoing]) -> Delivered:
        """Send firings and dead letters."""
        return self._fenced(list(records))

    def write(self, partition: int, changes: Iterable[Change], after: Delivered | None = None) -> None:
        """Write to the changelog, once `after` is delivered."""
        self._sequels.add(after, [Outgoing(NAMES.joins, partition, key, value) for key, value in changes])

    def _fenced(self, records: Sequence[Outgoing]) -> Delivered:
        try:
            return self._producer.send_all(records)
        except FenceExpired:
            self._world.faults.note(Kind.FENCED)
            raise

    async def run(self) -> None:
        """Join until the process dies or is to stop."""
        process = self._process
        committing = self._world.loop.create_task(self._commit_regularly())
        try:
            while not process.stopping:
                await process.turn()
                await self._take_part()
                await self._apply_some()
            await self._drain()
            self._group.leave(self._member)
        finally:
            committing.cancel()

    async def _take_part(self) -> None:
        group = self._group
        if self._member.expelled:
            # The coordinator's answer to the next heartbeat; the drain finds out whether writing is still allowed.
            await self._give_back(set(self._member.owned))
            self._member = group.join(self._process.name, {NAMES.matches})
        group.seen(self._member)
        if group.owes(self._member):
            await self._give_back(set(self._member.owned))
        if new := group.to_take(self._member):
            group.take(self._member, new)
            await self._recover({partition for _, partition in new})

    async def _give_back(self, partitions: set[TopicPartition]) -> None:
        if self._fence.is_open:
            await self._drain()
        self._states, self._next, self._begun, self._done = {}, {}, {}, {}
        self._group.give_back(self._member, partitions)
        self._world.trace(self._process.name, f"gives back {sorted(partition for _, partition in partitions)}")

    async def _drain(self) -> None:
        """Deliver and commit what is done, within bounds; else end."""
        try:
            if self._fence.has_expired:
                self._world.faults.note(Kind.FENCED)
                self._fence.check()
            async with asyncio.timeout(self._timing.drain_s):
                await self._commit()
        except TimeoutError:
            raise HeadraceError("not drained in time") from None
        finally:
            self._fence.close()

    async def _recover(self, partitions: set[int]) -> None:
        process, log = self._process, self._world.log
        member = self._member
        self._world.trace(process.name, f"recovers {sorted(partitions)}")
        starts = {}
        for partition in sorted(partitions):
            state = JoinState(partition)
            for key, value in self._changelog(partition):
                state.restore(key, value)
            self._states[partition] = state
            committed = self._group.committed.get((NAMES.matches, partition))
            high = log.end(NAMES.matches, partition)
            starts[partition] = first_frame(
                NAMES.matches, NAMES.joins, partition, state.next_offset, committed, 0, high
            )
        await process.nap(self._world.between(0.0, 3.0))
        if self._member is not member or member.expelled:
            return
        asked_at_s = self._fence.now_s()
        process.step("committing where it begins")
        if self._group.commit(member, {(NAMES.matches, p): offset for p, offset in starts.items()}):
            self._fence.renew(asked_at_s)
            self._next, self._begun = dict(starts), dict(starts)

    def _changelog(self, partition: int) -> list[tuple[bytes, bytes | None]]:
        """The changelog as Kafka may hold it: with or without what newer records supersede."""
        entries: list[Entry] = self._world.log.of(NAMES.joins, partition)
        if self._world.faults.strikes(Kind.COMPACTED, 0.5):
            last = {entry.key: entry.offset for entry in entries}
            keeps_tombstones = self._world.random.random() < 0.5
            entries = [e for e in entries if last[e.key] == e.offset and (keeps_tombstones or e.value is not None)]
        return [(entry.key or b"", entry.value) for entry in entries]

    async def _apply_some(self) -> None:
        for _ in range(self._world.random.choice([1, 4, 20])):
            ready = [p for p, offset in self._next.items() if offset < self._world.log.end(NAMES.matches, p)]
            if not ready or self._group.owes(self._member):
                return
            partition = self._world.random.choice(ready)
            offset = self._next[partition]
            entry = self._world.log.of(NAMES.matches, partition)[offset]
            self._process.step("taking a frame")
            frame = Frame(partition, offset, entry.time_ms, entry.key, entry.value)
            await self._sequels.room()
            self._decisions.apply(self._states[partition], frame)
            await self._process.gate()
            self._next[partition] = self._done[partition] = offset + 1

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_INTERVAL_S)
            await self._process.gate()
            if self._fence.is_open:
                try:
                    await self._commit()
                except FenceExpired as error:
                    self._process.fail(error)

    async def _commit(self) -> None:
        """Commit what is done once all that was written before is delivered, and prove the membership by it."""
        async with self._committing:
            # Where nothing is new, what was committed is committed once more: that proves the membership too.
            offsets = {**self._begun, **self._done}
            member = self._member
            self._process.step("waiting for the changelog")
            await self._sequels.all_sent()
            await self._producer.barrier()
            asked_at_s = self._fence.now_s()
            self._process.step("committing")
            accepted = self._group.commit(member, {(NAMES.matches, p): offset for p, offset in offsets.items()})
            self._process.step("having committed")
            if accepted and self._fence.is_open:
                self._fence.renew(asked_at_s)
