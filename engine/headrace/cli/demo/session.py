"""One session of the demo: publishes the stream, watches what comes of it, and knows when all is done."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Self

from confluent_kafka import TopicPartition

from headrace.cli.demo.board import Board
from headrace.cli.demo.drain import Drain
from headrace.cli.demo.flow_runs import parameters_seen
from headrace.cli.demo.plan import FLOWS, Plan, PlannedEvent, script
from headrace.cli.demo.screen import Display, Status
from headrace.cli.demo.stream import SCENE_S, endless
from headrace.cli.demo.verdict import Expectations
from headrace.cli.demo.watch import Watch
from headrace.model.errors import HeadraceError
from headrace.model.run import RunState
from headrace.model.trigger import TriggerRecord
from headrace.settings import Settings
from headrace_publisher import Delivery, Publisher

POLL_S = 0.1
DRAIN_INTERVAL_S = 0.5
SILENCE_S_MAX = 120.0
"""A session that sees nothing happen for this long gives up. Even on a busy machine a flow ends sooner."""


class SessionStalled(HeadraceError):
    """Nothing happens any more, though something should."""


class Session:
    """Publishes, watches and reads back, all in one loop."""

    def __init__(self, settings: Settings, triggers: list[TriggerRecord], *, endlessly: bool) -> None:
        """Prepare for the triggers, which are deployed; `endlessly` goes on with a gentle stream."""
        self._settings = settings
        self._topics = list(dict.fromkeys(d.name for trigger in triggers for d in trigger.spec.events))
        joins = {t.name: t.spec.dependency_names() for t in triggers if len(t.spec.events) > 1}
        self.board = Board(joins)
        self.expectations = Expectations(uuid.uuid4().hex[:4])
        self.published = 0
        self.repeated = 0
        self._plan = script(date.today())
        self._scenes: Iterator[Plan] | None = None
        if endlessly:
            self._scenes = endless(self._plan.ends_s + SCENE_S, date.today(), Random())
        self._due: list[PlannedEvent] = []
        self._due_until_s = 0.0
        self._times: dict[str, datetime] = {}
        self._failures: list[Delivery] = []
        self._unreadable: set[str] = set()
        self._drain: Drain | None = None
        self._ends: list[TopicPartition] | None = None
        self._looked_s = 0.0
        self._began_s = time.monotonic()
        self._doing = "waiting until the join knows the time"
        self._watch = Watch(settings, self._topics, self.board)
        self._publisher = Publisher(settings.bootstrap_servers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.close()
        self._publisher.close()

    def run(self, display: Display) -> None:
        """Run until every expected run has ended and nothing more can come; or, if endless, until interrupted.

        Raises:
            SessionStalled: nothing has happened for `SILENCE_S_MAX`.
            HeadraceError: an event could not be published, or Kafka does not answer.
        """
        # Until then nothing is late for the join, and the plan has an event that must be.
        self._loop(display, lambda: self.board.joins_have_time(self._watch.join_partitions))
        self._began_s = time.monotonic()
        self._take_on(self._plan)
        self._loop(display, self._is_done)

    def read_back_all(self) -> None:
        """Ask Metaflow what every flow saw, also those that have been asked.

        Of two runs for one firing, the second may have come after the first was read.
        """
        for seen in self.board.runs.values():
            seen.saw = None
        self._unreadable.clear()
        self._read_back(len(self.board.runs))

    def _loop(self, display: Display, is_done: Callable[[], bool]) -> None:
        news, news_s = self.board.news_count, time.monotonic()
        while not is_done():
            self._publish_due()
            self._watch.poll(POLL_S)
            self._read_back(1)
            display.show(self.board, self._status())
            if self._failures:
                raise HeadraceError(str(self._failures[0].error))
            if self.board.news_count != news:
                news, news_s = self.board.news_count, time.monotonic()
            elif self._scenes is None and time.monotonic() - news_s > SILENCE_S_MAX:
                raise SessionStalled(f"nothing has happened for {SILENCE_S_MAX:.0f} s while {self._doing}")

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def _status(self) -> Status:
        expected = self.expectations
        planned = len(self._plan.events) if self._scenes is None else None
        return Status(
            self._elapsed_s, self.published, planned, expected.ended(self.board), len(expected.runs), self._doing
        )

    def _take_on(self, plan: Plan) -> None:
        self.expectations.add(plan)
        self._due = sorted([*self._due, *plan.events], key=lambda event: event.at_s)
        self._due_until_s = plan.ends_s

    def _publish_due(self) -> None:
        if self._scenes is not None and self._elapsed_s > self._due_until_s:
            self._take_on(next(self._scenes))
        board, elapsed_s = self.board, self._elapsed_s
        for event in [event for event in self._due if event.at_s <= elapsed_s]:
            if event.after is None or self.expectations.event_id(event.after) in board.waited:
                self._due.remove(event)
                self._publish(event)

    def _publish(self, event: PlannedEvent) -> None:
        event_id = self.expectations.event_id(event.label)
        # What is sent again keeps its time, as it keeps its id: it is the same event.
        self.repeated += event.label in self._times
        happened = self._times.setdefault(event.label, datetime.now(UTC) - timedelta(seconds=event.ago_s))
        self._publisher.publish(
            event.name, event.payload, key=event.key, id=event_id, time=happened, on_delivery=self._delivered
        )
        self.published += 1
        if event.note:
            self._doing = f"published {event_id}: {event.note}"

    def _delivered(self, delivery: Delivery) -> None:
        if delivery.error is not None:
            self._failures.append(delivery)

    def _read_back(self, runs_max: int) -> None:
        """Ask Metaflow what the flows saw, of at most `runs_max` runs: each takes a moment, and the screen waits."""
        for seen in self.board.runs.values():
            expected = self.expectations.runs.get(seen.identity)
            firing = seen.run.firing
            unread = seen.saw is None and firing not in self._unreadable
            if expected is None or seen.run.state is not RunState.SUCCEEDED or not unread:
                continue
            seen.saw = parameters_seen(FLOWS[expected.trigger], firing, expected.parameters)
            if seen.saw is None:
                self._unreadable.add(firing)
            runs_max -= 1
            if not runs_max:
                return

    def _is_done(self) -> bool:
        if self._scenes is not None or self._due:
            return False
        left = len(self.expectations.runs) - self.expectations.ended(self.board)
        if left:
            self._doing = "all events are published: waiting until the last runs end"
            return False
        self._doing = "making sure that nothing more comes"
        if self._ends is not None:
            return self._watch.has_reached(self._ends)
        if self._drain is None:
            self._drain = Drain(self._settings, self._topics)
        if time.monotonic() - self._looked_s > DRAIN_INTERVAL_S:
            self._looked_s = time.monotonic()
            if self._drain.is_done():
                self._ends = self._watch.ends()
        return False
