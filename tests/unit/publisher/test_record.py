"""What an event becomes on its topic, and what is refused, without Kafka."""

from __future__ import annotations

import math
import string
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum
from types import MappingProxyType
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_publisher import InvalidAttribute, InvalidEventName, InvalidPayload, PayloadTooLarge
from headrace_publisher.record import PAYLOAD_BYTES_MAX, RecordBuilder, build_record, check_event_name, encode_payload

SOURCE = "/tests"
NAME_CHARACTERS = string.ascii_letters + string.digits + "._-"

KEYS = st.text(st.characters(codec="utf-8"), max_size=8)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=12)
PAYLOADS = st.dictionaries(KEYS, VALUES, max_size=5)


class Tier(Enum):
    PROD = "prod"


@given(st.text(NAME_CHARACTERS, min_size=1, max_size=249).filter(lambda name: name not in (".", "..")))
def test_a_name_of_topic_characters_is_taken_as_it_is(name: str) -> None:
    assert check_event_name(name) == name


@given(
    st.text(NAME_CHARACTERS, max_size=5),
    st.characters(codec="utf-8").filter(lambda character: character not in NAME_CHARACTERS),
    st.text(NAME_CHARACTERS, max_size=5),
)
def test_a_name_with_any_other_character_is_refused(before: str, other: str, after: str) -> None:
    with pytest.raises(InvalidEventName, match="cannot name an event"):
        check_event_name(before + other + after)


@pytest.mark.parametrize("name", ["", ".", "..", "a" * 250, "data_updated\n", None, 7, b"data_updated"])
def test_a_name_that_no_topic_can_have_is_refused(name: object) -> None:
    with pytest.raises(InvalidEventName):
        check_event_name(name)


@given(PAYLOADS)
def test_the_value_is_the_payload_as_json(payload: dict[str, Any]) -> None:
    assert orjson.loads(encode_payload(payload, "e")) == payload


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (None, b"{}"),
        ({}, b"{}"),
        (MappingProxyType({"rows": 1}), b'{"rows":1}'),
        ({"pair": (1, 2)}, b'{"pair":[1,2]}'),
        ({"at": datetime(2026, 1, 31, 12, tzinfo=UTC)}, b'{"at":"2026-01-31T12:00:00+00:00"}'),
        ({"at": datetime(2026, 1, 31, 12)}, b'{"at":"2026-01-31T12:00:00"}'),
        ({"day": date(2026, 1, 31)}, b'{"day":"2026-01-31"}'),
        ({"id": uuid.UUID(int=1)}, b'{"id":"00000000-0000-0000-0000-000000000001"}'),
        ({"tier": Tier.PROD}, b'{"tier":"prod"}'),
        ({"text": "null and NaN"}, b'{"text":"null and NaN"}'),
        ({"nothing": None, "ratio": 0.5}, b'{"nothing":null,"ratio":0.5}'),
    ],
)
def test_what_a_payload_may_hold_besides_plain_json(payload: dict[str, Any] | None, value: bytes) -> None:
    assert encode_payload(payload, "e") == value


@pytest.mark.parametrize("payload", [[1], "text", 7, b"{}", {1, 2}])
def test_a_payload_that_is_no_object_is_refused(payload: Any) -> None:
    with pytest.raises(InvalidPayload, match=f"of event e must be a JSON object .*, not {type(payload).__name__}"):
        encode_payload(payload, "e")


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        ({"a": {"b": [1, {"c": math.nan}]}}, "`a.b[1].c` is nan"),
        ({"a": (0.5, -math.inf)}, "`a[1]` is -inf"),
        ({"a": None, "b": math.inf}, "`b` is inf"),
        ({1: "x"}, "the key 1 is not a string"),
        ({"a": {"b": {None: 1}}}, "the key None in `a.b` is not a string"),
        ({"a": [object()]}, "`a[0]` (object)"),
        ({"a": {"b": 2**64}}, "`a.b` (int)"),
        ({"a": "\ud800"}, "`a` (str)"),
        ({"a": b"bytes"}, "`a` (bytes)"),
    ],
)
def test_a_payload_that_is_not_json_is_refused_with_the_field_at_fault(payload: dict[Any, Any], fault: str) -> None:
    with pytest.raises(InvalidPayload) as refusal:
        encode_payload(payload, "e")
    assert fault in str(refusal.value)


def grafted(value: Any, path: list[int], graft: Any) -> Any:
    """`value` with `graft` put in place of the part to which the numbers lead."""
    if not path or not isinstance(value, list | dict) or not value:
        return graft
    if isinstance(value, list):
        at = path[0] % len(value)
        return [*value[:at], grafted(value[at], path[1:], graft), *value[at + 1 :]]
    chosen = list(value)[path[0] % len(value)]
    return {key: grafted(item, path[1:], graft) if key == chosen else item for key, item in value.items()}


@given(
    PAYLOADS.filter(bool),
    st.lists(st.integers(0, 9), min_size=1, max_size=4),
    st.sampled_from([math.nan, math.inf, -math.inf]),
)
def test_a_number_that_json_has_not_is_found_wherever_it_is(
    payload: dict[str, Any], path: list[int], number: float
) -> None:
    with pytest.raises(InvalidPayload, match=f"is {number}, which JSON has not"):
        encode_payload(grafted(payload, path, number), "e")


def nested(depth: int) -> dict[str, Any]:
    payload: dict[str, Any] = {"a": None}
    for _ in range(depth - 1):
        payload = {"a": payload}
    return payload


def test_nesting_is_bounded_and_so_are_cycles() -> None:
    assert encode_payload(nested(254), "e").count(b"{") == 254
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    for payload in (nested(255), cycle):
        with pytest.raises(InvalidPayload, match="nested deeper than 254 levels"):
            encode_payload(payload, "e")


def test_the_bound_is_on_the_bytes_of_the_json_text() -> None:
    def text(length: int) -> dict[str, str]:
        return {"t": "x" * (length - len('{"t":""}'))}

    assert len(encode_payload(text(PAYLOAD_BYTES_MAX), "e")) == PAYLOAD_BYTES_MAX
    with pytest.raises(PayloadTooLarge, match="of event e has 1,048,577 bytes as JSON, and 1,048,576 are allowed"):
        encode_payload(text(PAYLOAD_BYTES_MAX + 1), "e")
    with pytest.raises(PayloadTooLarge):
        encode_payload({"t": "ä"}, "e", payload_bytes_max=9)
    assert encode_payload({"t": "ä"}, "e", payload_bytes_max=10) == '{"t":"ä"}'.encode()


def test_headers_are_the_cloudevents_attributes() -> None:
    record = build_record(
        "data_updated",
        {"rows": 3},
        source=SOURCE,
        key="eu",
        id="id-1",
        time=datetime(2026, 1, 31, 13, 0, 0, 5, tzinfo=timezone(timedelta(hours=1))),
        headers={"ce_subject": "table", "trace": b"\xff"},
    )
    assert record.event == "data_updated"
    assert record.key == "eu"
    assert record.value == b'{"rows":3}'
    assert record.headers == {
        "ce_specversion": "1.0",
        "ce_id": "id-1",
        "ce_type": "data_updated",
        "ce_source": SOURCE,
        "ce_time": "2026-01-31T12:00:00.000005Z",
        "content-type": "application/json",
        "ce_subject": "table",
        "trace": b"\xff",
    }


def test_id_and_time_have_defaults_and_the_key_has_none() -> None:
    before = datetime.now(UTC)
    record = build_record("e", source=SOURCE)
    after = datetime.now(UTC)
    assert str(uuid.UUID(record.id)) == record.id == record.headers["ce_id"]
    assert before <= datetime.fromisoformat(str(record.headers["ce_time"])) <= after
    assert str(record.headers["ce_time"]).endswith("Z")
    assert record.key is None


# A day's distance from the ends of the calendar, as a time there may have no equivalent in UTC.
@given(st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.timezones()))
def test_any_aware_time_keeps_its_instant(time: datetime) -> None:
    for given_time in (time, time.astimezone(UTC).isoformat()):
        text = str(build_record("e", source=SOURCE, time=given_time).headers["ce_time"])
        assert datetime.fromisoformat(text) == time.astimezone(UTC)


@pytest.mark.parametrize("time", [datetime(2026, 1, 31), "2026-01-31T12:00:00", "yesterday", "", 1769860800.0])
def test_a_time_that_names_no_instant_is_refused(time: Any) -> None:
    with pytest.raises(InvalidAttribute, match="of event e is unusable"):
        build_record("e", source=SOURCE, time=time)


@pytest.mark.parametrize(
    "attributes",
    [
        {"id": ""},
        {"id": 7},
        {"key": 7},
        {"headers": {"ce_id": "x"}},
        {"headers": {"Content-Type": "text/plain"}},
        {"headers": {"": "x"}},
        {"headers": {"n": 7}},
        {"headers": {"n\0": "x"}},
        {"headers": {"\udc80": "x"}},
    ],
)
def test_unusable_ids_keys_and_headers_are_refused(attributes: dict[str, Any]) -> None:
    with pytest.raises(InvalidAttribute, match="event e"):
        build_record("e", source=SOURCE, **attributes)


def test_a_stream_makes_the_records_that_single_builds_make_each_with_an_id_of_its_own() -> None:
    builder = RecordBuilder("e", source=SOURCE, headers={"trace": "t"})
    time = datetime(2026, 1, 31, tzinfo=UTC)
    payloads = [{"number": number} for number in range(10_000)]
    ids = []
    for payload, (id, value, headers) in zip(payloads, builder.stream(iter(payloads), time=time), strict=True):
        single = builder.build(payload, id=id, time=time)
        assert (value, headers) == (single.value, single.headers)
        ids.append(id)
    assert len({uuid.UUID(id) for id in ids}) == 10_000
    assert all(str(uuid.UUID(id)) == id and uuid.UUID(id).version == 4 for id in ids)


def test_a_stream_ends_with_its_payloads_and_at_the_first_bad_one() -> None:
    builder = RecordBuilder("e", source=SOURCE)
    assert list(builder.stream([])) == []
    stream = builder.stream([{}, {"a": math.nan}, {}])
    assert next(stream)[1] == b"{}"
    with pytest.raises(InvalidPayload):
        next(stream)
