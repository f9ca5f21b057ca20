"""Heads at rest are the same heads."""

from __future__ import annotations

import pytest

from headrace.model.errors import RecordError
from headrace.stages.changelog import OPEN_IDS_MAX, head_changes
from headrace.stages.head import Head, new_head
from headrace.stages.heads import REST_COUNT_MAX, Heads
from tests.unit.stages.build import make_definition, make_event


def settled(waiting: int = 0, used: int = 0, payload: str = "{}") -> tuple[Head, Heads]:
    """Settle a head that holds so many events and ids."""
    head, heads = new_head(make_definition(), '"eu"'), Heads()
    for number in range(waiting):
        head.add(number % 2, make_event(f"w{number}", time_ms=number, offset=number, payload=payload))
    for number in range(used):
        head.use(make_event(f"u{number}", time_ms=number, offset=number))
    _, record = head_changes(head)
    heads.settle(head.name, head, record)
    return head, heads


@pytest.mark.parametrize(("waiting", "used"), [(1, 0), (0, 2), (3, 2), (REST_COUNT_MAX, 0)])
def test_a_small_head_rests_and_is_read_back_whole(waiting: int, used: int) -> None:
    head, heads = settled(waiting, used)
    found = heads.get(head.name)
    assert found == head
    assert found is not head
    assert list(heads.values()) == [head]


@pytest.mark.parametrize(
    ("waiting", "used", "payload"),
    [(REST_COUNT_MAX, 1, "{}"), (1, 0, '{"x":"' + "y" * 3_000 + '"}'), (0, OPEN_IDS_MAX + 1, "{}")],
    ids=["many events", "a large event", "sealed ids"],
)
def test_a_large_head_stays_as_it_is(waiting: int, used: int, payload: str) -> None:
    head, heads = settled(waiting, used, payload)
    assert heads.get(head.name) is head


def test_what_a_caller_does_to_a_resting_head_is_not_kept_by_itself() -> None:
    head, heads = settled(waiting=1)
    found = heads.get(head.name)
    assert found is not None
    found.use(make_event("later"))
    assert heads.get(head.name) == head
    heads.keep(head.name, found)
    assert heads.get(head.name) is found


def test_what_is_dropped_is_gone() -> None:
    head, heads = settled(waiting=1)
    heads.drop(head.name)
    heads.drop(head.name)
    assert heads.get(head.name) is None
    assert len(heads) == 0


def test_a_damaged_record_is_an_error() -> None:
    heads = Heads()
    heads.rest("x", b'{"version":1}')
    with pytest.raises(RecordError, match="cannot be read"):
        heads.get("x")
