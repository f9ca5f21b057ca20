"""Whatever bytes an event topic holds, reading gives an event or a reason, and a retry gives the same event."""

from __future__ import annotations

import base64
import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.model.dead_letter import Reason, event_dead_letter
from headrace.model.event import Position, ReadEvent
from headrace.model.times import instant_text
from headrace.stages.expression import variables
from headrace.stages.read import RawRecord, Unreadable, read
from tests.unit.stages.build import NOW_MS, make_raw

TOPIC = "data_updated"

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["1.0", TOPIC, "2026-05-01T12:00:00Z", "3d7b1a52-0f1c-4b8e-9a51-6f3a2f2b9c11"]),
)
names = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["name", "payload", "id", "pathspec", "timestamp", "specversion", "source", "type", "time", "data"]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=6)),
    max_leaves=12,
)
objects = st.dictionaries(names, values, max_size=6)


def envelopes(data: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects that are, or nearly are, one of the formats with `data` inside."""
    return st.one_of(
        data,
        st.fixed_dictionaries({"name": st.sampled_from([TOPIC, "other"]), "payload": data}),
        st.fixed_dictionaries(
            {"specversion": st.just("1.0"), "id": scalars, "source": st.just("/s"), "type": st.just("t"), "data": data},
            optional={"time": scalars},
        ),
    )


headers = st.lists(
    st.tuples(
        st.sampled_from(["ce_id", "ce_time", "content-type", "team"]),
        st.one_of(
            st.none(),
            st.binary(max_size=20),
            st.sampled_from([b"application/cloudevents+json", b"2026-05-01T12:00:00Z", b"0001-01-01T00:00:00+14:00"]),
        ),
    ),
    max_size=3,
).map(tuple)


def check(outcome: ReadEvent | Unreadable) -> None:
    """What holds of every outcome: a reason with a sentence, or an event that all later stages can handle."""
    if isinstance(outcome, Unreadable):
        assert isinstance(outcome.reason, Reason)
        assert outcome.message
        return
    event = outcome.event
    assert event.id
    assert isinstance(orjson.loads(event.payload), dict)
    instant_text(event.time_ms)
    variables(event, outcome.fields, outcome.headers)


@given(st.binary(max_size=200), headers)
def test_any_bytes_give_an_event_or_a_reason(value: bytes, pairs: tuple[tuple[str, bytes | None], ...]) -> None:
    check(read(RawRecord(Position(TOPIC, 0, 0), None, value, pairs, NOW_MS), NOW_MS))


@given(envelopes(envelopes(objects)), headers)
def test_any_json_gives_an_event_or_a_reason(value: Any, pairs: tuple[tuple[str, bytes | None], ...]) -> None:
    record = RawRecord(Position(TOPIC, 0, 0), None, json.dumps(value).encode(), pairs, NOW_MS)
    check(read(record, NOW_MS))


@pytest.mark.parametrize("depth", [100, 250, 400, 600, 950, 1_000, 1_020, 2_000, 100_000])
@pytest.mark.parametrize("opening", [b'{"a":', b"["])
@pytest.mark.parametrize("form", [b"%s", b'{"name":"data_updated","payload":{"x":%s}}'])
def test_deep_nesting_gives_an_event_or_a_reason(depth: int, opening: bytes, form: bytes) -> None:
    closing = b"}" if opening.startswith(b"{") else b"]"
    check(read(make_raw(form % (opening * depth + b"1" + closing * depth)), NOW_MS))


@pytest.mark.parametrize(
    "number", [b"1e400", b"-1e400", b"1e-400", b"0e99999999999999999999", b"1e-99999999999999999999", b"1" * 5_000]
)
@pytest.mark.parametrize("form", [b'{"x":%s}', b'{"name":"data_updated","payload":{"x":%s}}'])
def test_extreme_numbers_give_an_event_or_a_reason(number: bytes, form: bytes) -> None:
    check(read(make_raw(form % number), NOW_MS))


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"])
def test_times_at_the_ends_of_the_calendar_give_an_event_or_a_reason(text: str) -> None:
    check(read(make_raw(b"{}", ce_time=text), NOW_MS))


@given(st.integers(1, 2_000_000_000_000))
def test_a_metaflow_timestamp_keeps_its_milliseconds(time_ms: int) -> None:
    value = json.dumps({"name": TOPIC, "payload": {"timestamp": time_ms / 1000}}).encode()
    outcome = read(make_raw(value), 2_000_000_000_000)
    assert isinstance(outcome, ReadEvent)
    assert outcome.event.time_ms == time_ms


@given(envelopes(envelopes(objects)))
@example({"name": TOPIC, "payload": {"name": TOPIC, "payload": {"x": 1}}})
def test_a_retried_dead_letter_is_the_same_event(value: Any) -> None:
    """Its id and time come from the headers, and its payload is not unwrapped a second time."""
    first = read(make_raw(json.dumps(value).encode()), NOW_MS)
    if isinstance(first, Unreadable):
        return
    letter = event_dead_letter(first.event, Reason.LATE, "it came late", "ml/model-refresh")
    pairs = tuple((name, base64.b64decode(text)) for name, text in letter.headers)
    assert letter.value is not None
    retry = RawRecord(Position(TOPIC, 0, 99), None, base64.b64decode(letter.value), pairs, NOW_MS)
    second = read(retry, NOW_MS)
    assert isinstance(second, ReadEvent)
    assert (second.event.id, second.event.time_ms) == (first.event.id, first.event.time_ms)
    assert second.event.payload == first.event.payload
