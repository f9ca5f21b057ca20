"""The publishers against a real Kafka: what arrives, what is told, and what survives exits and forks."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from headrace_publisher import (
    ArgoEvent,
    AsyncPublisher,
    Delivery,
    DeliveryFailed,
    InvalidAttribute,
    Publisher,
    QueueFull,
)

from tests.support.kafka import DEADLINE_S, KafkaServer, SecureKafka, create_topics

pytest_plugins = ["tests.system.kafka_fixtures"]

# A topic is missed for good after this time instead of seconds, so that tests of it are short.
MISSED_SOON = {"topic.metadata.propagation.max.ms": "100"}


@pytest.fixture
def topic(kafka: KafkaServer, topic_prefix: str) -> str:
    """A new topic with two partitions."""
    name = f"{topic_prefix}data_updated"
    create_topics({"bootstrap.servers": kafka.bootstrap_servers}, {name: 2})
    return name


def records(client: Mapping[str, str], topic: str, partitions: int = 2) -> list[Message]:
    """All records of a topic as it is now, by partition and offset."""
    properties = {**client, "group.id": "reader", "enable.auto.commit": False, "enable.partition.eof": False}
    with closing(Consumer(properties)) as consumer:
        starts = [TopicPartition(topic, partition) for partition in range(partitions)]
        ends = [consumer.get_watermark_offsets(start, DEADLINE_S)[1] for start in starts]
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        read: list[Message] = []
        while len(read) < sum(ends):
            batch = consumer.consume(sum(ends) - len(read), DEADLINE_S)
            assert batch, f"{topic} ended after {len(read)} of {sum(ends)} records"
            read += batch
    assert [record.error() for record in read if record.error()] == []
    return sorted(read, key=lambda record: (record.partition() or 0, record.offset() or 0))


def plain(kafka: KafkaServer, topic: str) -> list[Message]:
    """All records of a topic with two partitions on the plain Kafka."""
    return records({"bootstrap.servers": kafka.bootstrap_servers}, topic)


def headers(record: Message) -> dict[str, str]:
    """The record's headers as text."""
    pairs = record.headers() or []
    assert isinstance(pairs, list)
    return {name: value.decode() for name, value in pairs if isinstance(value, bytes)}


def payload(record: Message) -> dict[str, object]:
    """The record's value, which is a JSON object."""
    value = json.loads(record.value() or b"")
    assert isinstance(value, dict)
    return value


def test_key_value_and_headers_arrive_as_promised(kafka: KafkaServer, topic: str) -> None:
    with Publisher(kafka.bootstrap_servers, source="/warehouse") as publisher:
        id = publisher.publish(
            topic,
            {"rows": 3, "region": "eu"},
            key="eu",
            time="2026-01-31T13:00:00+01:00",
            headers={"ce_subject": "orders", "trace": b"t-1"},
        )
    (record,) = plain(kafka, topic)
    assert record.key() == b"eu"
    assert record.value() == b'{"rows":3,"region":"eu"}'
    assert headers(record) == {
        "ce_specversion": "1.0",
        "ce_id": id,
        "ce_type": topic,
        "ce_source": "/warehouse",
        "ce_time": "2026-01-31T12:00:00.000000Z",
        "content-type": "application/json",
        "ce_subject": "orders",
        "trace": "t-1",
    }


def test_an_event_has_no_key_unless_one_is_given(kafka: KafkaServer, topic: str) -> None:
    with Publisher(kafka.bootstrap_servers) as publisher:
        publisher.publish(topic)
        publisher.publish_many(topic, [{}])
    assert [(record.key(), record.value()) for record in plain(kafka, topic)] == [(None, b"{}")] * 2


def test_the_callback_gets_each_events_place_while_nobody_flushes(kafka: KafkaServer, topic: str) -> None:
    outcomes: list[Delivery] = []
    all_told = threading.Event()

    def on_delivery(delivery: Delivery) -> None:
        outcomes.append(delivery)
        if len(outcomes) == 3:
            all_told.set()

    with Publisher(kafka.bootstrap_servers) as publisher:
        ids = [publisher.publish(topic, {}, on_delivery=on_delivery)]
        ids += publisher.publish_many(topic, [{}, {}], on_delivery=on_delivery)
        assert all_told.wait(DEADLINE_S)
    assert {outcome.id for outcome in outcomes} == set(ids)
    places = {headers(record)["ce_id"]: (record.partition(), record.offset()) for record in plain(kafka, topic)}
    assert {outcome.id: (outcome.partition, outcome.offset) for outcome in outcomes} == places
    assert all(outcome.error is None and outcome.event == topic for outcome in outcomes)


def test_delivering_returns_the_place_once_kafka_has_the_event(kafka: KafkaServer, topic: str) -> None:
    with Publisher(kafka.bootstrap_servers) as publisher:
        delivery = publisher.deliver(topic, {"rows": 3}, id="id-1")
        (record,) = plain(kafka, topic)
    assert delivery == Delivery(topic, "id-1", None, record.partition(), record.offset())


def test_a_batch_arrives_exactly_once_and_in_order(kafka: KafkaServer, topic: str) -> None:
    with Publisher(kafka.bootstrap_servers) as publisher:
        ids = publisher.publish_many(topic, ({"number": number} for number in range(10_000)))
        assert publisher.flush(DEADLINE_S) == 0
    arrived = plain(kafka, topic)
    assert Counter(headers(record)["ce_id"] for record in arrived) == Counter(ids)
    assert {headers(record)["ce_id"]: payload(record)["number"] for record in arrived} == {
        id: number for number, id in enumerate(ids)
    }
    for partition in range(2):
        numbers = [payload(record)["number"] for record in arrived if record.partition() == partition]
        assert numbers == sorted(numbers, key=lambda number: int(str(number)))


def test_a_batch_larger_than_the_queue_waits_for_room(kafka: KafkaServer, topic: str) -> None:
    small = {"queue.buffering.max.messages": "100"}
    outcomes: list[Delivery] = []
    with Publisher(kafka.bootstrap_servers, kafka=small) as publisher:
        ids = publisher.publish_many(topic, [{}] * 2_000)
        ids += publisher.publish_many(topic, [{}] * 500, on_delivery=outcomes.append)
    assert Counter(headers(record)["ce_id"] for record in plain(kafka, topic)) == Counter(ids)
    assert [outcome.error for outcome in outcomes] == [None] * 500


def test_events_of_one_key_keep_their_order_over_all_ways_of_publishing(kafka: KafkaServer, topic: str) -> None:
    with Publisher(kafka.bootstrap_servers) as publisher:
        for number in range(0, 300, 3):
            publisher.publish(topic, {"number": number}, key="k")
            publisher.publish_many(topic, [{"number": number + 1}], key="k")
            publisher.publish(topic, {"number": number + 2}, key="k", on_delivery=lambda _: None)
    assert [payload(record)["number"] for record in plain(kafka, topic)] == list(range(300))


def test_threads_share_a_publisher(kafka: KafkaServer, topic: str) -> None:
    ids: list[str] = []

    def work() -> None:
        for _ in range(50):
            ids.append(publisher.publish(topic, {}))
            ids.extend(publisher.publish_many(topic, [{}] * 20))
            ids.append(publisher.deliver(topic, {}).id)

    with Publisher(kafka.bootstrap_servers) as publisher:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(ids) == 4 * 50 * 22
    assert Counter(headers(record)["ce_id"] for record in plain(kafka, topic)) == Counter(ids)


def test_an_event_without_a_topic_fails_in_every_way_of_publishing(
    kafka: KafkaServer, topic_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = f"{topic_prefix}missing"
    said = f"no topic {missing}: deploy a trigger that waits for it, or create the topic"
    outcomes: list[Delivery] = []
    with Publisher(kafka.bootstrap_servers, kafka=MISSED_SOON) as publisher:
        publisher.publish(missing, {}, on_delivery=outcomes.append)
        assert publisher.flush(DEADLINE_S) == 1
        assert [outcome.error is not None and said in str(outcome.error) for outcome in outcomes] == [True]
        assert capsys.readouterr().err.count(said) == 1
        # From here on librdkafka knows that the topic is missing, and says so at once.
        for publish in (publisher.publish, publisher.deliver):
            with pytest.raises(DeliveryFailed, match=said):
                publish(missing, {})
        with pytest.raises(DeliveryFailed, match=said):
            publisher.publish_many(missing, [{}])
        assert publisher.close() == 0
    assert capsys.readouterr().err == ""


def test_a_topic_is_found_as_soon_as_it_is_created(kafka: KafkaServer, topic_prefix: str) -> None:
    late = f"{topic_prefix}late"
    with Publisher(kafka.bootstrap_servers, kafka=MISSED_SOON) as publisher:
        with pytest.raises(DeliveryFailed):
            publisher.deliver(late, {})
        create_topics({"bootstrap.servers": kafka.bootstrap_servers}, {late: 2})
        publisher.deliver(late, {})
        assert publisher.publish_many(late, [{}, {}])
    assert len(plain(kafka, late)) == 3


def test_what_the_broker_refuses_as_too_large_is_told(kafka: KafkaServer, topic: str) -> None:
    with Publisher(kafka.bootstrap_servers, payload_bytes_max=3 * 1024 * 1024) as publisher:
        with pytest.raises(DeliveryFailed, match=r"too large for Kafka .* Raise the topic's max\.message\.bytes"):
            publisher.deliver(topic, {"text": "x" * 2 * 1024 * 1024})
        publisher.deliver(topic, {"text": "x" * 1000 * 1000})


def test_text_that_is_no_utf8_is_refused_where_it_could_only_be_bytes(kafka: KafkaServer, topic: str) -> None:
    with Publisher(kafka.bootstrap_servers) as publisher:
        publisher.publish(topic, {}, key=b"\xff")
        refused = pytest.raises(InvalidAttribute, match=f"of event {topic} cannot be written as UTF-8")
        with refused:
            publisher.publish(topic, {}, id="\udc80")
        with refused:
            publisher.publish(topic, {}, key="\udc80")
    assert [record.key() for record in plain(kafka, topic)] == [b"\xff"]


async def test_the_asyncio_form_awaits_the_acknowledgement(kafka: KafkaServer, topic: str) -> None:
    async with AsyncPublisher(kafka.bootstrap_servers) as publisher:
        first = await publisher.publish(topic, {"number": 0}, key="k")
        assert [headers(record)["ce_id"] for record in plain(kafka, topic)] == [first]
        ids = await asyncio.gather(*(publisher.publish(topic, {"number": number}, key="k") for number in range(1, 500)))
        arrived = plain(kafka, topic)
    assert [headers(record)["ce_id"] for record in arrived] == [first, *ids]
    assert [payload(record)["number"] for record in arrived] == list(range(500))


async def test_the_asyncio_form_keeps_the_order_through_a_full_queue(kafka: KafkaServer, topic: str) -> None:
    small = {"queue.buffering.max.messages": "10"}
    async with AsyncPublisher(kafka.bootstrap_servers, kafka=small, queue_timeout_s=DEADLINE_S) as publisher:
        await asyncio.gather(*(publisher.publish(topic, {"number": number}, key="k") for number in range(500)))
    assert [payload(record)["number"] for record in plain(kafka, topic)] == list(range(500))


async def test_the_asyncio_form_raises_for_a_missing_topic_and_finds_it_later(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    late = f"{topic_prefix}late"
    async with AsyncPublisher(kafka.bootstrap_servers, kafka=MISSED_SOON) as publisher:
        for _ in range(2):
            with pytest.raises(DeliveryFailed, match=f"no topic {late}"):
                await publisher.publish(late, {})
        create_topics({"bootstrap.servers": kafka.bootstrap_servers}, {late: 2})
        id = await publisher.publish(late, {})
    assert [headers(record)["ce_id"] for record in plain(kafka, late)] == [id]


def test_a_callback_may_publish(kafka: KafkaServer, topic: str) -> None:
    follow_up = threading.Event()

    def publish_next(delivery: Delivery) -> None:
        try:
            publisher.publish(topic, {"number": 2}, on_delivery=lambda _: follow_up.set())
        except QueueFull:
            pytest.fail("there was room for this event")

    with Publisher(kafka.bootstrap_servers) as publisher:
        publisher.publish(topic, {"number": 1}, on_delivery=publish_next)
        assert follow_up.wait(DEADLINE_S)
    assert sorted(str(payload(record)["number"]) for record in plain(kafka, topic)) == ["1", "2"]


def test_an_argo_event_arrives_with_metaflows_fields(
    kafka: KafkaServer, topic: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    outcomes: list[Delivery] = []
    event = ArgoEvent(topic, payload={"a": 1, "b": 1}, on_delivery=outcomes.append)
    id = event.add_to_payload("b", 2).publish({"c": 3}, ignore_errors=False)
    (record,) = plain(kafka, topic)
    arrived = payload(record)
    assert list(arrived) == ["name", "id", "timestamp", "utc_date", "generated-by-metaflow", "a", "b", "c"]
    assert (arrived["name"], arrived["a"], arrived["b"], arrived["c"]) == (topic, 1, "2", 3)
    assert str(uuid.UUID(id)) == id == arrived["id"] == headers(record)["ce_id"]
    time = datetime.fromisoformat(headers(record)["ce_time"])
    assert abs(time.timestamp() - int(str(arrived["timestamp"]))) < 2
    assert arrived["utc_date"] == datetime.fromtimestamp(int(str(arrived["timestamp"])), time.tzinfo).strftime("%Y%m%d")
    assert [(outcome.id, outcome.error) for outcome in outcomes] == [(id, None)]
    assert capsys.readouterr().err == ""


def test_argo_events_with_an_id_of_their_own(kafka: KafkaServer, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADRACE_BOOTSTRAP_SERVERS", raising=False)
    own = str(uuid.uuid4())
    event = ArgoEvent(topic, url=f"kafka://{kafka.bootstrap_servers}/")
    assert event.publish({"id": own}, ignore_errors=False) == own
    for _ in range(2):
        assert event.publish({"id": "order-7"}, ignore_errors=False) == "order-7"
    ids = [headers(record)["ce_id"] for record in plain(kafka, topic)]
    assert own in ids
    assert "order-7" not in ids
    assert len(set(ids)) == 3, "an order's id does not make its events one event"


def test_safe_publish_publishes_from_a_deployed_workflow_only(
    kafka: KafkaServer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = ArgoEvent(topic, url=kafka.bootstrap_servers)
    monkeypatch.delenv("ARGO_WORKFLOW_TEMPLATE", raising=False)
    assert event.safe_publish() is None
    monkeypatch.setenv("ARGO_WORKFLOW_TEMPLATE", "model-refresh")
    id = event.safe_publish(ignore_errors=False)
    assert [headers(record)["ce_id"] for record in plain(kafka, topic)] == [id]


def run(program: str, *arguments: str, cwd: Path) -> list[str]:
    """Runs a program that must end well and say nothing on stderr, and returns the lines of its output."""
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        cwd=cwd,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


def test_the_end_of_a_process_delivers_what_it_published(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    (tmp_path / ".headrace").mkdir()
    (tmp_path / ".headrace" / "up.json").write_text(json.dumps({"bootstrap_servers": kafka.bootstrap_servers}))
    program = """
import sys
from headrace_publisher import ArgoEvent, Publisher
publisher = Publisher()
for number in range(1000):
    print(publisher.publish(sys.argv[1], {"number": number}))
print(ArgoEvent(sys.argv[1]).publish())
"""
    ids = run(program, topic, cwd=tmp_path)
    assert len(ids) == 1001
    assert Counter(headers(record)["ce_id"] for record in plain(kafka, topic)) == Counter(ids)


def test_a_forked_child_publishes_its_own_events_and_nothing_of_its_parents(
    kafka: KafkaServer, topic: str, tmp_path: Path
) -> None:
    program = """
import os, sys
from headrace_publisher import ArgoEvent, Publisher
servers, topic = sys.argv[1:]
publisher = Publisher(servers)
event = ArgoEvent(topic, url=servers)
ids = [publisher.publish(topic) for _ in range(100)] + [event.publish()]
child = os.fork()
ids = ids if child else []
ids += [publisher.publish(topic) for _ in range(100)] + [event.publish()]
print(*ids, sep="\\n", flush=True)
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    ids = run(program, kafka.bootstrap_servers, topic, cwd=tmp_path)
    assert len(ids) == 303
    assert Counter(headers(record)["ce_id"] for record in plain(kafka, topic)) == Counter(ids)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_end_of_a_multiprocessing_child_delivers_too(
    kafka: KafkaServer, topic: str, tmp_path: Path, method: str
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        """
import multiprocessing, sys
from headrace_publisher import ArgoEvent

def work(servers, topic):
    for _ in range(10):
        print(ArgoEvent(topic, url=servers).publish(), flush=True)

if __name__ == "__main__":
    servers, topic, method = sys.argv[1:]
    work(servers, topic)
    child = multiprocessing.get_context(method).Process(target=work, args=(servers, topic))
    child.start()
    child.join()
    assert child.exitcode == 0
"""
    )
    run_file = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    ids = run(run_file, str(program), kafka.bootstrap_servers, topic, method, cwd=tmp_path)
    assert len(ids) == 20
    assert Counter(headers(record)["ce_id"] for record in plain(kafka, topic)) == Counter(ids)


def test_credentials_come_from_the_environment(
    secure_kafka: SecureKafka, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = f"{topic_prefix}secrets"
    create_topics(secure_kafka.client_properties(), {topic: 2})
    for name, value in secure_kafka.environment.items():
        monkeypatch.setenv(name, value)
    with Publisher() as publisher:
        publisher.deliver(topic, {"rows": 3})
    id = ArgoEvent(topic).publish(ignore_errors=False)
    assert id in [headers(record)["ce_id"] for record in records(secure_kafka.client_properties(), topic)]


def test_a_wrong_password_is_told_with_the_event(
    secure_kafka: SecureKafka, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in secure_kafka.environment.items():
        monkeypatch.setenv(name, value)
    wrong = {"sasl.password": "wrong"}
    with (
        Publisher(kafka=wrong, delivery_timeout_s=1) as publisher,
        pytest.raises(DeliveryFailed, match=r"no broker could be reached .*[Aa]uthentication failed"),
    ):
        publisher.deliver(f"{topic_prefix}secrets", {})
