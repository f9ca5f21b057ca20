"""The role route: reads every event topic that some trigger names, and writes frames, firings and dead letters.

Offsets are committed only for records whose every effect Kafka has acknowledged. What was read but not committed is
read again by the next owner: events have ids, so reading twice changes nothing.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from headrace.edges import metrics
from headrace.edges.clock import Clock, SystemClock
from headrace.edges.kafka.access import Kafka, KafkaAccess
from headrace.edges.kafka.clients import REQUEST_TIMEOUT_S, raw_record
from headrace.edges.kafka.trigger_feed import TriggerChange, TriggerFeed
from headrace.model.dead_letter import DeadLetter, dead_letter, event_dead_letter
from headrace.model.errors import HeadraceError, TriggerError
from headrace.model.event import ReadEvent
from headrace.model.frame import encode_tick
from headrace.roles.health import Health
from headrace.roles.outbox import Outbox
from headrace.roles.ownership import Ownership
from headrace.roles.tally import Tally
from headrace.roles.ticks import TickAuthor
from headrace.roles.turns import Turn
from headrace.settings import Settings
from headrace.stages.read import RawRecord, Unreadable, read
from headrace.stages.route import CompiledTrigger, Routes, compile_trigger

log = logging.getLogger(__name__)

REPORT_INTERVAL_S = 1.0
POLL_S = 0.05
BATCH_RECORDS_MAX = 500

_LOST_OFFSETS = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}


class Router:
    """One router. Everything but the librdkafka threads runs in the thread that calls `run`."""

    def __init__(
        self, settings: Settings, kafka: Kafka, clock: Clock, partitions: dict[str, int], health: Health
    ) -> None:
        """Prepare a router.

        Args:
            settings: defaults of triggers.
            kafka: where its clients come from.
            clock: what time it is.
            partitions: the internal topics' counts of partitions.
            health: where to say how it goes.
        """
        self._settings = settings
        self._kafka = kafka
        self._clock = clock
        self._names = kafka.names
        self._match_partitions = partitions[self._names.matches]
        self._health = health
        self._member = uuid.uuid4().hex
        self._routes = Routes()
        self._subscribed: set[str] = set()
        self._owned = Ownership()
        self._outbox = Outbox(kafka, partitions, clock)
        self._author: TickAuthor | None = None
        self._leaving = False
        self._failure: HeadraceError | None = None
        self._reported_s = 0.0
        self._tally = Tally()
        self._report_now = True
        self._feed = TriggerFeed(kafka)
        self._consumer = kafka.consumer(
            group_id=self._names.group("route"),
            partition_assignment_strategy="cooperative-sticky",
            enable_auto_commit="true",
            auto_commit_interval_ms="1000",
            enable_partition_eof="true",
            session_timeout_ms="10000",
            fetch_wait_max_ms="100",
            fetch_queue_backoff_ms="20",
            topic_metadata_refresh_interval_ms="30000",
            topic_metadata_refresh_fast_interval_ms="50",
        )

    def run(self, stop: threading.Event) -> None:
        """Route until `stop` is set; then hand on what was read, commit, and leave the group.

        Raises:
            HeadraceError: a record could not be delivered; the process must start anew.
        """
        self.begin()
        while not stop.is_set():
            self.turn()
        self.end()

    def begin(self) -> None:
        """Learn the triggers and join the group."""
        self._change_routes(self._feed.read_to_end())
        self._subscribe()
        self._health.ready()

    def turn(self) -> None:
        """Take what one poll gives, and settle what is delivered.

        Raises:
            HeadraceError: a record could not be delivered; the process must start anew.
        """
        self._follow_triggers()
        messages, now_ms = self._poll(), self._clock.now_ms()
        for message in messages:
            self._take(message, now_ms)
        self._tally.tell()
        self._outbox.flush_when_due()
        self._settle(self._outbox.settle())
        if self._failure is not None:
            raise self._failure
        self._report()

    def end(self) -> None:
        """Hand on what was read, commit, and leave the group."""
        self._settle(self._outbox.drain())
        self._leaving = True
        self._consumer.close()
        self._feed.close()

    def _poll(self) -> list[Message]:
        if self._outbox.is_full:
            # Reading on would only pile records up here; Kafka keeps them better.
            self._settle(self._outbox.settle(POLL_S))
            return []
        wait_s = self._outbox.wait_s
        first = self._consumer.poll(POLL_S if wait_s is None else wait_s)
        if first is None:
            return []
        return [first, *self._consumer.consume(BATCH_RECORDS_MAX, 0)]

    def _take(self, message: Message, now_ms: int) -> None:
        at = (message.topic() or "", message.partition() or 0)
        error = message.error()
        if error is not None:
            self._take_error(at, error)
        elif at[0] == self._names.progress:
            if self._author is not None:
                self._author.hear(message.value() or b"{}")
        else:
            record = raw_record(message)
            if self._owned.handle(at, record.position.offset):
                self._route(at, record, now_ms)

    def _route(self, at: tuple[str, int], record: RawRecord, now_ms: int) -> None:
        self._tally.event(at[0])
        outcome = read(record, now_ms)
        log_ms = record.timestamp_ms if record.timestamp_ms is not None else now_ms
        if isinstance(outcome, Unreadable):
            metrics.EVENTS_UNREADABLE.labels(outcome.reason).inc()
            self._outbox.set_aside(_letter(record, outcome, log_ms))
        else:
            # The earlier of the two clocks: one event with a time ahead of its log must not pull join time past
            # the events behind it.
            log_ms = min(log_ms, outcome.event.time_ms)
            self._hand_on(outcome)
        self._outbox.turn.saw(at, record.position.offset, log_ms)

    def _hand_on(self, outcome: ReadEvent) -> None:
        routed = self._routes.route(outcome)
        self._tally.filtered(routed.counts)
        for firing in routed.firings:
            self._outbox.firing(firing)
        for match in routed.matches:
            self._outbox.match(match)
        for rejected in routed.rejected:
            self._outbox.set_aside(
                event_dead_letter(outcome.event, rejected.reason, rejected.message, rejected.trigger)
            )

    def _settle(self, turns: list[Turn]) -> None:
        for turn in turns:
            offsets = [TopicPartition(*at, offset) for at, offset in self._owned.settle(turn).items()]
            if offsets:
                self._consumer.store_offsets(offsets=offsets)

    def _report(self) -> None:
        now_s = self._clock.elapsed_s()
        if not self._report_now and now_s - self._reported_s < REPORT_INTERVAL_S:
            return
        self._report_now, self._reported_s = False, now_s
        report = self._owned.report(self._member, self._clock.now_ms(), self._feed.applied)
        self._outbox.write(self._names.progress, 0, self._member.encode(), report.encode())
        if self._author is not None:
            time_ms = self._author.time_ms(frozenset(self._routes.events), self._clock.now_ms())
            if time_ms is not None:
                for partition in range(self._match_partitions):
                    self._outbox.write(self._names.matches, partition, None, encode_tick(time_ms))
                metrics.TICKS.inc()
        stopped = ", ".join(f"{topic}:{partition}" for topic, partition in sorted(self._owned.stopped))
        self._health.beat(f"stopped, since their offsets are gone: {stopped}" if stopped else None)

    def _follow_triggers(self) -> None:
        changes = self._feed.poll()
        if changes:
            self._change_routes(changes)
        # Taking over partitions may have brought changes too, and neither subscription nor assignment can change in
        # the midst of that.
        if self._routes.events != self._subscribed:
            self._subscribe()
        self._resume_stopped()

    def _resume_stopped(self) -> None:
        for at, resumed_ms in self._owned.stopped.items():
            if self._routes.resumed_ms(at[0]) <= resumed_ms:
                continue
            place = TopicPartition(*at, self._routes.start_of(*at))
            self._owned.resume(at)
            # A partition that failed cannot seek; given anew, it begins where it is told to.
            self._consumer.incremental_unassign([place])
            self._consumer.incremental_assign([place])
            # The committed offset lies outside the topic, and must not stop its next owner again.
            self._consumer.commit(offsets=[place], asynchronous=False)
            log.warning("%s:%d goes on at offset %d", *at, place.offset)

    def _change_routes(self, changes: list[TriggerChange]) -> None:
        # What was matched by the old routes leaves before anything is matched by the new ones.
        self._outbox.flush()
        self._report_now = True
        changed: dict[str, CompiledTrigger | None] = {}
        for change in changes:
            compiled = None
            if change.record is not None:
                try:
                    compiled = compile_trigger(change.record, self._settings.window_ms, self._settings.lateness_ms)
                except TriggerError as error:
                    log.error("the trigger %s cannot be used: %s", change.name, error)
            changed[change.name] = compiled
        self._routes = self._routes.changed(changed)
        metrics.TRIGGERS.set(len(self._routes.triggers))

    def _subscribe(self) -> None:
        self._subscribed = self._routes.events
        self._consumer.subscribe(
            [self._names.progress, *sorted(self._subscribed)],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def _on_assign(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        if self._leaving:
            # A rebalance that was under way at the stop: whoever stays takes these partitions.
            return
        # A new owner must know every trigger that a deployment has returned for.
        self._change_routes(self._feed.read_to_end())
        events = [p for p in partitions if p.topic != self._names.progress]
        assigned = client.committed(events, timeout=REQUEST_TIMEOUT_S) if events else []
        for at in assigned:
            at.offset = max(at.offset, self._routes.start_of(at.topic, at.partition))
            self._owned.take((at.topic, at.partition))
        if len(events) < len(partitions):
            assigned.append(TopicPartition(self._names.progress, 0, OFFSET_END))
            self._author = TickAuthor(self._kafka.partition_counts, self._settings.lateness_ms)
            log.info("this router writes the ticks of join time")
        client.incremental_assign(assigned)
        self._report_now = True

    def _on_revoke(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        self._settle(self._outbox.drain())
        try:
            client.commit(asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._NO_OFFSET:
                log.warning("offsets were not committed on revocation, so some events are read twice: %s", error)
        self._forget(client, partitions)

    def _on_lost(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        log.warning("this router lost its place in the group; its partitions are read again by others")
        self._forget(client, partitions)

    def _forget(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        for at in partitions:
            self._owned.forget((at.topic, at.partition))
            # A turn that is delivered late must not take back an offset that others have moved on since.
            self._outbox.forget((at.topic, at.partition))
            if at.topic == self._names.progress:
                self._author = None
        client.incremental_unassign(partitions)

    def _take_error(self, at: tuple[str, int], error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._owned.reached_end(at)
        elif error.code() in _LOST_OFFSETS:
            self._owned.stop(at, self._routes.resumed_ms(at[0]))
            log.error(
                "%s:%d stopped: the offsets to read are gone (%s), so events may be lost; `headrace resume %s` goes on "
                "with what is there",
                *at,
                error.str(),
                at[0],
            )
        elif error.fatal():
            self._failure = HeadraceError(f"Kafka's client cannot go on: {error.str()}")
        else:
            log.warning("Kafka reports for %s: %s", at[0] or "the brokers", error.str())


def _letter(record: RawRecord, outcome: Unreadable, time_ms: int) -> DeadLetter:
    return dead_letter(
        "event",
        outcome.reason,
        outcome.message,
        record.position,
        time_ms,
        value=record.value,
        key=record.key,
        headers=[(name, value or b"") for name, value in record.headers],
    )


def run(settings: Settings, partitions: dict[str, int], health: Health, stop: threading.Event) -> None:
    """Run one router until `stop` is set.

    Raises:
        HeadraceError: it cannot go on; the process must start anew.
    """
    log.info("route starts (pid %d)", os.getpid())
    Router(settings, KafkaAccess(settings), SystemClock(), partitions, health).run(stop)
