"""The role ingress under load, at its end, and without Kafka: what it answered with success is there, once."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import uuid
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import aiohttp
import pytest
from confluent_kafka.admin import AdminClient

from headrace.edges.kafka.embedded import EmbeddedKafka
from headrace.model import bounds
from tests.support.engine import Engine, get
from tests.support.ingress import TIMEOUT_S, address, envelope, ingress, new_name, read_events, running, send
from tests.support.kafka import DEADLINE_S, KafkaServer, create_topics, wait_until
from tests.support.published import published

POSTS = 4_000
CONNECTIONS = 200


@pytest.fixture
def own_ingress(kafka: KafkaServer, tmp_path: Path) -> Iterator[Engine]:
    """An ingress of the test's own, which the test stops."""
    with running(ingress(kafka.bootstrap_servers, tmp_path / "engine")) as engine:
        yield engine


def test_bodies_that_break_off_or_are_malformed_harm_nobody(
    open_ingress: Engine, kafka: KafkaServer, topic: str
) -> None:
    host, _, port = address(open_ingress).partition(":")
    head = b"POST / HTTP/1.1\r\nHost: x\r\n"
    for sent in (
        head + b"Content-Length: 100\r\n\r\n{",
        head + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
        head + b"Transfer-Encoding: chunked\r\n\r\nnot hex\r\n{",
        head + b"Content-Length: -1\r\n\r\n{",
        b"\x16\x03\x01 no HTTP at all\r\n\r\n",
    ):
        with socket.create_connection((host, int(port)), TIMEOUT_S) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            said = connection.recv(1_000)
            assert not said or said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")), said
    assert send(open_ingress, envelope(topic)).status == 200
    assert len(published(kafka, topic)) == 1


def test_more_than_fits_is_refused_until_there_is_room(open_ingress: Engine, topic: str) -> None:
    host, _, port = address(open_ingress).partition(":")
    announced = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n{" % bounds.INGRESS_BODY_BYTES_MAX
    waiting = [socket.create_connection((host, int(port)), TIMEOUT_S) for _ in range(64)]
    try:
        for connection in waiting:
            connection.sendall(announced)
        wait_until(lambda: send(open_ingress, envelope(topic)).status == 503, "a full ingress")
        answer = send(open_ingress, envelope(topic))
        assert answer.refused() == (503, "busy")
        assert int(answer.headers["Retry-After"]) >= 1
    finally:
        for connection in waiting:
            connection.close()
    wait_until(lambda: send(open_ingress, envelope(topic)).status == 200, "room for a request")


async def post_many(engine: Engine, name: str, ids: Iterator[str], statuses: dict[str, int]) -> None:
    """Post an envelope for each id, many at once, until one gets no answer; note each status, 0 for none."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def post() -> None:
            for event_id in ids:
                try:
                    async with session.post(f"http://{address(engine)}/", data=envelope(name, id=event_id)) as answer:
                        statuses[event_id] = answer.status
                except aiohttp.ClientError:
                    statuses[event_id] = 0
                    return

        await asyncio.gather(*(post() for _ in range(CONNECTIONS)))


def test_thousands_of_posts_at_once_are_all_acknowledged_and_there_once(
    open_ingress: Engine, kafka: KafkaServer, topic: str
) -> None:
    ids = [str(uuid.uuid4()) for _ in range(POSTS)]
    statuses: dict[str, int] = {}
    asyncio.run(post_many(open_ingress, topic, iter(ids), statuses))
    assert set(statuses.values()) == {200}
    found = [event.event.id for event in read_events(published(kafka, topic))]
    assert sorted(found) == sorted(ids)


@pytest.mark.parametrize("crash", [False, True])
def test_an_end_amid_posts_loses_nothing_that_was_acknowledged(
    own_ingress: Engine, kafka: KafkaServer, topic: str, crash: bool
) -> None:
    statuses: dict[str, int] = {}

    def end() -> None:
        # Answers, not records: a crash may come between a record and its answer.
        wait_until(lambda: len(statuses) > CONNECTIONS, "some answers")
        if crash:
            own_ingress.kill("ingress")
            own_ingress.wait_until_ready()
        else:
            assert own_ingress.terminate("ingress") == 0

    async def post_until_the_end() -> None:
        endless = (str(uuid.uuid4()) for _ in count())
        posting = asyncio.create_task(post_many(own_ingress, topic, endless, statuses))
        await asyncio.to_thread(end)
        await posting

    asyncio.run(post_until_the_end())
    assert set(statuses.values()) == {0, 200}
    found = [event.event.id for event in read_events(published(kafka, topic))]
    assert len(found) == len(set(found))
    acknowledged = {event_id for event_id, status in statuses.items() if status == 200}
    # Only a crash may leave events of which the sender was not told.
    assert acknowledged <= set(found) if crash else acknowledged == set(found)


def test_a_request_that_is_under_way_at_the_stop_is_finished(
    own_ingress: Engine, kafka: KafkaServer, topic: str
) -> None:
    host, _, port = address(own_ingress).partition(":")
    body = envelope(topic, rows=5)
    (process,) = own_ingress.running("ingress")
    with socket.create_connection((host, int(port)), TIMEOUT_S) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:5])
        wait_until(lambda: own_ingress.metrics("ingress")["headrace_ingress_in_flight"] == 1, "the request")
        os.kill(process.pid, signal.SIGTERM)

        def is_closed() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex((host, int(port))) != 0

        wait_until(is_closed, "the end of listening")
        connection.sendall(body[5:])
        assert connection.recv(1_000).startswith(b"HTTP/1.1 200 ")
    assert own_ingress.wait_for_end("ingress") == 0
    assert [record.value() for record in published(kafka, topic)] == [body]


def test_a_broker_that_makes_topics_by_itself_is_not_led_to_and_one_that_is_away_is_told(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path / "kafka", extra_properties={"auto.create.topics.enable": "true"})
    broker.start()
    try:
        with running(ingress(broker.bootstrap_servers, tmp_path / "engine")) as engine:
            known, unknown = new_name(), new_name()
            create_topics({"bootstrap.servers": broker.bootstrap_servers}, {known: 1})
            wait_until(lambda: send(engine, envelope(known)).status == 200, "the topic")
            assert send(engine, envelope(unknown)).status == 202
            admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
            assert unknown not in admin.list_topics(timeout=DEADLINE_S).topics
            gone = new_name()
            create_topics({"bootstrap.servers": broker.bootstrap_servers}, {gone: 1})
            wait_until(lambda: send(engine, envelope(gone)).status == 200, "another topic")
            admin.delete_topics([gone])[gone].result(DEADLINE_S)
            wait_until(lambda: send(engine, envelope(gone)).status == 202, "the end of a topic")
            assert gone not in admin.list_topics(timeout=DEADLINE_S).topics
            (process,) = engine.running("ingress")
            health = engine.address(process)
            broker.stop()
            for name in (known, unknown):
                answer = send(engine, envelope(name))
                assert answer.refused() == (503, "unacknowledged")
                assert int(answer.headers["Retry-After"]) >= 1
            wait_until(lambda: get(health, "/readyz")[0] == 503, "a role that is not ready")
            assert "no Kafka broker answers" in get(health, "/readyz")[1]
            broker.start()
            wait_until(lambda: send(engine, envelope(known)).status == 200, "a broker that is back")
            wait_until(lambda: get(health, "/readyz")[0] == 200, "a role that is ready again")
    finally:
        broker.stop()
