"""Comparisons decide without CEL what CEL decides, and an index over them rules out nothing that passes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.stages.candidates import Candidates
from headrace.stages.comparison import comparison_of, field_at
from headrace.stages.expression import Expression, variables
from tests.unit.stages.build import make_event

FIELDS = ("a", "b")
CONSTANTS = ["0", "1", "-1", "7", str(2**53), '"x"', "''", '"1"', "'ä b'"]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.integers(2**53 - 2, 2**53 + 2),
    st.integers(2**63 - 1, 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, 1.0, -0.0, 0.5, float(2**53)]),
    st.sampled_from(["", "x", "1", "ä b", "X"]),
    st.lists(st.integers(0, 1), max_size=2),
)
PAYLOADS = st.dictionaries(st.sampled_from(FIELDS), st.one_of(VALUES, st.dictionaries(st.sampled_from(FIELDS), VALUES)))
CONDITIONS = st.builds(
    lambda path, operator, constant: f"event.{path} {operator} {constant}",
    st.sampled_from(["a", "b", "a.b", "b.a"]),
    st.sampled_from(["==", "<", "<=", ">", ">="]),
    st.sampled_from(CONSTANTS),
)
FILTERS = st.one_of(
    CONDITIONS,
    st.builds(lambda one, more: f"{one} && {more}", CONDITIONS, CONDITIONS),
    st.builds(lambda one, more: f"{one} || {more}", CONDITIONS, CONDITIONS),
    st.builds(lambda one, more: f"({one}) && has({more.split()[0]})", CONDITIONS, CONDITIONS),
)


def by_cel(text: str, payload: dict[str, Any]) -> bool:
    return Expression(text).evaluate(variables(make_event("id", "facts", 1), payload, {})) is True


@given(CONDITIONS, PAYLOADS)
def test_a_comparison_holds_exactly_where_cel_says_so(text: str, payload: dict[str, Any]) -> None:
    comparison = comparison_of(text)
    if comparison is None:
        assert '"' in text or "'" in text, "only the order of texts is left to CEL"
        return
    assert comparison.is_all
    assert comparison.holds(field_at(payload, comparison.path)) == by_cel(text, payload)


@given(st.lists(FILTERS, max_size=8), PAYLOADS)
def test_candidates_are_in_order_and_miss_none_that_passes(texts: list[str], payload: dict[str, Any]) -> None:
    counts: dict[str, int] = {}
    found = Candidates((comparison_of(text), (order, text)) for order, text in enumerate(texts)).of(payload, counts)
    assert found == sorted(found)
    assert {(order, text) for order, text in enumerate(texts) if by_cel(text, payload)} <= set(found)
    assert sum(counts.values()) == len(texts) - len(found)
    for order, text in found:
        comparison = comparison_of(texts[order])
        assert comparison is None or comparison.holds(field_at(payload, comparison.path)), f"{text} is ruled out"


@pytest.mark.parametrize(
    ("text", "is_all"),
    [
        ('event.region == "eu"', True),
        (" event.rows>1000 ", True),
        ("event.a.b_c <= -3", True),
        ("event.region == 'eu' && event.rows > 3", False),
    ],
)
def test_what_is_understood(text: str, is_all: bool) -> None:
    comparison = comparison_of(text)
    assert comparison is not None
    assert comparison.is_all == is_all


@pytest.mark.parametrize(
    "text",
    [
        'event.region == "eu" || event.rows > 3',
        'event.region == "eu" && event.rows > 3 || event.rows < 0',
        'event.region == "eu" && event.flag ? event.a : event.b',
        'event.region != "eu"',
        'event.region == "e\\u0075"',
        'event.region == r"eu"',
        'event.region == """eu"""',
        'event.region > "eu"',
        "event.rows > 1u",
        "event.rows > 1.5",
        "event.rows > 0x10",
        "event.rows == 1 == true",
        "event.rows + 1 > 3",
        "event.size() > 3",
        "event['rows'] > 3",
        "name == 'facts'",
        "event.rows > 99999999999999999999",
    ],
)
def test_what_is_left_to_cel(text: str) -> None:
    assert comparison_of(text) is None


def test_an_absent_field_counts_as_a_failed_filter_and_another_value_as_filtered() -> None:
    candidates = Candidates([(comparison_of(f"event.rows == {n}"), n) for n in range(100)])
    counts: dict[str, int] = {}
    assert candidates.of({"rows": 7}, counts) == [7]
    assert candidates.of({}, counts) == []
    assert counts == {"filtered": 99, "filter_failed": 100}
