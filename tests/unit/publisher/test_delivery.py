"""How failures are explained and reported."""

from __future__ import annotations

import threading

import pytest

from headrace_publisher import Delivery
from headrace_publisher.delivery import LINES_MAX, FailureReport, call_back, describe
from headrace_publisher.settings import Location

LOCATION = Location("b:9092", "from HEADRACE_BOOTSTRAP_SERVERS")


@pytest.mark.parametrize(
    ("reason", "connection_error", "said"),
    [
        (
            "UNKNOWN_TOPIC_OR_PART",
            None,
            "no topic data_updated: deploy a trigger that waits for it, or create the topic",
        ),
        ("_UNKNOWN_TOPIC", "an older error", "no topic data_updated: deploy a trigger"),
        (
            "_MSG_TIMED_OUT",
            "Connection refused",
            "no broker could be reached at b:9092 (from HEADRACE_BOOTSTRAP_SERVERS): Connection refused",
        ),
        ("_MSG_TIMED_OUT", None, "the brokers at b:9092 (from HEADRACE_BOOTSTRAP_SERVERS) did not acknowledge it"),
        ("_PURGE_QUEUE", None, "still waiting for the brokers at b:9092 when the publisher was closed. Publish"),
        ("_PURGE_QUEUE", "Connection refused", "was closed (Connection refused)"),
        ("_PURGE_INFLIGHT", None, "it may have arrived. Publish it again with the same id"),
        ("TOPIC_EXCEPTION", None, "differs only in '.' and '_'"),
        ("TOPIC_AUTHORIZATION_FAILED", None, "Grant this user WRITE on the topic data_updated"),
        ("MSG_SIZE_TOO_LARGE", None, "Raise the topic's max.message.bytes"),
        ("_FATAL", None, "Close it and open a new one"),
        ("NOT_ENOUGH_REPLICAS", None, "librdkafka's words (NOT_ENOUGH_REPLICAS)"),
    ],
)
def test_each_reason_says_which_event_what_happened_and_what_to_do(
    reason: str, connection_error: str | None, said: str
) -> None:
    text = describe("data_updated", "id-1", reason, "librdkafka's words", LOCATION, connection_error)
    assert text.startswith("Event data_updated (id id-1) was not delivered: ")
    assert said in text
    assert text.endswith(".")


def test_an_event_of_a_batch_is_reported_without_an_id() -> None:
    text = describe("e", None, "_UNKNOWN_TOPIC", "", LOCATION, None)
    assert text.startswith("Event e (one of publish_many) was not delivered: ")


def test_a_report_is_written_once_with_a_line_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    report = FailureReport()
    report.add("one failed")
    report.add("two failed")
    assert capsys.readouterr().err == ""
    report.write()
    report.write()
    assert capsys.readouterr().err == "headrace-publisher: one failed\nheadrace-publisher: two failed\n"


def test_a_report_puts_equal_lines_together_and_ends_in_a_count(capsys: pytest.CaptureFixture[str]) -> None:
    report = FailureReport()
    for number in range(LINES_MAX + 5):
        report.add(f"event {number} failed")
    for _ in range(3):
        report.add("event 0 failed")
    report.write()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "headrace-publisher: 4 times: event 0 failed"
    assert lines[LINES_MAX - 1] == f"headrace-publisher: event {LINES_MAX - 1} failed"
    assert lines[LINES_MAX:] == ["headrace-publisher: 5 further events were not delivered either."]


def test_failures_are_counted_until_the_count_is_taken() -> None:
    report = FailureReport()

    def add_many() -> None:
        for _ in range(1000):
            report.add("failed")

    threads = [threading.Thread(target=add_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert report.take_count() == 4000
    assert report.take_count() == 0


def test_the_further_events_are_all_counted(capsys: pytest.CaptureFixture[str]) -> None:
    report = FailureReport()
    for number in range(LINES_MAX):
        report.add(f"event {number} failed")
    for _ in range(7):
        report.add("a batch failed")
    report.write()
    assert capsys.readouterr().err.splitlines()[LINES_MAX:] == [
        "headrace-publisher: 7 further events were not delivered either."
    ]


def test_a_callback_that_raises_is_shown_and_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(delivery: Delivery) -> None:
        raise ZeroDivisionError(delivery.id)

    call_back(broken, Delivery("e", "id-1"))
    shown = capsys.readouterr().err
    assert "The on_delivery callback of event e (id id-1) failed" in shown
    assert "ZeroDivisionError: id-1" in shown
