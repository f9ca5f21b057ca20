"""Internal records read back as they were written, and anything else is a RecordError."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.dead_letter import DeadLetter, Reason
from headrace.model.definition import Definition
from headrace.model.errors import RecordError
from headrace.model.event import Event
from headrace.model.firing import Firing, firing_of
from headrace.model.frame import Frame, Match, Tick, decode, encode_frame, encode_tick
from headrace.model.run import Run, RunEvent, RunState
from tests.unit.stages.build import make_definition, make_event, make_firing

int64 = st.integers(-(2**63), 2**63 - 1)
counts = st.integers(0, 2**53)
texts = st.text(max_size=12)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), int64, st.floats(allow_nan=False, allow_infinity=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)
events = st.builds(
    Event,
    id=texts,
    name=texts,
    time_ms=int64,
    partition=counts,
    offset=counts,
    payload=texts,
    headers=st.one_of(st.none(), st.dictionaries(texts, texts, max_size=3)),
)


@st.composite
def definitions(draw: st.DrawFn) -> Definition:
    count = draw(st.integers(1, 4))
    mapping = st.one_of(st.none(), st.dictionaries(texts, texts, max_size=2))
    made = Definition(
        trigger=draw(texts),
        creation="",
        generation=draw(st.integers(1, 1_000)),
        signature=draw(texts),
        window_ms=draw(counts),
        lateness_ms=draw(counts),
        match=draw(st.sampled_from(["latest", "each"])),
        dependencies=tuple(draw(st.lists(texts, min_size=count, max_size=count))),
        mappings=tuple(draw(st.lists(mapping, min_size=count, max_size=count))),
        run_kind=draw(st.sampled_from(["workflowTemplate", "clusterWorkflowTemplate", "flow"])),
        run_target=draw(texts),
        constants=draw(st.dictionaries(texts, json_values, max_size=3)),
        max_age_ms=draw(st.one_of(st.none(), counts)),
    )
    # Readers may know a generation by its identity, so different definitions need different ones, as they have outside.
    return replace(made, creation=sha256(repr(made).encode()).hexdigest())


@st.composite
def firings(draw: st.DrawFn) -> Firing:
    definition = draw(definitions())
    count = len(definition.dependencies)
    return firing_of(definition, draw(texts), tuple(draw(st.lists(events, min_size=count, max_size=count))))


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    held = draw(st.lists(events, min_size=1, max_size=4))
    rules = draw(st.lists(definitions(), min_size=1, max_size=3))
    places = st.lists(st.integers(0, 31), min_size=1, max_size=3).map(tuple)
    matches = st.builds(Match, st.sampled_from(rules), st.sampled_from(held), places, texts)
    return Frame(tuple(draw(st.lists(matches, max_size=8))))


runs = st.builds(
    Run,
    firing=texts,
    trigger=texts,
    state=st.sampled_from(RunState),
    time_ms=int64,
    fired_ms=int64,
    target=texts,
    run=st.one_of(st.none(), texts),
    key=texts,
    parameters=st.dictionaries(texts, texts, max_size=3),
    events=st.lists(st.builds(RunEvent, dependency=texts, id=texts, name=texts, time_ms=int64), max_size=3),
    attempts=counts,
    reason=st.one_of(st.none(), texts),
    message=st.one_of(st.none(), texts),
    firing_bytes=st.one_of(st.none(), texts),
)
dead_letters = st.builds(
    DeadLetter,
    id=texts,
    kind=st.sampled_from(["event", "firing", "record"]),
    reason=st.sampled_from(Reason),
    message=texts,
    trigger=st.one_of(st.none(), texts),
    topic=texts,
    partition=counts,
    offset=counts,
    time_ms=int64,
    event_id=st.one_of(st.none(), texts),
    key=st.one_of(st.none(), texts),
    headers=st.lists(st.tuples(texts, texts), max_size=3),
    value=st.one_of(st.none(), texts),
)


@given(frames())
def test_a_frame_reads_back(frame: Frame) -> None:
    assert decode(encode_frame(list(frame.matches))) == frame


@given(int64)
def test_a_tick_reads_back(time_ms: int) -> None:
    assert decode(encode_tick(time_ms)) == Tick(time_ms)


@given(firings())
def test_a_firing_reads_back(firing: Firing) -> None:
    assert Firing.decode(firing.encode()) == firing


@given(runs)
def test_a_run_reads_back(run: Run) -> None:
    assert Run.decode(run.encode()) == run


@given(dead_letters)
def test_a_dead_letter_reads_back(letter: DeadLetter) -> None:
    assert DeadLetter.decode(letter.encode()) == letter


def test_a_frame_holds_each_event_and_each_definition_once() -> None:
    event, definitions = make_event("only-once"), [make_definition(trigger=f"ml/t{number}") for number in range(5)]
    value = encode_frame([Match(definition, event, (0,), "") for definition in definitions for _ in range(3)])
    assert value.count(b"only-once") == 1
    assert [value.count(f"ml/t{number}".encode()) for number in range(5)] == [1] * 5


def test_a_later_generation_is_not_mistaken_for_the_one_before() -> None:
    for generation in (1, 2):
        match = Match(make_definition(generation=generation, run_target=f"t{generation}"), make_event(), (0,), "")
        assert decode(encode_frame([match])) == Frame((match,))


RECORDS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "frame": (encode_frame([Match(make_definition(), make_event(), (0,), "")]), decode),
    "tick": (encode_tick(5), decode),
    "firing": (make_firing("{}", "{}").encode(), Firing.decode),
    "run": (
        Run(
            firing="f", trigger="t", state=RunState.STARTED, time_ms=1, fired_ms=1, target="workflowTemplate:w"
        ).encode(),
        Run.decode,
    ),
    "dead letter": (
        DeadLetter(
            id="i", kind="event", reason=Reason.LATE, message="m", topic="t", partition=0, offset=0, time_ms=1
        ).encode(),
        DeadLetter.decode,
    ),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_names_its_version_and_another_version_is_refused(kind: str) -> None:
    value, read = RECORDS[kind]
    record = orjson.loads(value)
    assert record["version"] == 1
    with pytest.raises(RecordError):
        read(orjson.dumps({**record, "version": 99}))


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_that_lacks_a_field_is_refused(kind: str) -> None:
    value, read = RECORDS[kind]
    record = orjson.loads(value)
    optional = {"headers", "parameters", "events", "key", "attempts", "kind", "version"} if kind != "firing" else set()
    for name in set(record) - optional:
        with pytest.raises(RecordError):
            read(orjson.dumps({other: content for other, content in record.items() if other != name}))


@pytest.mark.parametrize("kind", RECORDS)
@given(data=st.data())
def test_a_damaged_record_is_a_record_error(kind: str, data: st.DataObject) -> None:
    value, read = RECORDS[kind]
    damaged = data.draw(st.one_of(st.binary(max_size=40), _cut(value), _replaced(orjson.loads(value))))
    try:
        read(damaged)
    except RecordError as error:
        assert str(error)


def _cut(value: bytes) -> st.SearchStrategy[bytes]:
    return st.integers(0, len(value) - 1).map(lambda end: value[:end])


def _replaced(record: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """The record with one field replaced by some other JSON value."""
    return st.tuples(st.sampled_from(sorted(record)), json_values).map(
        lambda change: orjson.dumps({**record, change[0]: change[1]})
    )
