"""Names of events and triggers, and the partitions that they lead to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.errors import EventNameError, TriggerError
from headrace.model.names import check_event_name, collides, firing_partition_of, partition_of, trigger_name


@pytest.mark.parametrize(
    "name", ["a", "data_updated", "metaflow.project.user.me.Flow.end", "A-1", "_", "n" * 249, "..."]
)
def test_legal_event_names(name: str) -> None:
    assert check_event_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "ü", "a\n", "a:b", "a#2", "n" * 250])
def test_illegal_event_names_are_refused_with_a_reason(name: str) -> None:
    with pytest.raises(EventNameError) as refusal:
        check_event_name(name)
    assert ("249" in str(refusal.value)) == (len(name) > 249)


@given(st.text(max_size=300))
def test_any_text_is_a_topics_name_or_refused(text: str) -> None:
    legal = (
        0 < len(text) <= 249
        and text not in {".", ".."}
        and all(c.isascii() and (c.isalnum() or c in "._-") for c in text)
    )
    if legal:
        assert check_event_name(text) == text
    else:
        with pytest.raises(EventNameError):
            check_event_name(text)


def test_a_dot_and_an_underscore_collide() -> None:
    assert collides("a.b", {"a_b", "c"}) == "a_b"
    assert collides("a_b", {"a.b"}) == "a.b"
    assert collides("a.b_c", {"a_b.c"}) == "a_b.c"
    assert collides("a.b", {"a.b", "a-b", "ab"}) is None
    assert collides("a.b", set()) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("model-refresh", "default/model-refresh"),
        ("ml/model-refresh", "ml/model-refresh"),
        ("a.b-c.1", "default/a.b-c.1"),
        ("n" * 253, "default/" + "n" * 253),
    ],
)
def test_a_trigger_is_named_with_its_namespace(text: str, name: str) -> None:
    assert trigger_name(text, "default") == name


@pytest.mark.parametrize(
    "text", ["", "/", "a/", "/a", "a/b/c", "A", "a_b", "-a", "a-", ".a", "a b", "ü", "a\n", "n" * 254, "ml/Model"]
)
def test_what_is_no_kubernetes_name_is_refused(text: str) -> None:
    with pytest.raises(TriggerError):
        trigger_name(text, "default")


def test_a_bad_default_namespace_is_refused() -> None:
    with pytest.raises(TriggerError):
        trigger_name("a", "")


def test_partitions_never_change() -> None:
    """Literal values: another hash would send a key's later events to another partition than its earlier ones."""
    assert [partition_of("ml/model-refresh", key, 8) for key in ("", '"eu"', '"us"', "1")] == [3, 0, 6, 5]
    assert [firing_partition_of(name, 8) for name in ("ml/model-refresh", "ml/other", "a/b")] == [7, 4, 4]


@given(st.text(), st.text(), st.integers(1, 1_000))
def test_a_partition_is_one_of_the_partitions(trigger: str, key: str, partitions: int) -> None:
    assert 0 <= partition_of(trigger, key, partitions) < partitions
    assert 0 <= firing_partition_of(trigger, partitions) < partitions


def test_keys_spread() -> None:
    assert {partition_of("ml/model-refresh", str(number), 8) for number in range(100)} == set(range(8))
