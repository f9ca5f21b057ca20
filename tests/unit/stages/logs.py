"""Random logs of the matches topic: frames of matches of two triggers, and ticks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from headrace.model.definition import Definition
from headrace.model.event import Event
from headrace.model.frame import Frame, Match, Tick
from tests.unit.stages.build import make_definition


class Records(list[Frame | Tick]):
    """A log, which shows itself as one line for each record, so that a failing example can be read."""

    def __repr__(self) -> str:
        return "\n".join(["", *(f"  {offset}: {_line(record)}" for offset, record in enumerate(self))])


def _line(record: Frame | Tick) -> str:
    if isinstance(record, Tick):
        return f"tick@{record.time_ms}"
    return "  ".join(_text(match) for match in record.matches)


def _text(match: Match) -> str:
    definition, event = match.definition, match.event
    passed = "".join(definition.dependencies[index] for index in match.dependencies)
    rule = f"{definition.match} {definition.window_ms}+{definition.lateness_ms} g{definition.generation}"
    return f"{definition.trigger}({rule}) {event.id}:{passed}@{event.time_ms} key={match.key}"


COARSE_MS = 100
"""Event times and windows are multiples of this, so that equal times and exact window ends come up often."""

REPUBLISHED_MS = (0, 100, 500, 1_500, 3_000)
"""How much later an event may come once more with the same id, as a retried publication does."""


@dataclass(frozen=True)
class Arrival:
    """An event that passes the dependencies in `mask`, for one of the triggers, under one of the keys."""

    trigger: int
    mask: int
    time_ms: int
    key: str
    partition: int
    payload: str


@dataclass(frozen=True)
class Again:
    """An earlier arrival once more, `shift_ms` later by its own time."""

    back: int
    shift_ms: int


@dataclass(frozen=True)
class Redefine:
    """A new generation of a trigger; `keeping` says that what waits for it is still wanted."""

    trigger: int
    keeping: bool


@dataclass(frozen=True)
class Cut:
    """The end of a frame."""


Step = Arrival | Again | Redefine | Cut | Tick


def _coarse_ms(count: int) -> int:
    return count * COARSE_MS


def _payloads(characters_max: int) -> st.SearchStrategy[str]:
    return st.integers(0, characters_max).map(lambda count: '{"x":"' + "y" * count + '"}')


def steps(*, shifts_ms: Sequence[int] = (0,), payload_characters_max: int = 0) -> st.SearchStrategy[list[Step]]:
    """Steps of a log, mostly arrivals."""
    arrivals = st.builds(
        Arrival,
        trigger=st.sampled_from([0, 0, 0, 1]),
        mask=st.sampled_from([1, 2, 4, 1, 2, 4, 3, 5, 6, 7]),
        time_ms=st.integers(0, 30).map(_coarse_ms),
        key=st.sampled_from(["", "", "1"]),
        partition=st.integers(0, 1),
        payload=_payloads(payload_characters_max),
    )
    again = st.builds(Again, back=st.integers(1, 8), shift_ms=st.sampled_from(shifts_ms))
    ticks = st.builds(Tick, st.integers(0, 60 * COARSE_MS))
    redefinitions = st.builds(Redefine, trigger=st.integers(0, 1), keeping=st.booleans())
    step = st.one_of(arrivals, arrivals, arrivals, arrivals, arrivals, again, ticks, redefinitions, st.just(Cut()))
    # Short logs shrink well; long ones meet the rare states.
    return st.one_of(st.lists(step, min_size=2, max_size=10), st.lists(step, min_size=15, max_size=45))


@st.composite
def definitions(draw: st.DrawFn) -> tuple[Definition, Definition]:
    """Two triggers over the same events, of two or three dependencies each."""
    pair = [
        make_definition(
            "abc"[: draw(st.integers(2, 3))],
            window_ms=_coarse_ms(draw(st.integers(0, 12))),
            lateness_ms=_coarse_ms(draw(st.integers(0, 15))),
            match=draw(st.sampled_from(["latest", "each"])),
            trigger=f"ml/t{number}",
        )
        for number in (1, 2)
    ]
    return pair[0], pair[1]


def records(triggers: Sequence[Definition], taken: Sequence[Step]) -> Records:
    """Lay `taken` out as the records of one partition."""
    result = Records()
    frame: list[Match] = []
    past: list[Match] = []
    current = list(triggers)
    # Ids count arrivals only, so that a log and its copy with duplicates speak of the same events.
    for number, step in enumerate(taken):
        match step:
            case Arrival():
                frame.append(_match(current, step, number, f"e{len(past)}"))
                past.append(frame[-1])
            case Again() if len(past) >= step.back:
                old = past[-step.back]
                event = replace(old.event, offset=number, time_ms=old.event.time_ms + step.shift_ms)
                frame.append(replace(old, event=event))
            case Again():
                pass
            case Redefine():
                old_one = current[step.trigger]
                signature = old_one.signature if step.keeping else f"signature-{number}"
                changed = replace(old_one, generation=old_one.generation + 1, signature=signature)
                current[step.trigger] = changed
            case Cut() | Tick():
                if frame:
                    result.append(Frame(tuple(frame)))
                    frame = []
                if isinstance(step, Tick):
                    result.append(step)
    if frame:
        result.append(Frame(tuple(frame)))
    return result


def _match(triggers: Sequence[Definition], arrival: Arrival, offset: int, event_id: str) -> Match:
    definition = triggers[arrival.trigger]
    count = len(definition.dependencies)
    passed = tuple(index for index in range(count) if arrival.mask >> index & 1) or (0,)
    topic = f"topic{arrival.mask}"
    event = Event(event_id, topic, arrival.time_ms, arrival.partition, offset, arrival.payload)
    return Match(definition, event, passed, arrival.key)


@st.composite
def logs(draw: st.DrawFn, *, shifts_ms: Sequence[int] = (0,), payload_characters_max: int = 0) -> Records:
    """A whole log."""
    triggers = draw(definitions())
    return records(triggers, draw(steps(shifts_ms=shifts_ms, payload_characters_max=payload_characters_max)))
