"""Binding: which payload field becomes which parameter."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.model.dead_letter import Reason
from headrace.model.firing import Firing
from headrace.stages.bind import Refusal, Target, bind
from tests.unit.stages.build import make_firing


def plain(*parameters: str) -> Target:
    return Target(frozenset(parameters), metaflow=False)


def metaflow(*parameters: str) -> Target:
    return Target(frozenset(parameters), metaflow=True)


def local(*parameters: str) -> Target:
    return Target(frozenset(parameters), metaflow=True, local=True)


def bound(firing: Firing, target: Target) -> dict[str, str]:
    """Bind a firing that must be bound."""
    result = bind(firing, target)
    assert not isinstance(result, Refusal), result
    return result


def test_fields_whose_names_the_template_declares_are_passed() -> None:
    assert bound(make_firing('{"x": "1", "y": "2"}'), plain("x", "z")) == {"x": "1"}


def test_of_several_events_the_first_listed_dependency_wins() -> None:
    firing = make_firing('{"x": "a"}', '{"x": "b", "y": "b"}', '{"x": "c", "y": "c", "z": "c"}')
    assert bound(firing, plain("x", "y", "z")) == {"x": "a", "y": "b", "z": "c"}


def test_a_null_of_the_first_dependency_is_offered_too() -> None:
    assert bound(make_firing('{"x": null}', '{"x": "b"}'), plain("x")) == {"x": "null"}


def test_a_mapping_switches_the_default_off_for_its_dependency_alone() -> None:
    firing = make_firing('{"x": "a", "y": "a"}', '{"x": "b", "y": "b"}', mappings=[{"p": "y"}, None])
    assert bound(firing, plain("x", "y", "p")) == {"x": "b", "y": "b", "p": "a"}


def test_an_empty_mapping_is_a_mapping() -> None:
    assert bound(make_firing('{"x": "a"}', mappings=[{}]), plain("x")) == {}


def test_a_mapping_overrides_what_another_dependency_offers_by_name() -> None:
    firing = make_firing('{"x": "a"}', '{"f": "b"}', mappings=[None, {"x": "f"}])
    assert bound(firing, plain("x")) == {"x": "b"}


@pytest.mark.parametrize("source", ["f", "f.g", "deep.f", "list.7", "list.x", "=event.f", "=event.deep.f"])
def test_a_missing_field_leaves_the_default(source: str) -> None:
    firing = make_firing('{"deep": {}, "list": [1], "x": "by name"}', mappings=[{"x": source}])
    assert bound(firing, plain("x")) == {}


def test_a_missing_field_leaves_a_constant() -> None:
    firing = make_firing("{}", mappings=[{"x": "f"}], constants={"x": "constant"})
    assert bound(firing, plain("x")) == {"x": "constant"}


def test_mappings_override_constants() -> None:
    firing = make_firing('{"f": "mapped"}', mappings=[{"x": "f"}], constants={"x": "constant", "y": "kept"})
    assert bound(firing, plain("x", "y")) == {"x": "mapped", "y": "kept"}


def test_constants_override_fields_that_are_passed_by_name_alone() -> None:
    firing = make_firing('{"x": "by name"}', constants={"x": "constant"})
    assert bound(firing, plain("x")) == {"x": "constant"}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a", "1"),
        ("deep.b", "2"),
        ("deep.list.1.c", "3"),
        ("a.dotted.name", "literal"),
        ("dé", "ü"),
        ("=event.a + '!'", "1!"),
        ("=event.deep.list[1].c", "3"),
        ("=name + '/' + id", "a/id-a"),
        ("=string(time.getFullYear())", "1970"),
    ],
)
def test_a_mapping_reads_a_path_or_computes(source: str, text: str) -> None:
    payload = '{"a": "1", "deep": {"b": "2", "list": [0, {"c": "3"}]}, "a.dotted.name": "literal", "dé": "ü"}'
    assert bound(make_firing(payload, mappings=[{"x": source}]), plain("x")) == {"x": text}


def test_a_mapped_parameter_need_not_be_declared() -> None:
    """A template may take undeclared arguments; whoever maps a field means it."""
    assert bound(make_firing('{"f": "1"}', mappings=[{"x": "f"}]), plain()) == {"x": "1"}


def test_computed_mappings_see_headers() -> None:
    firing = make_firing("{}", mappings=[{"x": "=headers.team"}])
    assert bound(firing, plain("x")) == {}


@pytest.mark.parametrize("source", ["=event.f > 1", "=b'bytes'", "=duration('1h')", "=0.0 / 0.0", "=1.0 / 0.0"])
def test_a_computation_that_fails_or_gives_no_json_is_a_dead_letter(source: str) -> None:
    result = bind(make_firing('{"f": "text"}', mappings=[{"x": source}]), plain("x"))
    assert isinstance(result, Refusal)
    assert result.reason == Reason.BAD_MAPPING
    assert result.message


NUMBERS = "[9007199254740993,1208925819614629174706176,1.10,-0.5,12345678901234567890.123456789]"


@pytest.mark.parametrize("target", [plain("x"), metaflow("x"), local("x")])
@pytest.mark.parametrize("source", [None, {"x": "x"}])
def test_numbers_keep_every_digit(target: Target, source: dict[str, str] | None) -> None:
    assert bound(make_firing('{"x": ' + NUMBERS + "}", mappings=[source]), target) == {"x": NUMBERS}


def test_computed_integers_keep_every_digit() -> None:
    firing = make_firing('{"f": 9007199254740993}', mappings=[{"x": "=event.f"}])
    assert bound(firing, plain("x")) == {"x": "9007199254740993"}


@pytest.mark.parametrize(
    ("value", "to_plain", "to_metaflow", "to_local"),
    [
        ('"text"', "text", '"text"', "text"),
        ('""', "", '""', ""),
        ('"gr\\u00fcn 🌊"', "grün 🌊", '"grün 🌊"', "grün 🌊"),
        ('"a\\"b\\\\c\\n"', 'a"b\\c\n', '"a\\"b\\\\c\\n"', 'a"b\\c\n'),
        ("5", "5", "5", "5"),
        ("1.10", "1.10", "1.10", "1.10"),
        ("true", "true", "true", "true"),
        ("null", "null", "null", None),
        ('[1, "a"]', '[1,"a"]', '[1,"a"]', '[1,"a"]'),
        ('{"b": 1, "a": null}', '{"b":1,"a":null}', '{"b":1,"a":null}', '{"b":1,"a":null}'),
        ('"5"', "5", '"5"', "5"),
    ],
)
def test_values_become_text(value: str, to_plain: str, to_metaflow: str, to_local: str | None) -> None:
    firing = make_firing('{"x": ' + value + "}")
    assert bound(firing, plain("x")) == {"x": to_plain}
    assert bound(firing, metaflow("x")) == {"x": to_metaflow}
    assert bound(firing, local("x")) == ({} if to_local is None else {"x": to_local})


@pytest.mark.parametrize(
    ("value", "to_plain", "to_metaflow"),
    [("prod", "prod", '"prod"'), (3, "3", "3"), (True, "true", "true"), ([1, "a"], '[1,"a"]', '[1,"a"]')],
)
def test_constants_become_text(value: Any, to_plain: str, to_metaflow: str) -> None:
    firing = make_firing("{}", constants={"x": value})
    assert bound(firing, plain()) == {"x": to_plain}
    assert bound(firing, metaflow()) == {"x": to_metaflow}


@pytest.mark.parametrize("target", [metaflow("x"), local("x")])
def test_metaflow_passes_by_name_only_one_event_without_a_mapping(target: Target) -> None:
    assert bound(make_firing('{"x": 1}'), target) == {"x": "1"}
    assert bound(make_firing('{"x": 1}', '{"x": 2}'), target) == {}
    assert bound(make_firing('{"x": 1, "f": 2}', mappings=[{"y": "f"}]), target) == {"y": "2"}
    assert bound(make_firing('{"x": 1}', '{"f": 2}', mappings=[None, {"y": "f"}]), target) == {"y": "2"}
