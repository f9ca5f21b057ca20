"""Payload text never becomes a template, and no payload breaks the binding."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.dead_letter import Reason
from headrace.stages.bind import Refusal, Target, bind
from tests.unit.stages.build import make_firing

PLAIN = Target(frozenset({"x"}), metaflow=False)
METAFLOW = Target(frozenset({"x"}), metaflow=True)
LOCAL = Target(frozenset({"x"}), metaflow=True, local=True)

braces = st.text(alphabet='{}\\"u07b=a\n', max_size=12)
texts = st.one_of(braces, st.text(max_size=8), st.sampled_from(["{{workflow.name}}", "{{=1+1}}", "{{{", "\\{{", "{ {"]))
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)


def bind_value(value: Any, target: Target, mapping: dict[str, str] | None) -> str | Refusal:
    """Bind one payload field to the parameter x."""
    result = bind(make_firing(json.dumps({"x": value}), mappings=[mapping]), target)
    return result if isinstance(result, Refusal) else result["x"]


sources = st.sampled_from([None, {"x": "x"}])


@given(values, sources)
def test_metaflow_gets_json_without_templates_that_reads_back_as_it_was(
    value: Any, mapping: dict[str, str] | None
) -> None:
    text = bind_value(value, METAFLOW, mapping)
    assert isinstance(text, str)
    assert "{{" not in text
    assert json.loads(text) == value


@given(values, sources)
def test_a_plain_template_gets_text_or_json_and_never_a_template(value: Any, mapping: dict[str, str] | None) -> None:
    text = bind_value(value, PLAIN, mapping)
    if isinstance(value, str) and "{{" in value:
        assert isinstance(text, Refusal)
        assert text.reason == Reason.TEMPLATE_TEXT
        return
    assert isinstance(text, str)
    assert "{{" not in text
    assert (text if isinstance(value, str) else json.loads(text)) == value


@given(values.filter(lambda value: value is not None), sources)
def test_a_local_process_gets_text_as_it_is(value: Any, mapping: dict[str, str] | None) -> None:
    text = bind_value(value, LOCAL, mapping)
    assert isinstance(text, str)
    assert (text if isinstance(value, str) else json.loads(text)) == value


@pytest.mark.parametrize("text", ["{{workflow.name}}", "a {{=sprig.env('HOME')}} b", "{{", "{{{"])
@pytest.mark.parametrize("source", ["x", "=event.x"])
def test_template_text_for_a_plain_string_is_refused_and_says_where(text: str, source: str) -> None:
    result = bind_value(text, PLAIN, {"x": source})
    assert isinstance(result, Refusal)
    assert result.reason == Reason.TEMPLATE_TEXT
    assert "parameter x" in result.message


def test_template_text_inside_json_is_escaped() -> None:
    assert bind_value({"k": "{{a}}"}, PLAIN, None) == '{"k":"\\u007b\\u007ba}}"}'
    assert bind_value("{{a}}", METAFLOW, None) == '"\\u007b\\u007ba}}"'


def test_computed_text_is_payload_text_too() -> None:
    assert bind_value("{", METAFLOW, {"x": "=event.x + event.x + 'a'"}) == '"\\u007b\\u007ba"'


def test_constants_are_the_triggers_own_text_and_may_be_templates() -> None:
    firing = make_firing("{}", constants={"x": "{{workflow.name}}"})
    assert bind(firing, PLAIN) == {"x": "{{workflow.name}}"}


@pytest.mark.parametrize("target", [PLAIN, METAFLOW, LOCAL])
@pytest.mark.parametrize("source", [None, {"x": "x"}, {"x": "=event.x"}])
@pytest.mark.parametrize(
    "value",
    [
        "[" * 250 + "]" * 250,
        "[" * 600 + "]" * 600,
        '{"a":' * 900 + "1" + "}" * 900,
        "1e-99999999999999999999",
        "0e99999999999999999999",
        "1e-400",
        "0." + "1" * 5_000,
        "18446744073709551616",
    ],
)
def test_whatever_the_payload_holds_it_is_bound_or_refused(
    value: str, source: dict[str, str] | None, target: Target
) -> None:
    """What the router lets through must not stop the submitter."""
    result = bind(make_firing('{"x": ' + value + "}", mappings=[source]), target)
    assert isinstance(result, Refusal) or set(result) == {"x"}
