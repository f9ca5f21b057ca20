"""The publishers against a real Kafka: what arrives, in which order, and what is told."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest

from headrace_publisher import AsyncPublisher, Delivery, DeliveryFailed, InvalidAttribute, Publisher, QueueFull
from tests.support.kafka import DEADLINE_S, KafkaServer
from tests.support.published import create_visible_topic, headers, payload, published, published_ids

# A topic is missed for good after this time instead of seconds, so that tests of it are short.
MISSED_SOON = {"topic.metadata.propagation.max.ms": "100"}


@pytest.fixture
def topic(kafka: KafkaServer, topic_prefix: str) -> str:
    """A new topic with two partitions."""
    name = f"{topic_prefix}data_updated"
    create_visible_topic(kafka, name)
    return name


def test_key_value_and_headers_arrive_as_promised(kafka: KafkaServer, topic: str) -> None:
    with Publisher(kafka.bootstrap_servers, source="/warehouse") as publisher:
        id = publisher.publish(
            topic,
            {"rows": 3, "region": "eu"},
            key="eu",
            time="2026-01-31T13:00:00+01:00",
            headers={"ce_subject": "orders", "trace": b"t-1"},
        )
    (record,) = published(kafka, topic)
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
    assert [(record.key(), record.value()) for record in published(kafka, topic)] == [(None, b"{}")] * 2


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
    places = {headers(record)["ce_id"]: (record.partition(), record.offset()) for record in published(kafka, topic)}
    assert {outcome.id: (outcome.partition, outcome.offset) for outcome in outcomes} == places
    assert all(outcome.error is None and outcome.event == topic for outcome in outcomes)


def test_delivering_returns_the_place_once_kafka_has_the_event(kafka: KafkaServer, topic: str) -> None:
    with Publisher(kafka.bootstrap_servers) as publisher:
        delivery = publisher.deliver(topic, {"rows": 3}, id="id-1")
        (record,) = published(kafka, topic)
    assert delivery == Delivery(topic, "id-1", None, record.partition(), record.offset())


def test_a_batch_arrives_exactly_once_and_in_order(kafka: KafkaServer, topic: str) -> None:
    with Publisher(kafka.bootstrap_servers) as publisher:
        ids = publisher.publish_many(topic, ({"number": number} for number in range(10_000)))
        assert publisher.flush(DEADLINE_S) == 0
    arrived = published(kafka, topic)
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
    assert Counter(published_ids(kafka, topic)) == Counter(ids)
    assert [outcome.error for outcome in outcomes] == [None] * 500


def test_events_of_one_key_keep_their_order_over_all_ways_of_publishing(kafka: KafkaServer, topic: str) -> None:
    with Publisher(kafka.bootstrap_servers) as publisher:
        for number in range(0, 300, 3):
            publisher.publish(topic, {"number": number}, key="k")
            publisher.publish_many(topic, [{"number": number + 1}], key="k")
            publisher.publish(topic, {"number": number + 2}, key="k", on_delivery=lambda _: None)
    assert [payload(record)["number"] for record in published(kafka, topic)] == list(range(300))


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
    assert Counter(published_ids(kafka, topic)) == Counter(ids)


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
        create_visible_topic(kafka, late)
        publisher.deliver(late, {})
        assert publisher.publish_many(late, [{}, {}])
    assert len(published(kafka, late)) == 3


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
    assert [record.key() for record in published(kafka, topic)] == [b"\xff"]


async def test_the_asyncio_form_awaits_the_acknowledgement(kafka: KafkaServer, topic: str) -> None:
    async with AsyncPublisher(kafka.bootstrap_servers) as publisher:
        first = await publisher.publish(topic, {"number": 0}, key="k")
        assert published_ids(kafka, topic) == [first]
        ids = await asyncio.gather(*(publisher.publish(topic, {"number": number}, key="k") for number in range(1, 500)))
        arrived = published(kafka, topic)
    assert [headers(record)["ce_id"] for record in arrived] == [first, *ids]
    assert [payload(record)["number"] for record in arrived] == list(range(500))


@pytest.mark.parametrize("records_max", ["10", "100"])
async def test_the_asyncio_form_keeps_the_order_through_a_full_queue(
    kafka: KafkaServer, topic: str, records_max: str
) -> None:
    small = {"queue.buffering.max.messages": records_max}
    async with (
        AsyncPublisher(kafka.bootstrap_servers, kafka=small, queue_timeout_s=DEADLINE_S) as publisher,
        asyncio.TaskGroup() as tasks,
    ):
        await publisher.publish(topic, {"number": 0}, key="k")  # Connects, so that room comes up from the first on.
        for number in range(1, 2_000):
            tasks.create_task(publisher.publish(topic, {"number": number}, key="k"))
            await asyncio.sleep(0)  # Room may come up between any two calls.
    assert [payload(record)["number"] for record in published(kafka, topic)] == list(range(2_000))


async def test_the_asyncio_form_raises_for_a_missing_topic_and_finds_it_later(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    late = f"{topic_prefix}late"
    async with AsyncPublisher(kafka.bootstrap_servers, kafka=MISSED_SOON) as publisher:
        for _ in range(2):
            with pytest.raises(DeliveryFailed, match=f"no topic {late}"):
                await publisher.publish(late, {})
        create_visible_topic(kafka, late)
        id = await publisher.publish(late, {})
    assert published_ids(kafka, late) == [id]


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
    assert sorted(str(payload(record)["number"]) for record in published(kafka, topic)) == ["1", "2"]
