"""The watch: reads what the engine writes, from the moment it begins on, and puts it on the board."""

from __future__ import annotations

import time

from confluent_kafka import Message, TopicPartition

from headrace.cli.demo.board import Board
from headrace.edges.kafka.clients import all_partitions, consumer, raw_record, watermarks
from headrace.model.dead_letter import DeadLetter
from headrace.model.run import Run
from headrace.settings import Settings
from headrace.stages.read import Unreadable, read

BATCH_MAX = 500


class Watch:
    """One consumer of all that the board shows."""

    def __init__(self, settings: Settings, events: list[str], board: Board) -> None:
        """Begin now: with what comes from here on, and with the joins' whole state, which is all there is of it."""
        self._names = settings.topics
        self._board = board
        self._consumer = consumer(settings, group_id=f"{settings.topics.prefix}demo-reader")
        assignment = []
        for topic in (*events, self._names.runs, self._names.dead_letters, self._names.joins):
            for at in all_partitions(self._consumer, topic):
                low, high = watermarks(self._consumer, at)
                start = low if topic == self._names.joins else high
                assignment.append(TopicPartition(topic, at.partition, start))
        self.join_partitions = sum(at.topic == self._names.joins for at in assignment)
        self._consumer.assign(assignment)

    def poll(self, timeout_s: float) -> None:
        """Put on the board what has come, after waiting `timeout_s` for it.

        Raises:
            RecordError: a record of ours cannot be read.
        """
        for message in self._consumer.consume(BATCH_MAX, timeout_s):
            if message.error() is None:
                self._take(message)

    def ends(self) -> list[TopicPartition]:
        """Return where everything that is watched ends now."""
        return [
            TopicPartition(at.topic, at.partition, watermarks(self._consumer, at)[1])
            for at in self._consumer.assignment()
        ]

    def has_reached(self, ends: list[TopicPartition]) -> bool:
        """Say whether all that was there when `ends` was taken is on the board."""
        positions = {(at.topic, at.partition): at.offset for at in self._consumer.position(ends)}
        # A partition that never held anything has no position.
        return all(end.offset == 0 or positions[(end.topic, end.partition)] >= end.offset for end in ends)

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def _take(self, message: Message) -> None:
        topic, value = message.topic(), message.value()
        if topic == self._names.joins:
            self._board.take_join(message.partition() or 0, message.key() or b"", value)
        elif topic == self._names.runs:
            if value is not None:
                self._board.take_run(Run.decode(value))
        elif topic == self._names.dead_letters:
            if value is not None:
                self._board.take_letter(DeadLetter.decode(value))
        else:
            outcome = read(raw_record(message), time.time_ns() // 1_000_000)
            # What the router cannot read either, it sets aside: the dead letter tells of it.
            if not isinstance(outcome, Unreadable):
                self._board.take_event(outcome.event)
