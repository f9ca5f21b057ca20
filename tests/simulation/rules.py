"""Triggers of a scenario, twice: as Headrace reads them, and as plain Python for the judge.

The two share no code with each other: the CEL text goes to the engine, the functions stay here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

Payload = dict[str, Any]

FILTERS: dict[str, Callable[[Payload], bool]] = {
    "event.v > 3": lambda payload: type(payload.get("v")) is int and payload["v"] > 3,
    "event.v <= 6": lambda payload: type(payload.get("v")) is int and payload["v"] <= 6,
    'event.kind == "x"': lambda payload: payload.get("kind") == "x",
}
TOPICS = ("alpha", "beta", "gamma")
TEMPLATES = {
    "plain": ("region", "v", "note", "flag", "parts", "tier"),
    "narrow": ("who", "tier", "n", "flag"),
}
MISSING_TEMPLATE = "missing"


@dataclass(frozen=True, slots=True)
class Published:
    """An event as it was published: what the judge believes, whatever Headrace makes of it."""

    topic: str
    partition: int
    offset: int
    appended_ms: int
    id: str
    time_ms: int
    payload: Payload
    unusable: str | None = None
    """The reason for which no trigger may use it."""

    @property
    def position(self) -> tuple[str, int, int]:
        """Where it lies."""
        return (self.topic, self.partition, self.offset)

    @property
    def order(self) -> tuple[int, str, int, int]:
        """Older first; ties go by topic, partition, offset."""
        return (self.time_ms, *self.position)


@dataclass(frozen=True, slots=True)
class Need:
    """One event that a rule waits for."""

    topic: str
    filter: str | None = None
    mapping: tuple[tuple[str, str], ...] | None = None
    """(parameter, payload field)"""

    def passes(self, payload: Payload) -> bool:
        """Whether an event of this topic counts."""
        return self.filter is None or FILTERS[self.filter](payload)


@dataclass(frozen=True, slots=True)
class Rule:
    """One generation of a trigger."""

    name: str
    creation: str
    """Made anew for each scenario: production remembers definitions by it."""
    needs: tuple[Need, ...]
    window_s: int
    match: str
    keyed: bool
    template: str
    constants: tuple[tuple[str, Any], ...] = ()
    generation: int = 1
    paused: bool = False
    starts: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def joins(self) -> bool:
        """Whether it waits for more than one event."""
        return len(self.needs) > 1

    @property
    def window_ms(self) -> int:
        """The window."""
        return self.window_s * 1000

    @property
    def kept_by(self) -> tuple[Any, ...]:
        """What waiting events depend on."""
        return (tuple((need.topic, need.filter) for need in self.needs), self.keyed, self.window_s)

    def record(self) -> dict[str, Any]:
        """The trigger's record, as a deployment writes it."""
        events: list[Payload] = []
        for need in self.needs:
            event: Payload = {"name": need.topic}
            if need.filter is not None:
                event["filter"] = need.filter
            if self.keyed:
                event["key"] = "event.region"
            if need.mapping is not None:
                event["parameters"] = dict(need.mapping)
            events.append(event)
        run = {"workflowTemplate": self.template, "parameters": dict(self.constants)}
        spec = {"events": events, "window": f"{self.window_s}s", "match": self.match, "run": run, "paused": self.paused}
        return {
            "version": 1,
            "name": self.name,
            "creation": self.creation,
            "generation": self.generation,
            "spec": spec,
            "starts": self.starts,
            "deployed_ms": 0,
        }

    def waits_for(self, topic: str) -> bool:
        """Whether it names a topic."""
        return any(need.topic == topic for need in self.needs)

    def counts(self, event: Published) -> bool:
        """Whether an event lies at or behind its start."""
        return self.waits_for(event.topic) and event.offset >= self.starts.get(event.topic, {}).get(
            str(event.partition), 0
        )

    def places(self, event: Published) -> tuple[int, ...]:
        """Which of its needs an event can fill."""
        return tuple(
            index for index, need in enumerate(self.needs) if need.topic == event.topic and need.passes(event.payload)
        )

    def key_of(self, event: Published) -> str | None:
        """The key under which an event is joined, as JSON; None where it has none that can be used."""
        if not self.keyed:
            return ""
        value = event.payload.get("region")
        return None if value is None else json.dumps(value)

    def refusal(self, events: tuple[Published, ...]) -> str | None:
        """Why the run of a complete set cannot start."""
        if self.template == MISSING_TEMPLATE:
            return "unknown-template"
        values = self._values(events)
        return "template-text" if any(isinstance(v, str) and "{{" in v for v in values.values()) else None

    def parameters(self, events: tuple[Published, ...]) -> dict[str, str]:
        """The parameters of the run of a complete set."""
        return {
            name: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
            for name, value in self._values(events).items()
        }

    def _values(self, events: tuple[Published, ...]) -> Payload:
        values: Payload = {}
        for need, event in zip(self.needs, events, strict=True):
            if need.mapping is None:
                offered = {name: v for name, v in event.payload.items() if name in TEMPLATES.get(self.template, ())}
                values = {**offered, **values}
        values |= dict(self.constants)
        for need, event in zip(self.needs, events, strict=True):
            for parameter, path in need.mapping or ():
                value: Any = event.payload
                for part in path.split("."):
                    value = value.get(part, KeyError) if isinstance(value, dict) else KeyError
                if value is not KeyError:
                    values[parameter] = value
        return values


def random_rules(random: Random) -> list[Rule]:
    """Make the triggers of a scenario: always a single one and a pair, and some more."""
    shapes = [("alpha",), ("alpha", "beta"), *random.sample(_SHAPES, random.randint(1, 3))]
    return [_random_rule(random, f"ml/rule-{number}", shape) for number, shape in enumerate(shapes)]


_SHAPES: list[tuple[str, ...]] = [
    ("alpha",),
    ("beta",),
    ("alpha", "beta"),
    ("beta", "gamma"),
    ("alpha", "alpha"),
    ("alpha", "beta", "gamma"),
    ("gamma", "gamma", "beta"),
]


def _random_rule(random: Random, name: str, shape: tuple[str, ...]) -> Rule:
    return Rule(
        name=name,
        creation=f"{random.getrandbits(64):016x}",
        needs=tuple(_random_need(random, topic) for topic in shape),
        window_s=random.choice([2, 5, 10, 20, 40]),
        match=random.choice(["latest", "each"]),
        keyed=random.random() < 0.7,
        template=MISSING_TEMPLATE if random.random() < 0.06 else random.choice(["plain", "plain", "narrow"]),
        constants=random.choice([(), (("tier", "prod"),), (("tier", "prod"), ("n", 7))]),
    )


def _random_need(random: Random, topic: str) -> Need:
    mapping = random.choice([None, None, (("who", "region"), ("n", "deep.n")), (("v", "v"),)])
    return Need(topic, random.choice([None, None, *FILTERS]), mapping)
