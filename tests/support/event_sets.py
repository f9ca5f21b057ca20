"""Sets of events in a random order, some written twice or thrice, and what must come of them: one Workflow each."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field

from tests.support.kafka import DEADLINE_S
from tests.support.kube import WorkflowWatch
from tests.support.tenant import Bare, Tenant, parameters_of

DUPLICATED_SHARE = 0.1
EVENT_PARTITIONS = 4
COUNT_TIMEOUT_S = 2 * DEADLINE_S
WORDS = ("single", "left", "right")

Parameters = tuple[tuple[str, str], ...]


@dataclass
class EventSets:
    """Single events and pairs for one tenant. Only what is written more than once carries an id, for without one two
    records are two events; all the rest is bare JSON."""

    tenant: Tenant
    singles: int
    pairs: int
    seed: int
    records: list[Bare] = field(default_factory=list)
    expected: dict[str, set[Parameters]] = field(default_factory=lambda: {"single": set(), "pair": set()})
    """Template -> the sorted parameters of each of its Workflows."""

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        single, left, right = self.events
        for number in range(self.singles):
            text = f"s{chance.getrandbits(32):08x}"
            self._add(chance, single, {"n": number, "text": text, "not_declared": True})
            self.expected["single"].add((("n", str(number)), ("text", text)))
        for number in range(self.pairs):
            a, b = chance.getrandbits(32), f"b{chance.getrandbits(32):08x}"
            self._add(chance, left, {"k": number, "a": {"value": a}})
            self._add(chance, right, {"k": number, "b": b})
            self.expected["pair"].add((("a", f'{{"value":{a}}}'), ("b", b), ("k", str(number))))
        chance.shuffle(self.records)

    def _add(self, chance: random.Random, event: str, payload: dict[str, object]) -> None:
        value = json.dumps(payload).encode()
        if chance.random() < DUPLICATED_SHARE:
            headers = [("ce_id", f"{event}/{chance.getrandbits(64):016x}".encode())]
            self.records.extend([Bare(event, value, headers)] * chance.choice((2, 3)))
        else:
            self.records.append(Bare(event, value))

    @property
    def events(self) -> tuple[str, str, str]:
        single, left, right = (self.tenant.event(word) for word in WORDS)
        return single, left, right

    def deploy(self) -> None:
        """Deploy one trigger for the single events and one for the pairs."""
        tenant, (single, left, right) = self.tenant, self.events
        tenant.template("single", {"n": None, "text": None})
        tenant.template("pair", {"k": None, "a": None, "b": None})
        tenant.create_topics(dict.fromkeys(self.events, EVENT_PARTITIONS))
        triggers = (
            tenant.trigger("single", [single], "single"),
            tenant.trigger("pair", [{"name": name, "key": "event.k"} for name in (left, right)], "pair"),
        )
        tenant.engine.cli("deploy", "-", stdin="---\n".join(triggers)).expect(0)

    def complete(self, count: int) -> int:
        """Return how many Workflows the first `count` records lead to by themselves."""
        singles: set[int] = set()
        sides: dict[int, set[str]] = {}
        for record in self.records[:count]:
            payload = json.loads(record.value or b"")
            if "n" in payload:
                singles.add(payload["n"])
            else:
                sides.setdefault(payload["k"], set()).add(record.event)
        return len(singles) + sum(len(side) == 2 for side in sides.values())

    def check(self, watch: WorkflowWatch) -> None:
        """Once nothing is left to do: each set became one Workflow with its parameters, ever, and one run."""
        self.tenant.settle(*self.events)
        seen = watch.wait_for(self.singles + self.pairs, COUNT_TIMEOUT_S)
        found: dict[str, list[Parameters]] = {"single": [], "pair": []}
        for workflow in seen.values():
            template = workflow["spec"]["workflowTemplateRef"]["name"]
            found[template].append(tuple(sorted(parameters_of(workflow).items())))
        for template, expected in self.expected.items():
            assert set(found[template]) == expected, f"seed {self.seed}"
            assert len(found[template]) == len(expected), f"{template} Workflows exist twice; seed {self.seed}"
        started = Counter(firing for _, firing, state in self.tenant.run_records() if state == "started")
        assert started == Counter(workflow["metadata"]["labels"]["headrace.dev/firing"] for workflow in seen.values())
        assert self.tenant.dead_letters() == []
