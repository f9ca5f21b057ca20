"""Reading records: identity, time and the formats of the interface page."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from headrace.model import bounds
from headrace.model.dead_letter import Reason
from headrace.stages.read import read
from tests.unit.stages.build import NOW_MS, make_raw, read_event, read_refusal

UUID = "3d7b1a52-0f1c-4b8e-9a51-6f3a2f2b9c11"
KAFKA_MS = NOW_MS - 1_000


def structured(**fields: Any) -> bytes:
    """A structured CloudEvent."""
    return json.dumps({"specversion": "1.0", "id": "ce-1", "source": "/s", "type": "t", **fields}).encode()


def metaflow(**payload: Any) -> bytes:
    """A Metaflow envelope for the topic of `make_raw`."""
    return json.dumps({"name": "data_updated", "payload": payload}).encode()


def test_bare_json_is_named_by_its_place_and_timed_by_kafka() -> None:
    read = read_event(b'{"rows": 5}')
    assert (read.event.id, read.event.name) == ("data_updated:2:7", "data_updated")
    assert (read.event.partition, read.event.offset, read.event.time_ms) == (2, 7, KAFKA_MS)
    assert read.event.payload == '{"rows": 5}'
    assert read.fields == {"rows": 5}


def test_two_bare_records_are_two_events_however_alike() -> None:
    assert read_event(b"{}", offset=1).event.id != read_event(b"{}", offset=2).event.id
    assert read_event(b"{}", partition=1).event.id != read_event(b"{}", partition=2).event.id
    assert read_event(b"{}", topic="a").event.id != read_event(b"{}", topic="b").event.id


def test_a_bare_payloads_own_id_and_time_are_just_fields() -> None:
    event = read_event(json.dumps({"id": UUID, "pathspec": UUID, "timestamp": 5, "time": "x"}).encode()).event
    assert (event.id, event.time_ms) == ("data_updated:2:7", KAFKA_MS)


def test_a_topic_without_timestamps_gives_the_routers_clock() -> None:
    assert read_event(b"{}", timestamp_ms=None).event.time_ms == NOW_MS


def test_binary_cloudevents_headers_give_id_and_time() -> None:
    event = read_event(b'{"a":1}', ce_id="ce-7", ce_time="2026-05-01T12:00:00.250Z", ce_specversion="1.0").event
    assert (event.id, event.time_ms, event.payload) == ("ce-7", 1_777_636_800_250, '{"a":1}')


def test_an_empty_ce_id_is_none() -> None:
    assert read_event(b"{}", ce_id="").event.id == "data_updated:2:7"


def test_headers_are_read_as_text() -> None:
    assert read_event(b"{}", team="growth ü").headers == {"team": "growth ü"}


@pytest.mark.parametrize("content_type", ["application/cloudevents+json; charset=utf-8", None])
def test_a_structured_cloudevent_gives_id_time_and_data(content_type: str | None) -> None:
    headers = {"content_type": content_type} if content_type else {}
    read = read_event(structured(time="2026-05-01T12:00:00Z", data={"rows": 5}), **headers)
    assert (read.event.id, read.event.time_ms) == ("ce-1", 1_777_636_800_000)
    assert json.loads(read.event.payload) == read.fields == {"rows": 5}


def test_a_structured_cloudevent_may_lack_time_and_data() -> None:
    event = read_event(structured()).event
    assert (event.id, event.time_ms, event.payload) == ("ce-1", KAFKA_MS, "{}")


def test_a_structured_cloudevents_data_may_be_base64() -> None:
    data = base64.b64encode(b'{"rows": 1.10}').decode()
    assert read_event(structured(data_base64=data)).event.payload == '{"rows": 1.10}'


def test_ce_headers_come_first_even_where_the_payload_looks_structured() -> None:
    """In binary mode the value is the data, whatever it looks like."""
    event = read_event(structured(time="2026-05-01T12:00:00Z"), ce_id="header", ce_time="2026-05-01T12:00:01Z").event
    assert (event.id, event.time_ms) == ("header", 1_777_636_801_000)


@pytest.mark.parametrize(
    "value",
    [
        b'{"a": 1}',
        b'{"specversion":"1.0","id":1,"source":"s","type":"t"}',
        b'{"specversion":"0.3","id":"1","source":"s","type":"t"}',
        structured(data_base64="not base64!"),
        structured(data_base64=5),
    ],
)
def test_a_structured_cloudevent_that_is_none_is_a_bad_envelope(value: bytes) -> None:
    refusal = read_refusal(value, content_type="application/cloudevents+json")
    assert refusal.reason == Reason.BAD_ENVELOPE


@pytest.mark.parametrize("data", [[1], "text", 5, True])
def test_a_cloudevents_data_must_be_an_object(data: Any) -> None:
    assert read_refusal(structured(data=data)).reason == Reason.NOT_AN_OBJECT


@pytest.mark.parametrize(
    ("payload", "event_id"),
    [
        ({"id": UUID}, UUID),
        ({"id": "FooFlow/12", "pathspec": "FooFlow/12"}, "FooFlow/12"),
        ({"id": "FooFlow/12", "pathspec": "FooFlow/13"}, "data_updated:2:7"),
        ({"id": "customer-5"}, "data_updated:2:7"),
        ({"id": 5}, "data_updated:2:7"),
        ({"id": None, "pathspec": None}, "data_updated:2:7"),
        ({}, "data_updated:2:7"),
    ],
)
def test_a_metaflow_envelopes_id_is_a_uuid_or_its_pathspec(payload: dict[str, Any], event_id: str) -> None:
    read = read_event(metaflow(**payload))
    assert read.event.id == event_id
    assert json.loads(read.event.payload) == read.fields == payload


def test_ce_id_comes_before_a_metaflow_envelopes_id() -> None:
    assert read_event(metaflow(id=UUID), ce_id="header").event.id == "header"


@pytest.mark.parametrize(
    ("stamp", "time_ms"),
    [
        (1_777_636_800, 1_777_636_800_000),
        (1_777_636_800.25, 1_777_636_800_250),
        ("1777636800", KAFKA_MS),
        (True, KAFKA_MS),
        (None, KAFKA_MS),
    ],
)
def test_a_metaflow_envelopes_timestamp_is_its_time_in_seconds(stamp: Any, time_ms: int) -> None:
    assert read_event(metaflow(timestamp=stamp)).event.time_ms == time_ms


def test_ce_time_comes_before_a_metaflow_envelopes_timestamp() -> None:
    event = read_event(metaflow(timestamp=5), ce_time="2026-05-01T12:00:00Z").event
    assert event.time_ms == 1_777_636_800_000


@pytest.mark.parametrize(
    "value",
    [
        b'{"name": "other_event", "payload": {"a": 1}}',
        b'{"name": "data_updated", "payload": {"a": 1}, "more": 1}',
        b'{"name": "data_updated", "payload": [1]}',
        b'{"name": "data_updated"}',
    ],
)
def test_what_is_no_metaflow_envelope_is_bare_json(value: bytes) -> None:
    assert read_event(value).event.payload == value.decode()


@pytest.mark.parametrize("form", ["bare", "metaflow", "structured"])
def test_the_payload_keeps_every_digit(form: str) -> None:
    numbers = b'{"a":9007199254740993,"b":1208925819614629174706176,"c":1.10,"d":0.1234567890123456789012345}'
    value = {
        "bare": numbers,
        "metaflow": b'{"name":"data_updated","payload":' + numbers + b"}",
        "structured": structured()[:-1] + b',"data":' + numbers + b"}",
    }[form]
    assert read_event(value).event.payload == numbers.decode()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.NOT_JSON),
        (b"", Reason.NOT_JSON),
        (b"{", Reason.NOT_JSON),
        (b"\xff{}", Reason.NOT_JSON),
        (b'{"a":NaN}', Reason.NOT_JSON),
        (b"[]", Reason.NOT_AN_OBJECT),
        (b'[{"a":1}]', Reason.NOT_AN_OBJECT),
        (b'"text"', Reason.NOT_AN_OBJECT),
        (b"null", Reason.NOT_AN_OBJECT),
        (b"5", Reason.NOT_AN_OBJECT),
        (b"true", Reason.NOT_AN_OBJECT),
        (b'{"a":"' + b"x" * bounds.PAYLOAD_BYTES_MAX + b'"}', Reason.PAYLOAD_TOO_LARGE),
    ],
)
def test_what_is_no_json_object_is_refused(value: bytes | None, reason: Reason) -> None:
    refusal = read_refusal(value)
    assert refusal.reason == reason
    assert refusal.message


def test_the_largest_payload_is_read() -> None:
    padding = bounds.PAYLOAD_BYTES_MAX - len(b'{"a":""}')
    assert read_event(b'{"a":"' + b"x" * padding + b'"}').fields["a"] == "x" * padding


@pytest.mark.parametrize(
    "text", ["yesterday", "", "2026-05-01", "2026-05-01T12:00:00", "2026-13-01T12:00:00Z", "1777636800", "²026-01-01"]
)
def test_a_bad_time_is_refused(text: str) -> None:
    assert read_refusal(b"{}", ce_time=text).reason == Reason.BAD_TIME
    assert read_refusal(structured(time=text)).reason == Reason.BAD_TIME


@pytest.mark.parametrize("time", [5, True, ["2026-05-01T12:00:00Z"], {}])
def test_a_structured_time_that_is_no_text_is_refused(time: Any) -> None:
    assert read_refusal(structured(time=time)).reason == Reason.BAD_TIME


def test_an_event_may_lie_five_minutes_ahead_and_no_more() -> None:
    five_minutes_ms = 5 * 60 * 1_000
    assert read_event(b"{}", timestamp_ms=NOW_MS + five_minutes_ms).event.time_ms == NOW_MS + five_minutes_ms
    assert read_refusal(b"{}", timestamp_ms=NOW_MS + five_minutes_ms + 1).reason == Reason.FROM_THE_FUTURE
    assert read_refusal(b"{}", ce_time="9999-12-31T23:59:59Z").reason == Reason.FROM_THE_FUTURE


def test_an_id_has_a_bound() -> None:
    longest = "i" * bounds.EVENT_ID_CHARACTERS_MAX
    assert read_event(b"{}", ce_id=longest).event.id == longest
    assert read_refusal(b"{}", ce_id=longest + "i").reason == Reason.BAD_ID


def test_reading_does_not_depend_on_anything_but_its_arguments() -> None:
    record = make_raw(metaflow(id=UUID, timestamp=1_777_636_800))
    assert read(record, NOW_MS) == read(record, NOW_MS)
