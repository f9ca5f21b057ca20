"""CEL expressions: what they see, what they give, and how they fail."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import cel
import pytest

from headrace.model.errors import TriggerError
from headrace.stages.expression import Expression, Failed, variables
from tests.unit.stages.build import make_event


def evaluate(text: str, fields: dict[str, Any] | None = None, **headers: str) -> Any:
    """Evaluate `text` for an event at 2026-05-01T12:00:00.250Z."""
    event = make_event("id-1", "data_updated", 1_777_636_800_250)
    return Expression(text).evaluate(variables(event, fields or {}, headers))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("event.rows > 1000", True),
        ("event.rows + 1", 1002),
        ("event.nested.list[1]", "b"),
        ("event['a-b']", 1.5),
        ("event.nothing", None),
        ("has(event.rows) && !has(event.other)", True),
        ("event.rows > 1 || event.missing > 1", True),
        ("event.nested.list.exists(item, item == 'b')", True),
        ("name == 'data_updated' && id == 'id-1'", True),
        ("headers.team == 'growth'", True),
        ("headers['team']", "growth"),
        ("time == timestamp('2026-05-01T12:00:00.250Z')", True),
        ("time", datetime(2026, 5, 1, 12, 0, 0, 250_000, UTC)),
        ("event.big", 2**53 + 1),
        ("event.flag", True),
        ("event.text.startsWith('grü')", True),
    ],
)
def test_an_expression_sees_the_event(text: str, value: Any) -> None:
    fields = {
        "rows": 1001,
        "nested": {"list": ["a", "b"]},
        "a-b": 1.5,
        "nothing": None,
        "big": 2**53 + 1,
        "flag": True,
        "text": "grün",
    }
    result = evaluate(text, fields, team="growth")
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize("text", ["event.rows", "event.a.b", "event['a']", "headers.team", "event.rows > 1"])
def test_a_missing_field_is_a_failure_that_says_so(text: str) -> None:
    result = evaluate(text)
    assert isinstance(result, Failed)
    assert result.missing


@pytest.mark.parametrize("text", ["event.text > 1", "event.text.x", "1 / 0 > event.rows", "event.text.matches('(')"])
def test_other_failures_are_values_too(text: str) -> None:
    result = evaluate(text, {"text": "t", "rows": 1})
    assert isinstance(result, Failed)
    assert not result.missing
    assert result.message


@pytest.mark.parametrize("text", ["1 +", "event.rows >", "", "event rows", "'"])
def test_what_is_no_cel_is_refused_where_it_is_written(text: str) -> None:
    with pytest.raises(TriggerError, match="is not a CEL expression"):
        Expression(text)


@pytest.mark.parametrize("text", ["rows > 1", "payload.rows > 1", "frobnicate(event)", "event.x > 1 && nope"])
def test_unknown_names_are_refused_where_they_are_written(text: str) -> None:
    with pytest.raises(TriggerError, match="a name that does not exist"):
        Expression(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("size(event)", 2),
        ("event.size()", 2),
        ("'b' in event", True),
        ("event == {'a': 1, 'b': 'event.a'}", True),
        ("event.exists(key, key == 'b')", True),
        ("event.a == 1 && event.map(key, key).size() == 2", True),
        ("[1].map(event, event.a)", None),
        ("has(event.b) && event . b == 'event.a'", True),
        ("event.b.size()", 7),
        ("event.b.startsWith(name)", False),
    ],
)
def test_an_expression_sees_the_whole_payload_where_it_may_look_at_it(text: str, value: Any) -> None:
    fields = {"a": 1, "b": "event.a"}
    whole = {"event": fields, "name": "data_updated", "id": "id-1", "headers": {}, "time": datetime.now(UTC)}
    try:
        expected = cel.evaluate(text, whole)
    except Exception:
        expected = None
    assert expected == value
    result = evaluate(text, fields)
    assert isinstance(result, Failed) if value is None else result == value
