"""JSON as text: canonical keys and exact numbers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.json_text import canonical, dumps_exact, loads_exact

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=10,
)
numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


@given(values)
def test_a_canonical_text_reads_back_as_an_equal_value(value: Any) -> None:
    assert json.loads(canonical(value)) == value


@given(values)
def test_the_order_of_fields_does_not_matter(value: Any) -> None:
    assert canonical(_turned(value)) == canonical(value)


def _turned(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _turned(value[name]) for name in reversed(list(value))}
    return [_turned(item) for item in value] if isinstance(value, list) else value


@given(values)
def test_a_canonical_text_is_canonical(value: Any) -> None:
    assert canonical(json.loads(canonical(value))) == canonical(value)


@given(st.integers(-(2**63), 2**63 - 1))
def test_equal_numbers_are_written_alike(number: int) -> None:
    if int(float(number)) == number:
        assert canonical(float(number)) == canonical(number)


@pytest.mark.parametrize("number", [0, 1, -1, 2**53 - 1, 2**53, -(2**53), 2**53 + 2, 2**62])
def test_equal_numbers_are_written_alike_at_the_edges(number: int) -> None:
    assert canonical(float(number)) == canonical(number) == str(number)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [1.0, 1.5, None, True]}, '{"a":[1,1.5,null,true],"b":1}'),
        (-0.0, "0"),
        (True, "true"),
        ("grün", '"grün"'),
        ("a\u0000", '"a\\u0000"'),
        ([], "[]"),
        ({}, "{}"),
    ],
)
def test_canonical_texts(value: Any, text: str) -> None:
    assert canonical(value) == text


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), -float("inf"), [float("nan")], b"bytes", {1, 2}, datetime.now(UTC), Decimal(1)],
)
def test_what_json_has_not_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical(value)


@given(numbers)
def test_a_number_keeps_its_value_digit_by_digit(text: str) -> None:
    again = dumps_exact(loads_exact(text))
    assert Decimal(again) == Decimal(text)
    assert Decimal(again).as_tuple().digits == Decimal(text).as_tuple().digits or Decimal(text) == 0


@given(st.integers())
def test_integers_of_any_size_keep_their_text(number: int) -> None:
    assert dumps_exact(loads_exact(str(number))) == str(number)


@pytest.mark.parametrize("text", ["9007199254740993", "1208925819614629174706176", "1.10", "-0.50", "0.1", "3.0"])
def test_plain_numbers_keep_their_text(text: str) -> None:
    assert dumps_exact(loads_exact(text)) == text


@given(values)
def test_exact_json_reads_back(value: Any) -> None:
    exact = loads_exact(json.dumps(value))
    text = dumps_exact(exact)
    assert loads_exact(text) == exact
    assert json.loads(text) == value


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "[NaN]", "", "{", "1 2", "01", "'a'", "+1"])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        loads_exact(text)


@pytest.mark.parametrize("text", ["1e99999999999999999999", "0e99999999999999999999", "1e-99999999999999999999"])
def test_a_number_beyond_all_bounds_is_a_value_error_or_exact(text: str) -> None:
    """`loads_exact` promises ValueError and nothing else."""
    try:
        value = loads_exact(text)
    except ValueError:
        return
    assert dumps_exact(value).lower().replace("+", "") == text
