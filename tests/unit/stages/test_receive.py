"""HTTP requests become records that the router reads as the same events, or are refused as a whole."""

from __future__ import annotations

import base64
import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.model import bounds
from headrace.model.event import Position, ReadEvent
from headrace.stages.read import RawRecord, read
from headrace.stages.receive import BATCHED, STRUCTURED, Fault, ReceivedEvent, Refused, Request, receive
from tests.unit.stages.build import NOW_MS
from tests.unit.stages.test_read_anything import envelopes, names, objects, scalars, values

UUID = "3d7b1a52-0f1c-4b8e-9a51-6f3a2f2b9c11"
TIME = "2026-05-01T12:00:00Z"
TIME_MS = 1_777_636_800_000
RESERVED = frozenset({"headrace.triggers"})


def taken(request: Request) -> list[ReceivedEvent]:
    """Receive a request that must be taken."""
    outcome = receive(request, NOW_MS, RESERVED)
    assert not isinstance(outcome, Refused), outcome
    return outcome


def refused(request: Request) -> Refused:
    """Receive a request that must be refused."""
    outcome = receive(request, NOW_MS, RESERVED)
    assert isinstance(outcome, Refused), outcome
    assert outcome.message
    return outcome


def read_back(event: ReceivedEvent) -> ReadEvent:
    """Read a record as the router will."""
    outcome = read(RawRecord(Position(event.name, 0, 5), event.key, event.value, event.headers, NOW_MS), NOW_MS)
    assert isinstance(outcome, ReadEvent), outcome
    return outcome


def envelope(name: object = "data_updated", **payload: Any) -> bytes:
    return json.dumps({"name": name, "payload": payload}).encode()


def cloud_event(**fields: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "ce-1", "source": "/s", "type": "data_updated", "time": TIME, **fields}


def binary(body: bytes, content_type: str = "application/json", **attributes: str | None) -> Request:
    """A binary-mode request; None takes an attribute away."""
    whole = {"specversion": "1.0", "id": "ce-1", "source": "/s", "type": "data_updated", **attributes}
    return Request(body, content_type, tuple((name, text) for name, text in whole.items() if text is not None))


def structured(event: object, content_type: str = STRUCTURED) -> Request:
    return Request(json.dumps(event).encode(), content_type)


def batch(*events: object) -> Request:
    return Request(json.dumps(events).encode(), BATCHED)


@pytest.mark.parametrize("content_type", ["application/json", "", "application/x-www-form-urlencoded"])
def test_a_metaflow_envelope_passes_as_it_came(content_type: str) -> None:
    body = b'{"name": "data_updated", "payload": {"id": "%s", "timestamp": 1777636800, "x": 1.10}}' % UUID.encode()
    (event,) = taken(Request(body, content_type))
    assert event == ReceivedEvent("data_updated", body)
    read = read_back(event)
    assert (read.event.id, read.event.time_ms) == (UUID, TIME_MS)
    assert json.loads(read.event.payload)["x"] == 1.1 and '"x": 1.10' in read.event.payload


def test_a_binary_cloudevent_brings_its_attributes_as_headers() -> None:
    request = binary(b'{"a": 12345678901234567890123}', time=TIME, partitionkey="k", subject="na%C3%AFve%20%25")
    (event,) = taken(request)
    assert (event.name, event.value, event.key) == ("data_updated", request.body, b"k")
    assert dict(event.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"ce-1",
        "ce_source": b"/s",
        "ce_type": b"data_updated",
        "ce_time": TIME.encode(),
        "ce_partitionkey": b"k",
        "ce_subject": "naïve %".encode(),
        "content-type": b"application/json",
    }
    read = read_back(event)
    assert (read.event.id, read.event.time_ms) == ("ce-1", TIME_MS)
    assert read.event.payload == request.body.decode()


def test_a_binary_cloudevent_is_its_data_even_if_that_looks_like_an_envelope() -> None:
    (event,) = taken(binary(envelope(x=1)))
    assert json.loads(read_back(event).event.payload) == {"name": "data_updated", "payload": {"x": 1}}


def test_a_binary_cloudevent_without_data_has_an_empty_payload() -> None:
    (event,) = taken(binary(b"", content_type=""))
    assert read_back(event).event.payload == "{}"


@pytest.mark.parametrize("content_type", [STRUCTURED, "Application/CloudEvents+JSON; charset=utf-8"])
def test_a_structured_cloudevent_passes_as_it_came(content_type: str) -> None:
    request = structured(cloud_event(data={"a": 1}, partitionkey="k"), content_type)
    (event,) = taken(request)
    assert event == ReceivedEvent("data_updated", request.body, (("content-type", STRUCTURED.encode()),), b"k")
    read = read_back(event)
    assert (read.event.id, read.event.time_ms, read.fields) == ("ce-1", TIME_MS, {"a": 1})


def test_structured_data_may_be_base64() -> None:
    (event,) = taken(structured(cloud_event(data_base64=base64.b64encode(b'{"a": 1}').decode())))
    assert read_back(event).fields == {"a": 1}


def test_a_batch_is_its_elements_by_their_own_text() -> None:
    first = b'{"specversion":"1.0","id":"1","source":"/s","type":"a","data":{"x":1.10,"big":123456789012345678901}}'
    second = b'{ "specversion" : "1.0", "id":"]},{[","source":"/s","type":"b" }'
    events = taken(Request(b" [ %s\n,\t%s ] " % (first, second), BATCHED))
    assert [(event.name, event.value) for event in events] == [("a", first), ("b", second)]
    assert '"x":1.10' in read_back(events[0]).event.payload and "123456789012345678901" in events[0].value.decode()
    assert read_back(events[1]).event.id == "]},{["


def test_an_empty_batch_brings_nothing() -> None:
    assert taken(Request(b" [ ] ", BATCHED)) == []


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ({"specversion": "1.0"}, Fault.BAD_ENVELOPE),
        (cloud_event(type="no topic/"), Fault.BAD_NAME),
        (cloud_event(time="soon"), Fault.BAD_TIME),
        (cloud_event(data=[1]), Fault.NOT_AN_OBJECT),
        ("text", Fault.NOT_AN_OBJECT),
    ],
)
def test_one_bad_event_refuses_the_whole_batch_by_its_index(bad: object, fault: Fault) -> None:
    outcome = refused(batch(cloud_event(), cloud_event(), bad, cloud_event()))
    assert (outcome.fault, outcome.index) == (fault, 2)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", Fault.NOT_JSON),
        (b"rows=5", Fault.NOT_JSON),
        (b"\xff\xfe", Fault.NOT_JSON),
        (b'{"name": "a", "payload": {"x": NaN}}', Fault.NOT_JSON),
        (b'{"name": "a", "payload": {}} ' * 2, Fault.NOT_JSON),
        (b"[]", Fault.NOT_AN_OBJECT),
        (b"null", Fault.NOT_AN_OBJECT),
        (b"{}", Fault.BAD_ENVELOPE),
        (b'{"name": "a"}', Fault.BAD_ENVELOPE),
        (b'{"name": "a", "payload": {}, "more": 1}', Fault.BAD_ENVELOPE),
        (b'{"name": "a", "payload": null}', Fault.NOT_AN_OBJECT),
        (b'{"name": "a", "payload": "text"}', Fault.NOT_AN_OBJECT),
        (b'{"name": 5, "payload": {}}', Fault.BAD_NAME),
        (b'{"name": "", "payload": {}}', Fault.BAD_NAME),
        (b'{"name": "..", "payload": {}}', Fault.BAD_NAME),
        (b'{"name": "a/b", "payload": {}}', Fault.BAD_NAME),
        (b'{"name": "a\\nb", "payload": {}}', Fault.BAD_NAME),
        (envelope("x" * 250), Fault.BAD_NAME),
        (envelope(id=UUID, timestamp=NOW_MS / 1000 + 3_600), Fault.FROM_THE_FUTURE),
        (envelope(id="x" * 2_000, pathspec="x" * 2_000), Fault.BAD_ID),
    ],
)
def test_a_body_that_is_no_envelope_is_refused(body: bytes, fault: Fault) -> None:
    outcome = refused(Request(body))
    assert (outcome.fault, outcome.index) == (fault, None)


@pytest.mark.parametrize("name", ["headrace.triggers", "__consumer_offsets", "__transaction_state"])
def test_topics_that_are_not_for_events_take_none(name: str) -> None:
    for request in (Request(envelope(name)), binary(b"{}", type=name), structured(cloud_event(type=name))):
        assert refused(request).fault is Fault.BAD_NAME


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        (binary(b"{}", specversion=None), Fault.BAD_ENVELOPE),
        (binary(b"{}", specversion="0.3"), Fault.BAD_ENVELOPE),
        (binary(b"{}", id=None), Fault.BAD_ENVELOPE),
        (binary(b"{}", id=""), Fault.BAD_ENVELOPE),
        (binary(b"{}", source=None), Fault.BAD_ENVELOPE),
        (binary(b"{}", type=None), Fault.BAD_ENVELOPE),
        (binary(b"{}", type="a b"), Fault.BAD_NAME),
        (binary(b"{}", time="soon"), Fault.BAD_TIME),
        (binary(b"{}", id="x" * 1_025), Fault.BAD_ID),
        (binary(b"{}", subject="%FF"), Fault.BAD_ENVELOPE),
        (binary(b"{}", subject="\udcff"), Fault.BAD_ENVELOPE),
        (binary(b"{}", **{"not-a-name": "x"}), Fault.BAD_ENVELOPE),
        (Request(b"{}", "", (*binary(b"").attributes, ("id", "ce-2"))), Fault.BAD_ENVELOPE),
        (binary(b"[1]"), Fault.NOT_AN_OBJECT),
        (binary(b"text", content_type="text/plain"), Fault.NOT_JSON),
        (binary(b"{}", content_type="application/cloudevents+xml"), Fault.UNKNOWN_FORMAT),
        (structured([cloud_event()]), Fault.NOT_AN_OBJECT),
        (structured(cloud_event(id=7)), Fault.BAD_ENVELOPE),
        (structured(cloud_event(data_base64="?")), Fault.BAD_ENVELOPE),
        (structured(cloud_event(), BATCHED), Fault.NOT_AN_OBJECT),
        (Request(b"[", BATCHED), Fault.NOT_JSON),
    ],
)
def test_a_cloudevent_that_cannot_be_read_is_refused(request_: Request, fault: Fault) -> None:
    assert refused(request_).fault is fault


def test_an_event_that_the_router_will_find_too_large_is_taken() -> None:
    body = envelope(x="y" * bounds.PAYLOAD_BYTES_MAX)
    assert taken(Request(body)) == [ReceivedEvent("data_updated", body)]


anything = st.one_of(st.text(max_size=12), st.sampled_from(["1.0", "data_updated", TIME, "%41", "headrace.triggers"]))
requests = st.builds(
    Request,
    st.one_of(
        st.binary(max_size=60),
        envelopes(objects).map(lambda value: json.dumps(value).encode()),
        st.lists(envelopes(objects), max_size=4).map(lambda value: json.dumps(value).encode()),
    ),
    st.one_of(st.sampled_from(["", "application/json", STRUCTURED, BATCHED]), st.text(max_size=30)),
    st.one_of(
        st.just(()),
        st.dictionaries(
            st.sampled_from(["specversion", "id", "source", "type", "time", "partitionkey", "x-y"]), anything
        ).map(lambda attributes: tuple(attributes.items())),
    ),
)


@given(requests)
def test_whatever_comes_is_refused_with_a_reason_or_read_by_the_router(request: Request) -> None:
    outcome = receive(request, NOW_MS, RESERVED)
    if isinstance(outcome, Refused):
        assert isinstance(outcome.fault, Fault)
        outcome.message.encode()
        return
    for event in outcome:
        assert read_back(event).event.name == event.name not in RESERVED


@given(st.lists(st.tuples(st.text(min_size=1, max_size=20), st.dictionaries(names, values, max_size=4)), max_size=6))
@example([("]", {"[": "],"}), ('"', {})])
def test_a_batch_is_the_same_as_its_events_one_by_one(pairs: list[tuple[str, dict[str, Any]]]) -> None:
    events = [cloud_event(id=id_, data=data) for id_, data in pairs]
    together = taken(batch(*events))
    assert together == [one for event in events for one in taken(structured(event))]


@given(st.dictionaries(st.text(max_size=8), scalars, max_size=5), st.booleans())
def test_an_envelope_and_a_binary_event_keep_every_character(payload: dict[str, Any], ascii_only: bool) -> None:
    text = json.dumps(payload, ensure_ascii=ascii_only, indent=1).encode()
    (event,) = taken(binary(text))
    assert read_back(event).event.payload == text.decode()
    whole = b'{"payload" : %s, "name": "data_updated"}' % text
    (enveloped,) = taken(Request(whole))
    assert enveloped.value == whole
    assert orjson.loads(read_back(enveloped).event.payload) == orjson.loads(text)


@pytest.mark.parametrize("depth", [100, 250, 600, 1_000, 1_020, 2_000, 100_000])
@pytest.mark.parametrize("content_type", ["", STRUCTURED, BATCHED])
def test_deep_nesting_is_read_or_refused(depth: int, content_type: str) -> None:
    deep = b"[" * depth + b"]" * depth
    body = {
        "": b'{"name":"a","payload":{"x":%s}}',
        STRUCTURED: b'{"specversion":"1.0","id":"1","source":"/s","type":"a","data":{"x":%s}}',
        BATCHED: b'[{"specversion":"1.0","id":"1","source":"/s","type":"a","data":{"x":%s}}]',
    }[content_type] % deep
    outcome = receive(Request(body, content_type), NOW_MS, RESERVED)
    if not isinstance(outcome, Refused):
        assert read_back(outcome[0]).event.name == "a"
