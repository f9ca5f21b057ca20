"""Keys: canonical, and never silently missing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model import bounds
from headrace.model.dead_letter import Reason
from headrace.model.event import ReadEvent
from headrace.stages.read import read
from headrace.stages.route import Routed, Routes
from tests.unit.stages.build import NOW_MS, make_raw, make_trigger, read_event

TRIGGER = make_trigger({"events": [{"name": "a", "key": "event.k"}, {"name": "b", "key": "event.k"}]})


def route(value: bytes, key: str = "event.k") -> Routed:
    """Route an event of topic a with the key `key`."""
    trigger = TRIGGER if key == "event.k" else make_trigger({"events": [{"name": "a", "key": key}, "b"]})
    return Routes([trigger]).route(read_event(value, topic="a"))


def key_of(text: str) -> str:
    (match,) = route(b'{"k": %s}' % text.encode()).matches
    return match.key


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('"eu"', '"eu"'),
        ('""', '""'),
        ('"gr\\u00fcn"', '"grün"'),
        ("1", "1"),
        ("1.0", "1"),
        ("1e2", "100"),
        ("-0.0", "0"),
        ("1.5", "1.5"),
        ("true", "true"),
        ("false", "false"),
        ("[1.0, 2]", "[1,2]"),
        ('{"b": 1.0, "a": {"d": null, "c": [2.0]}}', '{"a":{"c":[2],"d":null},"b":1}'),
    ],
)
def test_a_key_is_canonical_json(text: str, key: str) -> None:
    assert key_of(text) == key


@pytest.mark.parametrize(("one", "other"), [("1", '"1"'), ("1", "true"), ("0", "false"), ("[1]", "1"), ("0", '""')])
def test_different_values_are_different_keys(one: str, other: str) -> None:
    assert key_of(one) != key_of(other)


@given(
    st.recursive(st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=5)), st.lists, max_leaves=5)
)
def test_equal_values_are_one_key_however_they_are_written(value: object) -> None:
    loose, tight = json.dumps(value, indent=2), json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert key_of(loose) == key_of(tight)


def test_a_trigger_without_a_key_joins_all() -> None:
    (match,) = Routes([make_trigger({"events": ["a", "b"]})]).route(read_event(b'{"k": 1}', topic="a")).matches
    assert match.key == ""


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b"{}", "event.k"),
        (b'{"k": null}', "event.k"),
        (b'{"k": "text"}', "event.k.deeper"),
        (b'{"k": "text"}', "event.k + 1"),
        (b"{}", "b'bytes'"),
        (b"{}", "duration('1h')"),
        (b'{"k": 0.0}', "event.k / 0.0"),
        (b'{"k": 1.0}', "event.k / 0.0"),
    ],
)
def test_a_key_that_fails_or_is_null_or_is_no_json_is_rejected(value: bytes, key: str) -> None:
    routed = route(value, key)
    assert routed.matches == []
    (rejected,) = routed.rejected
    assert (rejected.trigger, rejected.reason) == ("ml/model-refresh", Reason.BAD_KEY)
    assert rejected.message


def test_a_filtered_event_needs_no_key() -> None:
    trigger = make_trigger({"events": [{"name": "a", "filter": "has(event.k)", "key": "event.k"}, "b"]})
    assert Routes([trigger]).route(read_event(b"{}", topic="a")).rejected == []


def test_a_key_has_a_bound_in_bytes() -> None:
    longest = "ü" * (bounds.KEY_BYTES_MAX // 2 - 1)
    assert len(route(json.dumps({"k": longest}).encode()).matches) == 1
    routed = route(json.dumps({"k": longest + "ü"}).encode())
    assert [rejected.reason for rejected in routed.rejected] == [Reason.BAD_KEY]


@pytest.mark.parametrize("depth", [200, 260, 500, 700, 1_000])
def test_a_deeply_nested_key_is_a_key_or_rejected(depth: int) -> None:
    outcome = read(make_raw(b'{"k":' + b"[" * depth + b"]" * depth + b"}", topic="a"), NOW_MS)
    if isinstance(outcome, ReadEvent):
        routed = Routes([TRIGGER]).route(outcome)
        assert len(routed.matches) + len(routed.rejected) == 1
    else:
        assert depth > 250


@pytest.mark.parametrize("number", ["18446744073709551616", "1208925819614629174706176", "1e300"])
def test_a_huge_number_is_a_key_or_rejected(number: str) -> None:
    routed = route(b'{"k": %s}' % number.encode())
    assert len(routed.matches) + len(routed.rejected) == 1


@pytest.mark.parametrize(("start", "passed"), [(5, (0, 1)), (6, (0,))])
def test_an_event_goes_to_the_first_key_that_it_gives(start: int, passed: tuple[int, ...]) -> None:
    spec = {"events": [{"name": "a", "key": "event.to"}, {"name": "a", "key": "event.from"}]}
    routed = Routes([make_trigger(spec)]).route(read_event(b'{"from": %d, "to": 5}' % start, topic="a"))
    assert [(match.dependencies, match.key) for match in routed.matches] == [(passed, "5")]


def test_a_bad_key_of_one_dependency_leaves_the_other() -> None:
    spec = {"events": [{"name": "a", "key": "event.to"}, {"name": "a", "key": "event.from"}]}
    routed = Routes([make_trigger(spec)]).route(read_event(b'{"from": 5}', topic="a"))
    assert [(match.dependencies, match.key) for match in routed.matches] == [((1,), "5")]
    assert len(routed.rejected) == 1
