"""Dead letters keep the original bytes, or say where they lie."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model import bounds
from headrace.model.dead_letter import DeadLetter, Reason, dead_letter, event_dead_letter
from headrace.model.errors import RecordError
from headrace.model.event import Position
from headrace.model.run import Run, RunState
from tests.unit.stages.build import make_event

PLACE = Position("data_updated", 2, 7)


def set_aside(value: bytes | None = b"{", reason: Reason = Reason.NOT_JSON, place: Position = PLACE) -> DeadLetter:
    return dead_letter("event", reason, "the value is not JSON", place, 5, value=value)


@given(
    st.one_of(st.none(), st.binary(max_size=50)),
    st.one_of(st.none(), st.binary(max_size=50)),
    st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=20)), max_size=3),
)
def test_a_dead_letter_keeps_the_original_bytes(
    value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    made = dead_letter("event", Reason.NOT_JSON, "m", PLACE, 5, value=value, key=key, headers=headers)
    letter = DeadLetter.decode(made.encode())
    assert (letter.value is None) == (value is None)
    assert base64.b64decode(letter.value or "") == (value or b"")
    assert (letter.key is None) == (key is None)
    assert base64.b64decode(letter.key or "") == (key or b"")
    assert [(name, base64.b64decode(text)) for name, text in letter.headers] == headers
    assert (letter.topic, letter.partition, letter.offset, letter.time_ms) == ("data_updated", 2, 7, 5)


def test_what_is_too_large_is_kept_by_reference() -> None:
    largest = set_aside(b"x" * bounds.DEAD_LETTER_BYTES_MAX)
    assert largest.value is not None
    assert len(largest.encode()) < bounds.INTERNAL_RECORD_BYTES_MAX
    letter = set_aside(b"x" * (bounds.DEAD_LETTER_BYTES_MAX + 1))
    assert (letter.value, letter.key, letter.headers) == (None, None, [])
    assert (letter.topic, letter.partition, letter.offset) == ("data_updated", 2, 7)


def test_keys_and_headers_count_towards_the_size() -> None:
    half = b"x" * (bounds.DEAD_LETTER_BYTES_MAX // 2 + 1)
    assert dead_letter("event", Reason.NOT_JSON, "m", PLACE, 5, value=half, key=half).value is None
    assert dead_letter("event", Reason.NOT_JSON, "m", PLACE, 5, value=half, headers=[("h", half)]).value is None


def test_the_same_thing_set_aside_twice_has_one_id() -> None:
    assert set_aside().id == set_aside().id
    event = make_event("x", offset=3)
    ids = [
        set_aside().id,
        set_aside(reason=Reason.BAD_TIME).id,
        set_aside(place=Position("data_updated", 2, 8)).id,
        set_aside(place=Position("other", 2, 7)).id,
        event_dead_letter(event, Reason.LATE, "m", "ml/one").id,
        event_dead_letter(event, Reason.LATE, "m", "ml/two").id,
    ]
    assert len(set(ids)) == len(ids)


def test_an_event_set_aside_carries_its_id_and_time_as_headers() -> None:
    event = make_event("x-1", "a", 1_777_636_800_250, payload='{"n":1.10}')
    letter = event_dead_letter(event, Reason.LATE, "it came late", "ml/model-refresh")
    headers = {name: base64.b64decode(text) for name, text in letter.headers}
    assert headers["ce_id"] == b"x-1"
    assert headers["ce_time"] == b"2026-05-01T12:00:00.250Z"
    assert base64.b64decode(letter.value or "") == b'{"n":1.10}'
    assert (letter.trigger, letter.event_id, letter.topic) == ("ml/model-refresh", "x-1", "a")


@pytest.mark.parametrize("reason", Reason)
def test_reasons_are_words_for_programs(reason: Reason) -> None:
    assert set_aside(reason=reason).reason == reason
    assert all(part.isalpha() and part.islower() for part in reason.value.split("-"))


def test_a_queued_run_gives_its_firing_back_and_another_has_none() -> None:
    run = Run(firing="f", trigger="ml/t", state=RunState.QUEUED, time_ms=1, fired_ms=1, target="flow:f.py")
    queued = run.model_copy(update={"firing_bytes": base64.b64encode(b"firing").decode()})
    assert Run.decode(queued.encode()).firing_value() == b"firing"
    assert "firing_bytes" not in queued.listing()
    with pytest.raises(RecordError, match="holds no firing"):
        run.firing_value()


@pytest.mark.parametrize(
    ("state", "ended"),
    [
        ("queued", False),
        ("started", False),
        ("succeeded", True),
        ("failed", True),
        ("unknown", True),
        ("refused", True),
    ],
)
def test_a_run_ends_once(state: str, ended: bool) -> None:
    run = Run(firing="f", trigger="t", state=RunState(state), time_ms=1, fired_ms=1, target="flow:f.py")
    assert run.ended is ended
