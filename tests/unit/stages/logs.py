"""Random logs of the matches topic: frames of matches of two triggers, and ticks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

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
    advance_ms: int
    """How far the world's clock has moved on since the step before."""
    lag_ms: int
    """How far the event's own time lies behind that clock."""
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
class Ticking:
    """A tick that many milliseconds behind the world's clock; the frame ends before it."""

    behind_ms: int


@dataclass(frozen=True)
class Cut:
    """The end of a frame."""


Step = Arrival | Again | Redefine | Ticking | Cut


def _step(random: Random, shifts_ms: Sequence[int], payload_characters_max: int) -> Step:
    kind = random.random()
    if kind < 0.75:
        return Arrival(
            trigger=random.choice([0, 0, 0, 1]),
            mask=random.choice([1, 2, 4, 1, 2, 4, 1, 2, 4, 3, 5, 6, 7]),
            advance_ms=random.choice([0, 0, 1, 1, 2, 3]) * COARSE_MS,
            lag_ms=random.choice([0, 0, 0, 1, 2, 5, 9, 25]) * COARSE_MS,
            key=random.choice(["", "", "1"]),
            partition=random.choice([0, 1]),
            payload='{"x":"' + "y" * random.randint(0, payload_characters_max) + '"}',
        )
    if kind < 0.83:
        return Again(back=random.randint(1, 8), shift_ms=random.choice(shifts_ms))
    if kind < 0.90:
        return Ticking(behind_ms=random.randint(-3 * COARSE_MS, 15 * COARSE_MS))
    if kind < 0.98:
        return Cut()
    return Redefine(trigger=random.choice([0, 1]), keeping=random.random() < 0.5)


def _steps(seed: int, count: int, shifts_ms: Sequence[int], payload_characters_max: int) -> list[Step]:
    random = Random(seed)
    return [_step(random, shifts_ms, payload_characters_max) for _ in range(count)]


def steps(*, shifts_ms: Sequence[int] = (0,), payload_characters_max: int = 0) -> st.SearchStrategy[list[Step]]:
    """Steps of a log, mostly arrivals.

    A seed chooses them, for Hypothesis's own choices cluster near their simplest values and then hardly anything
    fires. The count comes apart from the seed, so that a failing log shrinks to its shortest failing beginning.
    """
    return st.builds(
        _steps,
        st.integers(0, 2**32 - 1),
        st.integers(2, 60),
        st.just(shifts_ms),
        st.just(payload_characters_max),
    )


def _definitions(seed: int) -> tuple[Definition, Definition]:
    random = Random(seed)
    pair = [
        make_definition(
            random.choice(["ab", "abc"]),
            window_ms=random.choice([0, 1, 3, 6, 10, 15]) * COARSE_MS,
            lateness_ms=random.choice([0, 1, 5, 15]) * COARSE_MS,
            match=random.choice(["latest", "each"]),
            trigger=f"ml/t{number}",
        )
        for number in (1, 2)
    ]
    return pair[0], pair[1]


def definitions() -> st.SearchStrategy[tuple[Definition, Definition]]:
    """Two triggers over the same events, of two or three dependencies each."""
    return st.builds(_definitions, st.integers(0, 2**32 - 1))


def records(triggers: Sequence[Definition], taken: Sequence[Step]) -> Records:
    """Lay `taken` out as the records of one partition."""
    result = Records()
    frame: list[Match] = []
    past: list[Match] = []
    current = list(triggers)
    clock_ms = 0
    # Ids count arrivals only, so that a log and its copy with duplicates speak of the same events.
    for number, step in enumerate(taken):
        match step:
            case Arrival():
                clock_ms += step.advance_ms
                frame.append(_match(current, step, clock_ms - step.lag_ms, number, f"e{len(past)}"))
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
            case Cut() | Ticking():
                if frame:
                    result.append(Frame(tuple(frame)))
                    frame = []
                if isinstance(step, Ticking):
                    result.append(Tick(clock_ms - step.behind_ms))
    if frame:
        result.append(Frame(tuple(frame)))
    return result


def _match(triggers: Sequence[Definition], arrival: Arrival, time_ms: int, offset: int, event_id: str) -> Match:
    definition = triggers[arrival.trigger]
    count = len(definition.dependencies)
    passed = tuple(index for index in range(count) if arrival.mask >> index & 1) or (0,)
    topic = f"topic{arrival.mask}"
    event = Event(event_id, topic, time_ms, arrival.partition, offset, arrival.payload)
    return Match(definition, event, passed, arrival.key)


def logs(*, shifts_ms: Sequence[int] = (0,), payload_characters_max: int = 0) -> st.SearchStrategy[Records]:
    """A whole log."""
    taken = steps(shifts_ms=shifts_ms, payload_characters_max=payload_characters_max)
    return st.builds(records, definitions(), taken)
