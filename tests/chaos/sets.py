"""The load of a run, drawn from its seed: which records are published in which order, and what must come of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from headrace.model.dead_letter import Reason

SetName = tuple[str, int]
"""A trigger's name and the number of a set that it has to fire for; a Workflow carries both."""
Part = tuple[SetName, str]
"""A set, and the event of it that a record is."""

EVENTS = ("single", "left", "right", "third")
SPREAD_SETS = 200
"""How many sets lie between the first and the last event of one, at most."""
OUTAGE_SPREAD_SHARE = 0.15
"""The same as a share of an outage: two hours by event time, of which a window of one hour must hold any set."""
NAMED_SHARE = 0.5
"""Records that carry an id and a time of their own, as CloudEvents do; the others are bare JSON."""
DUPLICATED_SHARE = 0.15
"""Of those with an id: sent twice or thrice."""
POISON_SHARE = 0.02
INCOMPLETE_SHARE = 0.04
ROWS_MIN = 50
"""The filter of the trigger `rich`."""
HUGE_BYTES = 2_000_000


@dataclass(frozen=True)
class Record:
    """One record to publish."""

    event: str
    """One of EVENTS."""
    value: bytes | None
    key: bytes | None = None
    event_id: str | None = None
    """With it goes `ce_time`, the moment at which the first copy is published."""
    parts: tuple[Part, ...] = ()
    headers: tuple[tuple[str, bytes], ...] = ()
    poison: Reason | None = None
    """Why it must become a dead letter; None where it is an event."""


@dataclass
class Sets:
    """A run's records, in the order in which they are published, and the Workflows that they must lead to."""

    seed: int
    records: list[Record] = field(default_factory=list)
    expected: dict[SetName, dict[str, str]] = field(default_factory=dict)
    """Set to the parameters of its Workflow."""
    outage: range = range(0)
    """The records that are published while no role runs."""


class _Epoch:
    """Sets whose events all lie between its begin and its end."""

    def __init__(self, sets: Sets, chance: random.Random, count: int, spread: float) -> None:
        self._sets, self._chance, self._count, self._spread = sets, chance, count, spread
        self._placed: list[tuple[float, int, Record]] = []
        self._left = count

    def records(self) -> list[Record]:
        draw = self._chance.choices
        while self._left > 0:
            match draw(("single", "pair", "each", "triple"), (45, 25, 15, 15))[0]:
                case "single":
                    self._single()
                case "pair":
                    self._joined("pair", ("left", "right"))
                case "triple":
                    self._joined("triple", ("left", "right", "third"))
                case "each":
                    self._queue()
            if self._chance.random() < INCOMPLETE_SHARE:
                self._incomplete()
            if self._chance.random() < POISON_SHARE:
                self._place(self._here(), poison(self._chance))
        return [record for _, _, record in sorted(self._placed, key=lambda placed: placed[:2])]

    def _single(self) -> None:
        number, rows, text = self._number(), self._chance.randrange(100), self._text()
        names = [("single", number)] + ([("rich", number)] if rows > ROWS_MIN and self._left > 1 else [])
        # The last single of an epoch must not start one Workflow too many.
        rows = rows if len(names) == 2 else min(rows, ROWS_MIN)
        for name in names:
            self._expect(name, {"set": str(number), "text": text})
        parts = tuple((name, "single") for name in names)
        self._publish(self._here(), "single", {"set": number, "rows": rows, "text": text}, parts)

    def _joined(self, trigger: str, events: Iterable[str]) -> None:
        number, here = self._number(), self._here()
        values = {event: self._text() for event in events}
        self._expect((trigger, number), {"set": str(number), **values})
        for event, text in values.items():
            payload: dict[str, object] = {"kind": trigger, "key": f"{trigger}-{number}", event: text}
            if event == "left":
                payload["set"] = number
            self._publish(here + self._gap(), event, payload, (((trigger, number), event),))

    def _queue(self) -> None:
        """Several sets of one key. In the order of their times, the nth event here goes with the nth event there."""
        count = min(self._left, self._chance.randint(2, 4))
        here, numbers = self._here(), range(self._number(), self._number() + count)
        places = {event: sorted(here + self._gap() for _ in numbers) for event in ("left", "right")}
        for index, number in enumerate(numbers):
            values = {"left": self._text(), "right": self._text()}
            self._expect(("each", number), {"set": str(number), **values})
            for event, text in values.items():
                payload: dict[str, object] = {"kind": "each", "key": f"each-{numbers[0]}", event: text}
                if event == "left":
                    payload["set"] = number
                self._publish(places[event][index], event, payload, ((("each", number), event),), ordered=True)

    def _incomplete(self) -> None:
        """Events that must lead to nothing: one is missing."""
        number, trigger = self._chance.getrandbits(40), self._chance.choice(("pair", "triple", "each"))
        events = ("left", "right") if trigger == "triple" else (self._chance.choice(("left", "right")),)
        for event in events:
            payload = {"kind": trigger, "key": f"lone-{number}", "set": -1, event: self._text()}
            self._publish(self._here() + self._gap(), event, payload, ())

    def _publish(
        self, place: float, event: str, payload: dict[str, object], parts: tuple[Part, ...], ordered: bool = False
    ) -> None:
        named = self._chance.random() < NAMED_SHARE
        event_id = f"{event}/{self._chance.getrandbits(64):016x}" if named else None
        # Records of one key come in their order, which events of one queue depend on.
        key = str(payload["key"]).encode() if ordered else None
        record = Record(event, json.dumps(payload).encode(), key, event_id, parts)
        self._place(place, record)
        if event_id is not None and self._chance.random() < DUPLICATED_SHARE:
            for _ in range(self._chance.randint(1, 2)):
                self._place(place + self._gap(), record)

    def _place(self, place: float, record: Record) -> None:
        self._placed.append((place, len(self._placed), record))

    def _expect(self, name: SetName, parameters: dict[str, str]) -> None:
        self._sets.expected[name] = parameters
        self._left -= 1

    def _number(self) -> int:
        return len(self._sets.expected)

    def _here(self) -> float:
        return float(self._count - self._left)

    def _gap(self) -> float:
        return min(self._spread, self._chance.expovariate(4 / self._spread))

    def _text(self) -> str:
        return f"t{self._chance.getrandbits(48):012x}"


def poison(chance: random.Random) -> Record:
    """Draw a record that cannot be read, of one of the kinds that pipelines really produce."""
    event = chance.choice(EVENTS)
    match chance.choices(("garbage", "none", "list", "time", "huge"), (5, 2, 2, 2, 1))[0]:
        case "garbage":
            return Record(event, b"\xff" + chance.randbytes(200), poison=Reason.NOT_JSON)
        case "none":
            return Record(event, None, poison=Reason.NOT_JSON)
        case "list":
            return Record(event, b"[1, 2]", poison=Reason.NOT_AN_OBJECT)
        case "time":
            return Record(event, b'{"set": -1}', headers=(("ce_time", b"yesterday"),), poison=Reason.BAD_TIME)
        case _:
            return Record(event, b'{"set": -1, "text": "%s"}' % (b"x" * HUGE_BYTES), poison=Reason.PAYLOAD_TOO_LARGE)


def draw(seed: int, count: int, outage: tuple[float, float] | None = None, spread: float = SPREAD_SETS) -> Sets:
    """Draw a run's load.

    Args:
        seed: the same seed draws the same load.
        count: sets, which is to say Workflows.
        outage: where the outage begins and ends, as shares of the sets; None for none.
        spread: how many sets lie between the first and the last event of one.
    """
    sets, chance = Sets(seed), random.Random(f"sets {seed}")
    begin, end = (count, count) if outage is None else (round(share * count) for share in outage)
    for epoch_count in (begin, end - begin, count - end):
        if epoch_count <= 0:
            continue
        is_outage = outage is not None and len(sets.expected) == begin and not sets.outage
        widest = OUTAGE_SPREAD_SHARE * epoch_count if is_outage else float(epoch_count)
        first = len(sets.records)
        sets.records += _Epoch(sets, chance, epoch_count, min(spread, widest)).records()
        if is_outage:
            sets.outage = range(first, len(sets.records))
    return sets
