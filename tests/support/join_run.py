"""What tests of the join's Faust edge need: its topics, workers as processes, and what Kafka holds afterwards."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic

from tests.support.join_worker import WorkerOptions

PARTITIONS = 4
# Short, so that a killed member is forgotten soon; Kafka allows no less than 6 s.
SESSION_TIMEOUT_MS = 9_000
PATIENCE_S = 60.0
_REPOSITORY = Path(__file__).parents[2]

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Output:
    """One record of the outputs topic: the count that a key got, and the offset of the frame that gave it."""

    partition: int
    key: str
    count: int
    offset: int


class Worker:
    """A process of `tests.support.join_worker`, and what it has said."""

    def __init__(self, options: WorkerOptions, log: Path) -> None:
        self.log = log
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.join_worker", json.dumps(asdict(options))],
                cwd=_REPOSITORY,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self._said: list[Facts] = []
        self._changed = threading.Condition()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._listener.join()
        if self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def said(self) -> list[Facts]:
        with self._changed:
            return list(self._said)

    def wait_until_said(self, is_it: Callable[[Facts], bool], *, after: int = 0) -> Facts:
        """Return the first fact, from number `after` on, that is the one waited for."""

        def found() -> Facts | None:
            return next((facts for facts in self._said[after:] if is_it(facts)), None)

        with self._changed:
            self._changed.wait_for(lambda: found() is not None or not self._listener.is_alive(), PATIENCE_S)
            facts = found()
        assert facts is not None, f"the worker did not say it, but {self._said}; its log ends:\n{self.log_tail()}"
        return facts

    def wait_until_it_holds(self, partitions: int, *, after: int = 0) -> Facts:
        """Wait until it has recovered so many partitions; return what it said then."""
        return self.wait_until_said(
            lambda facts: facts.get("recovered") is True and len(facts["partitions"]) == partitions, after=after
        )

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_until_it_ends(self) -> int:
        """Return the exit status; a negative one is a signal's number."""
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker did not end, but said {self.said}; its log:\n{self.log_tail()}") from None

    def stop(self) -> None:
        """Stop it cleanly."""
        self.signal(signal.SIGTERM)
        assert self.wait_until_it_ends() == 0, self.log_tail()

    def log_tail(self) -> str:
        return self.log.read_text()[-6000:]

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._said.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


@dataclass
class JoinRun:
    """One set of topics, the frames produced to them, and what a correct join makes of them."""

    # librdkafka's properties for any client.
    client: Mapping[str, str]
    prefix: str
    directory: Path
    expected: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._producer = Producer({**self.client, "linger.ms": 0, "acks": "all"})
        self.admin = AdminClient(dict(self.client))

    def create_topics(self, *, changelog: Mapping[str, str] | None = None) -> None:
        """Create the matches, changelog and outputs topics; `changelog` holds further settings of that one."""
        settings = {"cleanup.policy": "compact", **(changelog or {})}
        topics = [
            NewTopic(self.topic("matches"), PARTITIONS, 1),
            NewTopic(self.topic("outputs"), PARTITIONS, 1),
            NewTopic(self.topic("changelog"), PARTITIONS, 1, config=settings),
        ]
        for created in self.admin.create_topics(topics).values():
            created.result(PATIENCE_S)

    def delete_topic(self, name: str) -> None:
        for deleted in self.admin.delete_topics([self.topic(name)]).values():
            deleted.result(PATIENCE_S)

    def topic(self, name: str) -> str:
        return self.prefix + name

    def worker(self, **changed: Any) -> Worker:
        options: dict[str, Any] = {
            "properties": {**self.client, "session.timeout.ms": str(SESSION_TIMEOUT_MS)},
            "group": self.topic("join"),
            "matches": self.topic("matches"),
            "changelog": self.topic("changelog"),
            "outputs": self.topic("outputs"),
            "data_dir": str(self.directory / "faust"),
        }
        return Worker(WorkerOptions(**{**options, **changed}), self.directory / "worker.log")

    def send(self, partition: int, *keys: str) -> None:
        """Produce one frame and wait until Kafka has it."""
        self._produce(partition, keys)
        self._producer.flush()

    def send_many(self, count: int) -> None:
        """Produce so many frames over all partitions, and wait until Kafka has them."""
        for number in range(count):
            self._produce(number % PARTITIONS, (f"a{number % 7}", f"b{number % 11}"))
        self._producer.flush()

    @contextmanager
    def feeding(self) -> Iterator[None]:
        """Produce frames all the time."""
        stop = threading.Event()

        def feed() -> None:
            while not stop.wait(0.005):
                self.send_many(PARTITIONS)

        thread = threading.Thread(target=feed)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _produce(self, partition: int, keys: tuple[str, ...]) -> None:
        with self._lock:
            self._producer.produce(self.topic("matches"), json.dumps(keys).encode(), partition=partition)
            self.expected[partition].update(keys)

    def ends(self, name: str) -> dict[int, int]:
        """Return the end offsets of a topic."""
        latest = {TopicPartition(self.topic(name), p): OffsetSpec.latest() for p in range(PARTITIONS)}
        while True:
            # A topic that was just made may not have its leaders yet.
            with contextlib.suppress(KafkaException):
                answers = self.admin.list_offsets(latest)
                return {asked.partition: answer.result(PATIENCE_S).offset for asked, answer in answers.items()}

    def committed(self) -> dict[int, int]:
        """Return the group's committed offsets; 0 where there is none."""
        matches = [TopicPartition(self.topic("matches"), partition) for partition in range(PARTITIONS)]
        reader = Consumer({**self.client, "group.id": self.topic("join"), "enable.auto.commit": False})
        try:
            return {told.partition: max(told.offset, 0) for told in reader.committed(matches, timeout=PATIENCE_S)}
        finally:
            reader.close()

    def send_in_transaction(self, name: str, partition: int, key: bytes | None, value: bytes) -> None:
        """Write one record and, behind it, the marker of its transaction, which takes an offset of its own."""
        before = self.ends(name)[partition]
        writer = Producer({**self.client, "transactional.id": self.topic("writer")})
        writer.init_transactions()
        writer.begin_transaction()
        writer.produce(self.topic(name), value, key, partition=partition)
        writer.commit_transaction()
        # The broker writes the marker in its own time.
        while self.ends(name)[partition] < before + 2:
            pass

    def delete_records_before(self, topic: str, partition: int, offset: int) -> None:
        for deleted in self.admin.delete_records([TopicPartition(topic, partition, offset)]).values():
            deleted.result()

    def configure(self, topic: str, name: str, value: str) -> None:
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        for altered in self.admin.incremental_alter_configs([resource]).values():
            altered.result()

    def wait_until_committed(self, wanted: Callable[[dict[int, int]], bool]) -> None:
        """Ask Kafka until the committed offsets are as wanted."""
        waiting = threading.Event()
        committed: dict[int, int] = {}
        for _ in range(round(PATIENCE_S / 0.05)):
            # A new broker first has to load what it knows about groups.
            with contextlib.suppress(KafkaException):
                committed = self.committed()
                if wanted(committed):
                    return
            waiting.wait(0.05)
        tail = (self.directory / "worker.log").read_text()[-6000:]
        raise AssertionError(f"the committed offsets stayed at {committed}; the worker's log ends:\n{tail}")

    def wait_until_all_is_committed(self) -> None:
        ends = self.ends("matches")
        self.wait_until_committed(lambda committed: committed == ends)

    def outputs(self) -> list[Output]:
        """Return all records of the outputs topic."""
        found = []
        for partition, key, value in self._read("outputs"):
            count, offset = (value or b"").split()
            found.append(Output(partition, key.decode(), int(count), int(offset)))
        return found

    def changelog(self) -> dict[int, dict[str, int]]:
        """Return what a reader of the changelog makes of it."""
        state: dict[int, dict[str, int]] = defaultdict(dict)
        for partition, key, value in self._read("changelog"):
            if value is None:
                state[partition].pop(key.decode(), None)
            else:
                state[partition][key.decode()] = int(value)
        return state

    def assert_exact(self) -> None:
        """Every frame was applied exactly once, whatever happened on the way."""
        for partition, counts in self.changelog().items():
            counts.pop("partition")
            assert counts == dict(self.expected[partition])
        given: dict[tuple[int, str, int], int] = {}
        for output in self.outputs():
            # The same output may have been delivered twice, but never two different ones for the same count.
            name = (output.partition, output.key, output.count)
            assert given.setdefault(name, output.offset) == output.offset
        for partition, expected in self.expected.items():
            for key, count in expected.items():
                assert all((partition, key, number) in given for number in range(1, count + 1))
        assert len(given) == sum(sum(counts.values()) for counts in self.expected.values())

    def _read(self, name: str) -> Iterator[tuple[int, bytes, bytes | None]]:
        ends = {partition: end for partition, end in self.ends(name).items() if end > 0}
        reader = Consumer(
            {
                **self.client,
                "group.id": self.topic("reader"),
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
            }
        )
        reader.assign([TopicPartition(self.topic(name), partition, 0) for partition in ends])
        at_end: set[int] = set()
        while len(at_end) < len(ends):
            message = reader.poll(1.0)
            if message is None:
                continue
            partition = message.partition()
            assert partition is not None
            if message.error() is not None:
                at_end.add(partition)
            else:
                yield partition, message.key() or b"", message.value()
        reader.close()
