"""The publishers where no broker answers: every event's failure is told, in every way of publishing."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace_publisher import (
    ArgoEvent,
    AsyncPublisher,
    Delivery,
    DeliveryFailed,
    HeadracePublisherError,
    NotConfigured,
    Publisher,
    PublisherUnusable,
    QueueFull,
)

# The shortest that librdkafka takes notice of is its check, once a second, for records whose time is over.
DELIVERY_TIMEOUT_S = 0.1


@pytest.fixture
def closed_port() -> Iterator[str]:
    """An address at which nobody listens and, as it is taken, nobody will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_delivering_raises_with_the_address(closed_port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        Publisher(closed_port, delivery_timeout_s=DELIVERY_TIMEOUT_S) as publisher,
        pytest.raises(
            DeliveryFailed, match=f"no broker could be reached at {closed_port} .*Connection refused"
        ) as told,
    ):
        publisher.deliver("data_updated", {}, id="id-1")
    assert (told.value.event, told.value.id, told.value.reason) == ("data_updated", "id-1", "_MSG_TIMED_OUT")
    assert capsys.readouterr().err == "", "what is raised is not said a second time"


def test_publishing_tells_the_callback_and_stderr_and_counts(
    closed_port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes: list[Delivery] = []
    with Publisher(closed_port, delivery_timeout_s=DELIVERY_TIMEOUT_S) as publisher:
        first = publisher.publish("data_updated", on_delivery=outcomes.append)
        second = publisher.publish("data_updated")
        assert publisher.flush(60) == 2
        assert publisher.flush(60) == 0
    assert [(outcome.id, outcome.error is None) for outcome in outcomes] == [(first, False)]
    lines = capsys.readouterr().err.splitlines()
    assert sorted(id for id in (first, second) for line in lines if id in line) == sorted([first, second])
    assert len(lines) == 2


def test_closing_gives_up_in_time_and_tells_what_was_left(closed_port: str, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes: list[Delivery] = []
    publisher = Publisher(closed_port, close_timeout_s=0.1)
    first = publisher.publish("data_updated", on_delivery=outcomes.append)
    publisher.publish_many("phase_of_the_moon", [{}] * 30)
    ids = publisher.publish_many("data_updated", [{}] * 2, on_delivery=outcomes.append)
    assert publisher.close() == 33
    assert publisher.close() == 0
    assert [outcome.error.reason for outcome in outcomes if outcome.error] == ["_PURGE_QUEUE"] * 3
    assert {first, *ids} == {outcome.id for outcome in outcomes}
    said = capsys.readouterr().err
    # Two threads report at the end, and either may write some of them.
    of_the_batch = re.findall(r": (?:(\d+) times: )?Event phase_of_the_moon \(one of publish_many\)", said)
    assert sum(int(times or 1) for times in of_the_batch) == 30
    assert all(f"Event data_updated (id {outcome.id}) was not delivered" in said for outcome in outcomes)


def test_a_closed_publisher_says_so(closed_port: str) -> None:
    publisher = Publisher(closed_port)
    publisher.close()
    for publish in (publisher.publish, publisher.deliver):
        with pytest.raises(PublisherUnusable, match="is closed: open a new one"):
            publish("e", {})
    with pytest.raises(PublisherUnusable):
        publisher.publish_many("e", [{}])
    assert publisher.flush() == 0


def test_a_full_queue_is_waited_for_and_then_refused(closed_port: str) -> None:
    two_at_most = {"queue.buffering.max.messages": "2"}
    with Publisher(closed_port, kafka=two_at_most, queue_timeout_s=0.1, close_timeout_s=0) as publisher:
        publisher.publish("e")
        with pytest.raises(QueueFull, match=r"Event e .* found no room in the queue") as refusal:
            publisher.publish_many("e", [{}] * 3)
        assert len(refusal.value.ids) == 1
        with pytest.raises(QueueFull):
            publisher.publish("e")


def test_a_batch_that_ends_early_names_what_it_has_queued(closed_port: str) -> None:
    outcomes: list[Delivery] = []
    with Publisher(closed_port, close_timeout_s=0) as publisher:
        for on_delivery in (None, outcomes.append):
            with pytest.raises(HeadracePublisherError, match="`a` is nan") as refusal:
                publisher.publish_many("e", [{}, {}, {"a": float("nan")}], on_delivery=on_delivery)
            assert len(refusal.value.ids) == 2
    assert [outcome.id for outcome in outcomes] == list(refusal.value.ids)


def test_a_callback_that_would_wait_for_itself_is_refused(closed_port: str) -> None:
    refusals: list[str] = []

    def on_delivery(delivery: Delivery) -> None:
        for action in (publisher.flush, publisher.close, lambda: publisher.deliver("e")):
            try:
                action()
            except PublisherUnusable as error:
                refusals.append(str(error))
        publisher.publish("again", id=delivery.id)

    with Publisher(closed_port, delivery_timeout_s=DELIVERY_TIMEOUT_S, close_timeout_s=60) as publisher:
        publisher.publish("e", on_delivery=on_delivery)
        publisher.publish("e")
        assert publisher.flush(60) == 3
    assert [refusal.partition(" from an on_delivery callback")[0] for refusal in refusals] == [
        "Do not flush",
        "Do not close",
        "Do not deliver",
    ]


async def test_the_asyncio_form_raises_for_each_event(closed_port: str) -> None:
    async with AsyncPublisher(closed_port, delivery_timeout_s=DELIVERY_TIMEOUT_S) as publisher:
        outcomes = await asyncio.gather(
            *(publisher.publish("e", {}, id=str(number)) for number in range(20)), return_exceptions=True
        )
    assert [outcome.id for outcome in outcomes if isinstance(outcome, DeliveryFailed)] == [
        str(number) for number in range(20)
    ]


async def test_a_full_queue_refuses_in_the_asyncio_form_too(closed_port: str) -> None:
    one_at_most = {"queue.buffering.max.messages": "1"}
    async with AsyncPublisher(closed_port, kafka=one_at_most, queue_timeout_s=0.1, close_timeout_s=0) as publisher:
        first = asyncio.create_task(publisher.publish("e"))
        with pytest.raises(QueueFull):
            await asyncio.gather(publisher.publish("e"), publisher.publish("e"))
        await publisher.close()
        with pytest.raises(DeliveryFailed, match="still waiting for the brokers"):
            await first


async def test_the_failure_of_an_event_that_nobody_awaits_any_more_goes_to_stderr(
    closed_port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with AsyncPublisher(closed_port, close_timeout_s=0) as publisher:
        waiting = asyncio.create_task(publisher.publish("e", id="id-1"))
        await asyncio.sleep(0)  # Lets the task begin.
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await asyncio.sleep(0)  # Lets the outcome arrive that closing brought.
    await publisher.flush()
    assert "Event e (id id-1) was not delivered" in capsys.readouterr().err


def test_an_async_publisher_belongs_to_one_loop(closed_port: str) -> None:
    async def use() -> None:
        with pytest.raises(DeliveryFailed):
            await publisher.publish("e")

    publisher = AsyncPublisher(closed_port, delivery_timeout_s=DELIVERY_TIMEOUT_S)
    asyncio.run(use())
    with pytest.raises(PublisherUnusable, match="another event loop"):
        asyncio.run(use())
    asyncio.run(publisher.close())


def run(program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=cwd
    )


def test_the_end_of_the_process_tells_what_was_not_delivered(closed_port: str, tmp_path: Path) -> None:
    program = """
import sys
from headrace_publisher import ArgoEvent, Publisher
publisher = Publisher(sys.argv[1], close_timeout_s=0.2)
publisher.publish("data_updated", id="id-1", on_delivery=lambda delivery: print(delivery.error.reason))
publisher.publish("data_updated", id="id-2")
print("ended")
"""
    ended = run(program, closed_port, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "ended\n_PURGE_QUEUE\n")
    assert "Event data_updated (id id-1) was not delivered: it was still waiting" in ended.stderr
    assert "Event data_updated (id id-2) was not delivered: it was still waiting" in ended.stderr
    assert ended.stderr.count("\n") == 2


def test_argo_events_fail_loudly_only_if_asked_to(
    closed_port: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_KAFKA_MESSAGE_TIMEOUT_MS", "100")
    with pytest.raises(DeliveryFailed, match=f"no broker could be reached at {closed_port}"):
        ArgoEvent("e", url=f"kafka://{closed_port}").publish(ignore_errors=False)
    assert capsys.readouterr().err == ""


def test_settings_that_kafkas_client_does_not_know_are_named(closed_port: str) -> None:
    with pytest.raises(NotConfigured, match=r'No such configuration property: "no\.such"'):
        Publisher(closed_port, kafka={"no.such": "1"})


def test_importing_the_package_leaves_kafkas_client_and_asyncio_alone(tmp_path: Path) -> None:
    program = """
import sys
import headrace_publisher
print(sorted({"confluent_kafka", "asyncio"} & sys.modules.keys()))
headrace_publisher.AsyncPublisher
print(sorted({"confluent_kafka", "asyncio"} & sys.modules.keys()))
"""
    assert run(program, cwd=tmp_path).stdout.splitlines() == ["[]", "['asyncio']"]
