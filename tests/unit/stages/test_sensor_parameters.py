"""The parameters of a Sensor's Workflow, as Argo Events' Go code writes them.

The tables' outcomes are those of Argo Events' own `ApplyParams` (commit 6478ece), run beside them. Meant to differ are
integers beyond 2^53, which keep their digits, and `{{`, which is escaped.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.dead_letter import Reason
from headrace.model.firing import firing_of
from headrace.stages.bind import Refusal, Target, bind
from headrace.stages.sensor_parameters import carried_payload, go_json
from tests.unit.stages.build import make_event
from tests.unit.stages.sensor_files import parameters_of, sensor, trigger_of

ID = "0f5a7b1e-6c9d-4b1e-9d55-5c2a4b1f0c11"
HEAD = f'"name":"data_updated","id":"{ID}","timestamp":1700000000'
DEFAULTS = {
    "latest": '"2023-05-01"',
    "layout": '"{\\"a\\": [1]}"',
    "note": "null",
    "ratio": "0.5",
    "region": '"eu"',
    "strict": "true",
    "window": "3",
    "with-dash": '"d"',
}

# Larger floats are written with zeros in place of digits that they do not have; the table below holds some.
json_numbers = st.one_of(st.integers(), st.floats(min_value=-1e15, max_value=1e15))
json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), json_numbers, st.text(), st.sampled_from(["{{x}}", "{{=1}}", "a{{{", "\u2028<&>"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


def one(fields: str, *, envelope: bool = True) -> dict[str, str]:
    """Bind the Sensor `one` to an event whose payload has these members and a region."""
    head = f"{HEAD}," if envelope else ""
    event = make_event(ID, time_ms=1_700_000_000_000, payload=f'{{{head}"region":"eu"{fields}}}')
    return parameters_of(sensor("one"), event)


def test_fields_that_are_missing_leave_the_defaults() -> None:
    assert one("") == {**DEFAULTS, "data_updated_36kb": f'{{{HEAD},"region":"eu"}}'}


def test_the_parameters_come_in_the_sensors_order() -> None:
    assert list(one(', "with-dash": 1, "latest": "x"')) == [*DEFAULTS, "data_updated_36kb"]


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ('"x"', '"x"'),
        ('""', '""'),
        ("null", "null"),
        ("true", "true"),
        ("false", "false"),
        ("0", "0"),
        ("-0", "-0"),
        ("-0.0", "-0"),
        ("7", "7"),
        ("7.0", "7"),
        ("1.10", "1.1"),
        ("0.1", "0.1"),
        ("1e3", "1000"),
        ("1E-3", "0.001"),
        ("1e-6", "0.000001"),
        ("1e-7", "1e-7"),
        ("1.5e-10", "1.5e-10"),
        ("1e20", "100000000000000000000"),
        ("1e21", "1e+21"),
        ("-2.5e300", "-2.5e+300"),
        ("9007199254740992", "9007199254740992"),
        ('"3"', '"3"'),
        ('"h\\u00e9 \\ud83d\\ude00"', '"hé 😀"'),
        ('"<a href=\\"x\\">&</a>"', '"<a href=\\"x\\">&</a>"'),
        ('"tab\\tline\\nquote\\"back\\\\slash\\/"', '"tab\\tline\\nquote\\"back\\\\slash/"'),
        ('"\\u0000\\u0008\\u000c\\u001f\\u007f"', '"\\u0000\\b\\f\\u001f\x7f"'),
        ('"\\u2028\\u2029"', '"\\u2028\\u2029"'),
        ('{"b": [1, 2.50, null], "a": {"é": "<"}}', '{"a":{"é":"<"},"b":[1,2.5,null]}'),
        ('{"b": 1, "B": 2, "é": 3, "10": 4, "9": 5}', '{"10":4,"9":5,"B":2,"b":1,"é":3}'),
        ("[]", "[]"),
        ("{}", "{}"),
        ("[ 1 , [ 2 ] ]", "[1,[2]]"),
        ("1e400", '"2023-05-01"'),
        ("[1e400]", '"2023-05-01"'),
    ],
)
def test_a_field_is_written_as_go_writes_it(given_text: str, expected: str) -> None:
    assert one(f',"latest":{given_text}')["latest"] == expected


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ('{"a": 1, "c": "é"}', '"{\\"a\\":1,\\"c\\":\\"é\\"}"'),
        ("[1, 2]", '"[1,2]"'),
        ("3", '"3"'),
        ("true", '"true"'),
        ("null", '"null"'),
        ('"{\\"a\\": 1}"', '"{\\"a\\": 1}"'),
        ('"plain"', '"plain"'),
    ],
)
def test_a_parameter_of_the_json_type_is_a_text_that_holds_json(given_text: str, expected: str) -> None:
    assert one(f',"layout":{given_text}')["layout"] == expected


@pytest.mark.parametrize(
    "digits", ["9007199254740993", "12345678901234567890", "-98765432109876543210987", "1" + "0" * 40, "9" * 6000]
)
def test_integers_keep_every_digit(digits: str) -> None:
    assert one(f',"latest":{digits},"layout":[{digits}]') | {"data_updated_36kb": ""} == {
        **DEFAULTS,
        "latest": digits,
        "layout": f'"[{digits}]"',
        "data_updated_36kb": "",
    }


def test_the_whole_payload_keeps_its_text_but_for_spaces_and_html() -> None:
    # Go's encoder takes the spaces out of raw JSON on its way through the webhook, and escapes what HTML could read.
    text = one(', "a" : [ 1.10, 12345678901234567890 ] , "t": "\\u00e9 é <b> & \\" \u2028", "Z": 0, "A": {} ')
    assert text["data_updated_36kb"] == (
        f'{{{HEAD},"region":"eu","a":[1.10,12345678901234567890],'
        '"t":"\\u00e9 é \\u003cb\\u003e \\u0026 \\" \\u2028","Z":0,"A":{}}'
    )


def test_templates_in_values_are_escaped_and_read_back_as_the_same() -> None:
    values = one(',"latest":"{{workflow.name}}","layout":{"{{=1}}":["{{{"]},"note":"{ {"')
    assert (values["latest"], values["note"]) == ('"\\u007b\\u007bworkflow.name}}"', '"{ {"')
    assert not [text for text in values.values() if "{{" in text]
    assert json.loads(values["latest"]) == "{{workflow.name}}"
    assert json.loads(json.loads(values["layout"])) == {"{{=1}}": ["{{{"]}
    assert json.loads(values["data_updated_36kb"])["layout"] == {"{{=1}}": ["{{{"]}


@given(json_values, json_values)
def test_any_value_arrives_as_it_was_published(latest: Any, layout: Any) -> None:
    values = one(f',"latest":{json.dumps(latest)},"layout":{json.dumps(layout)}')
    assert json.loads(values["latest"]) == latest
    inside = json.loads(values["layout"])
    assert inside == layout if isinstance(layout, str) else json.loads(inside) == layout
    whole = json.loads(values["data_updated_36kb"])
    assert (whole["latest"], whole["layout"], whole["region"]) == (latest, layout, "eu")
    assert not [text for text in values.values() if "{{" in text]


@given(json_values)
def test_what_go_writes_stays_the_same_when_it_is_written_again(value: Any) -> None:
    # Go reads every number as a float, and so knows a negative zero.
    again = json.loads(go_json(value), parse_int=lambda digits: -0.0 if digits == "-0" else int(digits))
    assert go_json(again) == go_json(value)


def test_events_of_one_set_fill_the_parameters_that_are_mapped_to_them() -> None:
    values = parameters_of(
        sensor("two"),
        make_event(ID, "one_event", 1_000, payload='{"how_many_days":7,"latest":"not mapped"}'),
        make_event("b", "another_event", 2_000, payload='{"window":9}'),
        make_event("c", "phase_of_the_moon", 3_000, payload='{"window":9}'),
    )
    assert values == {
        "latest": "2",
        "window": "7",
        "one_event_6mbo": f'{{"name":"one_event","id":"{ID}","timestamp":1,"how_many_days":7,"latest":"not mapped"}}',
        "another_event_vmbn": '{"name":"another_event","id":"b","timestamp":2,"window":9}',
        "phase_of_the_moon_rr6x": '{"name":"phase_of_the_moon","id":"c","timestamp":3,"window":9}',
    }


def test_a_mapping_leaves_no_field_passed_by_its_name() -> None:
    event = make_event(ID, "some.event-v2", payload='{"latest":"x","window":1,"shape":{"a":1}}')
    values = parameters_of(sensor("mapped"), event)
    assert (values["latest"], values["window"], values["layout"]) == ('"2023-05-01"', "3", '"{\\"a\\":1}"')


def test_a_bare_event_gets_what_current_trigger_reads() -> None:
    event = make_event("data_updated:0:7", time_ms=1_700_000_000_999, payload='{"region": "eu"}')
    assert carried_payload(event) == (
        '{"name":"data_updated","id":"data_updated:0:7","timestamp":1700000000,"region":"eu"}'
    )
    assert (
        carried_payload(make_event("i", time_ms=0, payload=" { } ")) == '{"name":"data_updated","id":"i","timestamp":0}'
    )


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ('{"id":"order-7"}', {"name": "data_updated", "id": "order-7", "timestamp": 5}),
        ('{"name":"customers"}', {"name": "data_updated", "id": "e", "timestamp": 5}),
        ('{"name":{"first":"A"}}', {"name": "data_updated", "id": "e", "timestamp": 5}),
        ('{"timestamp":"2026-01-31"}', {"name": "data_updated", "id": "e", "timestamp": 5}),
        ('{"timestamp":6.5}', {"name": "data_updated", "id": "e", "timestamp": 6.5}),
        ('{"timestamp":null}', {"name": "data_updated", "id": "e", "timestamp": 5}),
        # An event of Metaflow's own keeps what its publisher made of its fields.
        ('{"id":"e","timestamp":"2026-01-31"}', {"name": "data_updated", "id": "e", "timestamp": "2026-01-31"}),
    ],
)
def test_own_fields_give_way_only_where_metaflow_could_not_use_them(payload: str, expected: dict[str, Any]) -> None:
    assert json.loads(carried_payload(make_event("e", time_ms=5_000, payload=payload))) == expected


def test_mapped_fields_are_the_publishers_own() -> None:
    values = parameters_of(
        sensor("two"),
        make_event("a", "one_event"),
        make_event("b", "another_event", payload='{"timestamp":"2026-01-31"}'),
        make_event("c", "phase_of_the_moon"),
    )
    assert values["latest"] == '"2026-01-31"'


def test_a_payload_that_is_nested_too_deeply_is_a_dead_letter() -> None:
    event = make_event(payload='{"latest":' + "[" * 50_000 + "]" * 50_000 + "}")
    firing = firing_of(trigger_of(sensor("one")).definition, "", (event,))
    refused = bind(firing, Target(frozenset(), metaflow=True))
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.BAD_MAPPING and "nested too deeply" in refused.message
