"""The changelog's records: the order in which they are written, and what cannot be restored."""

from __future__ import annotations

import orjson
import pytest

from headrace.model.errors import RecordError
from headrace.model.frame import Frame, Match, Tick
from headrace.stages import changelog
from headrace.stages.changelog import Change
from headrace.stages.join import JoinState
from tests.unit.stages.build import make_definition, make_event
from tests.unit.stages.crash import small_changelog_records

DEFINITION = make_definition(window_ms=100, match="each")
BIG = '{"x":"' + "y" * 5_000 + '"}'


def frame(*names: str, payload: str = "{}") -> Frame:
    """A frame of events such as a1 or b2: the dependency and the event time, under one key."""
    return Frame(
        tuple(
            Match(
                DEFINITION,
                make_event(name, name[0], int(name[1:]), int(name[1:]), payload=payload),
                ("ab".index(name[0]),),
                '"eu"',
            )
            for name in names
        )
    )


def kinds(changes: list[Change]) -> list[str]:
    """Each record's kind, with a minus for a tombstone."""
    return [("" if value is not None else "-") + key[:1].decode() for key, value in changes]


def restored(changes: list[Change]) -> JoinState:
    """A state that has taken in `changes`; they are finished with its next record."""
    state = JoinState(0)
    for key, value in changes:
        state.restore(key, value)
    return state


def test_a_small_head_is_one_record_and_the_partition_comes_last() -> None:
    assert kinds(JoinState(0).apply(0, frame("a1")).changes) == ["h", "p"]


def test_a_frame_that_changes_nothing_still_records_the_partition() -> None:
    assert kinds(JoinState(0).apply(0, Frame(())).changes) == ["p"]


def test_a_large_event_lies_beside_its_head_from_before_it_to_after_it() -> None:
    state = JoinState(0)
    assert kinds(state.apply(0, frame("a1", payload=BIG)).changes) == ["e", "h", "p"]
    assert kinds(state.apply(1, frame("b3")).changes) == ["h", "-e", "p"]


def test_used_ids_are_sealed_before_the_head_that_counts_on_them() -> None:
    with small_changelog_records():
        changes = JoinState(0).apply(0, frame("a1", "b1", "a2", "b2")).changes
    assert kinds(changes)[-2:] == ["h", "p"]
    assert set(kinds(changes)[:-2]) == {"u"}


def test_a_tick_records_the_partition_before_it_removes_anything() -> None:
    state = JoinState(0)
    state.apply(0, frame("a1", payload=BIG))
    changes = state.apply(1, Tick(1_000)).changes
    assert kinds(changes)[0] == "p"
    assert sorted(kinds(changes)[1:]) == ["-e", "-h"]


def test_a_head_names_its_frame_so_that_a_replay_passes_it_over() -> None:
    changes = JoinState(0).apply(0, frame("a1", "b2")).changes
    state = restored([change for change in changes if change[0] != changelog.PARTITION_KEY])
    joined = state.apply(0, frame("a1", "b2"))
    assert (joined.firings, joined.counts["replayed"]) == ([], 2)


def test_records_without_a_head_are_removed_on_return() -> None:
    """A crash before the head was written leaves its event behind."""
    event_record = JoinState(0).apply(0, frame("a1", payload=BIG)).changes[0]
    joined = restored([event_record]).apply(0, frame("b1"))
    assert joined.changes[0] == (event_record[0], None)


def test_a_missing_part_that_has_not_expired_is_an_error() -> None:
    changes = JoinState(0).apply(0, frame("a1", payload=BIG)).changes
    state = restored([change for change in changes if change[0][:1] != b"e"])
    with pytest.raises(RecordError, match="lacks a record of ml/model-refresh"):
        state.apply(1, frame("b1"))


def test_a_missing_part_that_has_expired_is_none() -> None:
    state = JoinState(0)
    changes = state.apply(0, Frame((*frame("a1", payload=BIG).matches, *frame("a90").matches))).changes
    changes += state.apply(1, Tick(150)).changes
    again = restored([change for change in changes if not (change[0][:1] == b"e" and change[0].endswith(b"\x00a:0:1"))])
    assert [f.events[0].id for f in again.apply(2, frame("b95")).firings] == ["a90"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"p", b"{"),
        (b"p", b"{}"),
        (b"p", None),
        (b"p", b'{"version":99,"offset":1,"time_ms":null}'),
        (b"hx", b"null"),
        (b"hx", b'{"version":99}'),
        (b"hx", b"[]"),
        (b"h\xff", b"{}"),
        (b"x", b"{}"),
        (b"", b"{}"),
    ],
)
def test_a_damaged_or_unknown_record_is_an_error(key: bytes, value: bytes | None) -> None:
    with pytest.raises(RecordError):
        JoinState(0).restore(key, value)


def test_a_head_of_another_version_is_an_error() -> None:
    (key, value), _ = JoinState(0).apply(0, frame("a1")).changes
    assert value is not None
    with pytest.raises(RecordError, match="99"):
        JoinState(0).restore(key, orjson.dumps({**orjson.loads(value), "version": 99}))


def test_an_id_that_comes_back_does_not_alter_the_past() -> None:
    """
    An event of the same id as one that has expired waits in frame 4; the crash comes after its own record and before
    the head. The replayed frame must not find the new event before it has come:

        a:  1(x)             195   196(x)          x is too large for its head's record
        b:                      195
    """

    def match(event_id: str, name: str, time_ms: int, payload: str = "{}") -> Match:
        event = make_event(event_id, name, time_ms, time_ms, payload=payload)
        return Match(make_definition(window_ms=100), event, ("ab".index(name),), "")

    last = Frame((match("a195", "a", 195), match("b195", "b", 195), match("x", "a", 196, BIG)))
    log: list[Frame | Tick] = [Frame((match("x", "a", 1, BIG), match("a90", "a", 90))), Tick(150), last]
    state = JoinState(0)
    changes = [change for offset in (0, 1) for change in state.apply(offset, log[offset]).changes]
    joined = state.apply(2, last)
    event_record = joined.changes[0]
    assert event_record[0][:1] == b"e"
    replayed = restored([*changes, event_record]).apply(2, last)
    assert [f.id for f in replayed.firings] == [f.id for f in joined.firings]
