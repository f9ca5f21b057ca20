"""A consumer over the log in memory that speaks `confluent_kafka.Consumer`'s words, as far as the roles use them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tests.simulation.faults import Kind
from tests.simulation.groups import Group, Member
from tests.simulation.log import Entry
from tests.simulation.log import TopicPartition as At
from tests.simulation.process import Process

_CREATE_TIME = 1
_INVALID_OFFSET = -1001
_AUTO_COMMIT_S = 1.0
Rebalance = Callable[[Any, list[TopicPartition]], None]


class SimMessage:
    """A record, or what is to be said of a partition, as librdkafka hands it out."""

    def __init__(self, at: At, entry: Entry | None, error: KafkaError | None = None) -> None:
        self._at, self._entry, self._error = at, entry, error

    def topic(self) -> str:
        return self._at[0]

    def partition(self) -> int:
        return self._at[1]

    def error(self) -> KafkaError | None:
        return self._error

    def offset(self) -> int | None:
        return self._entry.offset if self._entry else None

    def key(self) -> bytes | None:
        return self._entry.key if self._entry else None

    def value(self) -> bytes | None:
        return self._entry.value if self._entry else None

    def headers(self) -> list[tuple[str, bytes]]:
        return list(self._entry.headers) if self._entry else []

    def timestamp(self) -> tuple[int, int]:
        return (_CREATE_TIME, self._entry.time_ms if self._entry else -1)


class SimConsumer:
    """One consumer of one process. Nothing blocks: time passes between the role's rounds."""

    def __init__(self, process: Process, group: Group | None, properties: dict[str, str]) -> None:
        self._process, self._world, self._group = process, process.world, group
        self._tells_ends = properties.get("enable_partition_eof") == "true"
        self._commits_itself = properties.get("enable_auto_commit") == "true"
        self._positions: dict[At, int] = {}
        self._told_end: set[At] = set()
        self._paused: set[At] = set()
        self._stored: dict[At, int] = {}
        self._committed_at_s = 0.0
        self._member: Member | None = None
        self._newest_ms = 0
        self._on_assign: Rebalance = lambda *_: None
        self._on_revoke: Rebalance = lambda *_: None
        self._on_lost: Rebalance = lambda *_: None

    # The group.

    def subscribe(self, topics: list[str], on_assign: Rebalance, on_revoke: Rebalance, on_lost: Rebalance) -> None:
        assert self._group is not None
        self._on_assign, self._on_revoke, self._on_lost = on_assign, on_revoke, on_lost
        self._topics = set(topics)
        if self._member is None or not self._member.expelled:
            # Who was expelled first has to learn of it.
            self._member = self._group.join(self._process.name, self._topics)
        self._process.rebalancing = self._is_rebalancing

    def _is_rebalancing(self) -> bool:
        group, member = self._group, self._member
        if group is None or member is None:
            return False
        return member.expelled or bool(group.to_give_back(member)) or bool(group.to_take(member))

    def _take_part(self) -> None:
        group, member = self._group, self._member
        if group is None or member is None:
            return
        if not self._process.in_thread:
            # What a rebalance calls may have to wait, which takes a thread; the next round has one.
            if not member.expelled:
                group.seen(member)
            return
        if member.expelled:
            self._world.trace(self._process.name, "learns that it was expelled")
            self._on_lost(self, _places(set(self._positions)))
            self._member = member = group.join(self._process.name, self._topics)
        group.seen(member)
        if gone := group.to_give_back(member):
            self._world.trace(self._process.name, f"gives back {_text(gone)}")
            self._on_revoke(self, _places(gone))
            group.give_back(member, gone)
        if new := group.to_take(member):
            self._world.trace(self._process.name, f"takes over {_text(new)}")
            group.take(member, new)
            self._on_assign(self, _places(new))

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.assign(partitions, keep=True)

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        for place in partitions:
            at = (place.topic, place.partition)
            self._positions.pop(at, None)
            self._stored.pop(at, None)
            self._told_end.discard(at)

    def assignment(self) -> list[TopicPartition]:
        return _places(set(self._positions))

    def close(self) -> None:
        self._process.step("closing a consumer")
        if self._group is not None and self._member is not None:
            if not self._member.expelled:
                self._on_revoke(self, _places(set(self._positions)))
            self._group.leave(self._member)
            self._member = None

    # Reading.

    def poll(self, timeout: float = 0.0) -> Any:
        self._process.step("polling")
        if self._commits_itself and self._world.loop.now_s - self._committed_at_s > _AUTO_COMMIT_S:
            self._commit_stored()
        self._take_part()
        # What is in the log may still be on its way here.
        return None if self._world.random.random() < 0.2 else self._next()

    def consume(self, count: int, timeout: float = 0.0) -> list[Any]:
        batch: list[Any] = []
        # A broker's answer ends anywhere; of a reader that wants all, it is only asked again.
        limit = count if self._group is None else min(count, self._world.random.choice([0, 1, 2, 5, 50]))
        while len(batch) < limit and (message := self._next()) is not None:
            batch.append(message)
        return batch

    def _next(self) -> SimMessage | None:
        ready = []
        for at, position in self._positions.items():
            if at in self._paused:
                continue
            if position < self._world.log.end(*at):
                ready.append(at)
            elif self._tells_ends and at not in self._told_end:
                self._told_end.add(at)
                return SimMessage(at, None, KafkaError(KafkaError._PARTITION_EOF))
        if not ready:
            return None
        at = ready[0] if len(ready) == 1 else self._world.random.choice(sorted(ready))
        entry = self._world.log.of(*at)[self._positions[at]]
        self._positions[at] += 1
        self._told_end.discard(at)
        if self._tells_ends:
            if entry.time_ms < self._newest_ms:
                self._world.faults.note(Kind.REORDERED)
            self._newest_ms = max(self._newest_ms, entry.time_ms)
        return SimMessage(at, entry)

    def assign(self, partitions: list[TopicPartition], keep: bool = False) -> None:
        if not keep:
            self._positions = {}
        for place in partitions:
            end = self._world.log.end(place.topic, place.partition)
            offset = {-2: 0, -1: end}.get(place.offset, place.offset)
            if not 0 <= offset <= end:
                raise KafkaException(KafkaError(KafkaError.OFFSET_OUT_OF_RANGE))
            self._positions[(place.topic, place.partition)] = offset

    def unassign(self) -> None:
        self._positions = {}

    def pause(self, partitions: list[TopicPartition]) -> None:
        self._paused |= {(place.topic, place.partition) for place in partitions}

    def resume(self, partitions: list[TopicPartition]) -> None:
        self._paused -= {(place.topic, place.partition) for place in partitions}

    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        return [TopicPartition(p.topic, p.partition, self._positions[(p.topic, p.partition)]) for p in partitions]

    def get_watermark_offsets(self, place: TopicPartition, timeout: float = 0.0) -> tuple[int, int]:
        self._process.step("asking for a partition's end")
        return 0, self._world.log.end(place.topic, place.partition)

    def offsets_for_times(self, places: list[TopicPartition], timeout: float = 0.0) -> list[TopicPartition]:
        found = []
        for place in places:
            entries = self._world.log.of(place.topic, place.partition)
            offset = next((entry.offset for entry in entries if entry.time_ms >= place.offset), -1)
            found.append(TopicPartition(place.topic, place.partition, offset))
        return found

    def list_topics(self, topic: str, timeout: float = 0.0) -> Any:
        partitions = dict.fromkeys(range(self._world.log.counts[topic]))
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None, partitions=partitions)})

    # Commits.

    def store_offsets(self, offsets: list[TopicPartition]) -> None:
        for place in offsets:
            if (place.topic, place.partition) not in self._positions:
                raise KafkaException(KafkaError(KafkaError._STATE))
            self._stored[(place.topic, place.partition)] = place.offset

    def committed(self, partitions: list[TopicPartition], timeout: float = 0.0) -> list[TopicPartition]:
        assert self._group is not None
        self._process.step("asking for committed offsets")
        known = self._group.committed
        return [
            TopicPartition(p.topic, p.partition, known.get((p.topic, p.partition), _INVALID_OFFSET)) for p in partitions
        ]

    def commit(self, asynchronous: bool = True) -> None:
        if not self._stored:
            raise KafkaException(KafkaError(KafkaError._NO_OFFSET))
        if not self._commit_stored():
            raise KafkaException(KafkaError(KafkaError.REBALANCE_IN_PROGRESS))

    def _commit_stored(self) -> bool:
        self._committed_at_s = self._world.loop.now_s
        if not self._stored or self._group is None or self._member is None:
            return True
        self._process.step("committing")
        accepted = self._group.commit(self._member, dict(self._stored))
        self._process.step("having committed")
        if accepted and self._world.faults.strikes(Kind.COMMIT_ACK_LOST, 0.03):
            return False
        if accepted:
            self._stored = {}
        return accepted


def _places(ats: set[At]) -> list[TopicPartition]:
    return [TopicPartition(*at) for at in sorted(ats)]


def _text(ats: set[At]) -> str:
    return ", ".join(f"{topic}:{partition}" for topic, partition in sorted(ats))
