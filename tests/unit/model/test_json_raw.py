"""JSON as its author wrote it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.json_raw import compact, raw_members

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("{}", {}),
        (" { } ", {}),
        ('{"a":1}', {"a": "1"}),
        (' { "a" : [ 1.10 , "x" ] , "b" : -0 } ', {"a": '[ 1.10 , "x" ]', "b": "-0"}),
        ('{"\\u00e9":"\\u00e9"}', {"é": '"\\u00e9"'}),
        ('{"a":1,"a":2}', {"a": "2"}),
        (f'{{"a":{"9" * 6000}}}', {"a": "9" * 6000}),
    ],
)
def test_members_keep_their_text(text: str, members: dict[str, str]) -> None:
    assert raw_members(text) == members


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a"', '{"a":', '{"a":1', '{"a":1,', "{a:1}", '{"a":1 "b":2}'])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        raw_members(text)


def test_what_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        raw_members('{"a":' + "[" * 50_000 + "]" * 50_000 + "}")


@given(st.dictionaries(st.text(), values), st.sampled_from([None, 0, 3, "\t"]), st.booleans())
def test_members_and_compact_text_read_back_as_the_same(fields: dict[str, Any], indent: Any, ascii_only: bool) -> None:
    text = json.dumps(fields, indent=indent, ensure_ascii=ascii_only)
    assert {name: json.loads(member) for name, member in raw_members(text).items()} == fields
    assert compact(text) == json.dumps(fields, separators=(",", ":"), ensure_ascii=ascii_only)
