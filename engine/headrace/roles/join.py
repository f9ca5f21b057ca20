"""The role join: feeds frames and ticks to the stage, partition by partition, and makes its decisions durable.

For each record: decide everything, deliver all firings and dead letters, then write the changelog. The group's offset
follows only once the changelog is delivered. A crash at any point leaves the state between two records, for every key.
While the firings of one record are on their way the next is decided already; of a crash then remains what remains of
one between two records, since what is decided anew is decided the same.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from headrace.edges import metrics
from headrace.edges.faust.app import Frame as RawFrame
from headrace.edges.faust.app import JoinApp
from headrace.edges.faust.join_progress import JoinProgress
from headrace.edges.faust.sequels import Delivered, Outgoing
from headrace.model.dead_letter import DeadLetter, Reason, dead_letter
from headrace.model.errors import RecordError
from headrace.model.event import Position
from headrace.model.frame import Frame, Tick, decode
from headrace.model.names import firing_partition_of
from headrace.model.topics import TopicNames
from headrace.roles.health import Health
from headrace.settings import Settings
from headrace.stages.changelog import Change
from headrace.stages.join import Joined, JoinState

log = logging.getLogger(__name__)

HEALTH_INTERVAL_S = 1.0
COMMITTED_WITHIN_S = 30.0
"""Ticks come each second, so a join that has not committed for this long makes no progress."""


class JoinWriter(Protocol):
    """What decisions are made durable through: the join's producer and its table together."""

    def send_all(self, records: Iterable[Outgoing]) -> Delivered:
        """Send records in order; what is returned is done when all are delivered."""

    def write(self, partition: int, changes: Iterable[Change], after: Delivered | None = None) -> None:
        """Write changes of a partition's state to the changelog, in order, once `after` is done; without waiting."""


class Decisions:
    """Applies records to states and carries out what follows, in the order that keeps it exact."""

    def __init__(self, names: TopicNames, firing_partitions: int, writer: JoinWriter) -> None:
        """Write to the topics `names`, of which the firings have `firing_partitions`, through `writer`."""
        self._names = names
        self._firing_partitions = firing_partitions
        self._writer = writer

    def apply(self, state: JoinState, raw: RawFrame) -> None:
        """Apply one record: its firings and dead letters are sent, and its changes will be once those are delivered.

        Raises:
            HeadraceError: the record leaves a gap, or something may not be written; the process must start anew.
        """
        record, unreadable = _decode(self._names.matches, raw)
        joined = state.apply(raw.offset, record)
        joined.dead_letters.extend(unreadable)
        outgoing = self._outgoing(joined)
        delivered = self._writer.send_all(outgoing) if outgoing else None
        self._writer.write(raw.partition, joined.changes, after=delivered)
        _count(state, joined)

    def _outgoing(self, joined: Joined) -> list[Outgoing]:
        firings, dead_letters = self._names.firings, self._names.dead_letters
        outgoing = [
            Outgoing(
                firings,
                firing_partition_of(firing.definition.trigger, self._firing_partitions),
                firing.id.encode(),
                firing.encode(),
            )
            for firing in joined.firings
        ]
        outgoing.extend(
            Outgoing(dead_letters, 0, letter.id.encode(), letter.encode()) for letter in joined.dead_letters
        )
        return outgoing


def _count(state: JoinState, joined: Joined) -> None:
    for decision, count in joined.counts.items():
        metrics.JOIN_DECISIONS.labels(decision).inc(count)
    for letter in joined.dead_letters:
        metrics.DEAD_LETTERS.labels("join", letter.reason).inc()
    if joined.firings:
        metrics.FIRINGS.labels("join").inc(len(joined.firings))
    metrics.JOIN_KEYS.labels(state.partition).set(len(state.heads))
    if state.time_ms is not None:
        metrics.JOIN_TIME.labels(state.partition).set(state.time_ms / 1000)


class Joiner:
    """One join process."""

    def __init__(self, settings: Settings, partitions: dict[str, int], health: Health, data: Path) -> None:
        """Prepare a join; `data` is a directory for Faust, which keeps nothing of worth there."""
        names = settings.topics
        self._health = health
        self._app: JoinApp[JoinState] = JoinApp(
            properties=settings.client(),
            group=names.group("join"),
            matches_topic=names.matches,
            changelog_topic=names.joins,
            new_state=JoinState,
            on_frame=self._apply,
            next_offset=lambda state: state.next_offset,
            output_topics=(names.firings, names.dead_letters),
            data_dir=data,
        )
        self._decisions = Decisions(names, partitions[names.firings], self._app)

    async def run(self, stop: asyncio.Event) -> None:
        """Join until `stop` is set, then give everything back cleanly."""
        beating = asyncio.create_task(self._beat(), name="health")
        try:
            await self._app.run(stop)
        finally:
            beating.cancel()

    def progress(self) -> JoinProgress:
        """Return how the join is getting on."""
        return self._app.progress()

    async def _apply(self, state: JoinState, frame: RawFrame) -> None:
        self._decisions.apply(state, frame)

    async def _beat(self) -> None:
        started = False
        while True:
            await asyncio.sleep(HEALTH_INTERVAL_S)
            progress = self._app.progress()
            if progress.recovered and not started:
                started = True
                self._health.ready()
            why = None
            if not progress.recovered:
                why = f"restoring its state: {progress.recovery_remaining} records remain"
            elif progress.partitions and (progress.commit_age_s or 0.0) > COMMITTED_WITHIN_S:
                why = f"no commit for {progress.commit_age_s:.0f} s"
            self._health.beat(why)


def _decode(topic: str, raw: RawFrame) -> tuple[Frame | Tick, list[DeadLetter]]:
    """Read a record; an unreadable one counts as an empty frame, and goes to the dead letters."""
    try:
        if raw.value is None:
            raise RecordError("a record of the matches topic has no value")
        return decode(raw.value), []
    except RecordError as error:
        log.error("%s:%d:%d: %s", topic, raw.partition, raw.offset, error)
        position = Position(topic, raw.partition, raw.offset)
        letter = dead_letter(
            "record", Reason.UNREADABLE_RECORD, str(error), position, raw.timestamp_ms, value=raw.value, key=raw.key
        )
        return Frame(()), [letter]


async def run(settings: Settings, partitions: dict[str, int], health: Health, stop: asyncio.Event) -> None:
    """Run one join until `stop` is set."""
    log.info("join starts (pid %d)", os.getpid())
    data = settings.state / "faust"
    # `headrace run join` is often the first to need the state directory; only `headrace up` makes it before.
    data.mkdir(parents=True, exist_ok=True)
    await Joiner(settings, partitions, health, data).run(stop)
