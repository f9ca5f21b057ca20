"""The verdict on a run: what is, held against what must be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.chaos.load import PoisonPlace, Reached
from tests.chaos.sets import SetName
from tests.chaos.watch import set_of
from tests.support.engine import Row
from tests.support.kube import KubeObject
from tests.support.tenant import parameters_of

SHOWN_MAX = 10
FAILURE_CHARACTERS = 2000


@dataclass
class Injected:
    """What became of one planned fault."""

    fault: str
    at_s: float
    """Seconds since the load began."""
    lasted_s: float
    before: Reached
    """How far the load was."""
    workflows_before: int
    note: str
    caught_up_s: float | None = None
    """From the fault's end until every set published by then had its Workflow; None if one never had."""


@dataclass
class Verdict:
    """What a run has shown."""

    seed: int
    sets: int
    records: int
    workflows: int = 0
    """Uids that ever were."""
    duplicates: list[str] = field(default_factory=list)
    """Sets with more than one Workflow."""
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    """Workflows of incomplete sets, or of none."""
    wrong: list[str] = field(default_factory=list)
    """Workflows whose parameters are not their set's, or whose run is not on record as it should be."""
    poison: int = 0
    dead_letters: int = 0
    letters_wrong: list[str] = field(default_factory=list)
    """Poison without its dead letter, and dead letters that are no poison."""
    lag: int = 0
    queued: int = 0
    """Firings that still wait."""
    failures: list[str] = field(default_factory=list)
    """What kept the run from being what it should have been."""
    invalid: list[str] = field(default_factory=list)
    """Why the run proves nothing, even where all is well."""
    faults: list[Injected] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)
    """How often a role ended by itself, by role and exit code."""
    watch_gaps: int = 0
    load_s: float = 0.0
    seconds: float = 0.0

    @property
    def is_exact(self) -> bool:
        """Whether every set had its one Workflow, and nothing else came of the load."""
        faulty = (self.duplicates, self.missing, self.unexpected, self.wrong, self.letters_wrong, self.failures)
        return not any(faulty) and self.lag == 0 and self.queued == 0

    @property
    def word(self) -> str:
        """The verdict in a word."""
        if not self.is_exact:
            return "FAILED"
        return "INVALID" if self.invalid else "exact"

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        return {"verdict": self.word, **asdict(self)}

    def broke_off(self, error: BaseException) -> None:
        """Note what ended a run early; it still tells what it saw until then."""
        first: BaseException | None = error
        while first is not None:
            # What failed first is at the end of the chain: telling what was seen may have failed, too.
            self.failures.append(f"{type(first).__name__}: {str(first)[:FAILURE_CHARACTERS]}")
            first = first.__context__

    def check_workflows(self, seen: Iterable[KubeObject], expected: Mapping[SetName, Mapping[str, str]]) -> None:
        """Hold every Workflow that ever was against the sets."""
        uids: Counter[SetName] = Counter()
        for workflow in seen:
            self.workflows += 1
            name, label = set_of(workflow), workflow["metadata"]["name"]
            if name is None or name not in expected:
                self.unexpected.append(f"{label} {parameters_of(workflow)}")
                continue
            uids[name] += 1
            if parameters_of(workflow) != expected[name]:
                self.wrong.append(f"{label} has {parameters_of(workflow)}, not {dict(expected[name])}")
        self.duplicates += [f"{trigger} {number}" for (trigger, number), count in uids.items() if count > 1]
        self.missing += [f"{trigger} {number}" for trigger, number in expected if (trigger, number) not in uids]

    def check_runs(self, seen: Iterable[KubeObject], records: Iterable[tuple[str, str, str]]) -> None:
        """Hold the run records (trigger, firing, state; oldest first) against the Workflows."""
        newest = {firing: state for _, firing, state in records}
        self.queued = sum(state == "queued" for state in newest.values())
        started = {firing for firing, state in newest.items() if state == "started"}
        created = {workflow["metadata"]["labels"]["headrace.dev/firing"] for workflow in seen}
        self.wrong += [f"firing {firing} has a Workflow and no run that is started" for firing in created - started]
        self.wrong += [f"firing {firing} is recorded as started without a Workflow" for firing in started - created]

    def check_dead_letters(self, letters: Iterable[Row], poison: Mapping[PoisonPlace, str]) -> None:
        """Hold the dead letters against the poison that was published."""
        found = {(row["topic"], row["partition"], row["offset"]): row for row in letters}
        self.poison, self.dead_letters = len(poison), len(found)
        for place, reason in poison.items():
            row = found.pop(place, None)
            if row is None:
                self.letters_wrong.append(f"{place}: no dead letter, but it is {reason}")
            elif row["reason"] != reason:
                self.letters_wrong.append(f"{place}: {row['reason']}, not {reason}")
        self.letters_wrong += [f"{place}: {row['reason']}: {row['message']}" for place, row in found.items()]

    def check_faults(self) -> None:
        """Note why the run proves nothing: faults that met no load."""
        for fault in self.faults:
            if fault.before.records >= self.records:
                self.invalid.append(f"{fault.fault}: all records were published before it")
            if fault.workflows_before >= self.sets:
                self.invalid.append(f"{fault.fault}: all Workflows existed before it")


def caught_up_s(found: Mapping[SetName, Mapping[str, float]], names: Iterable[SetName], ended_s: float) -> float | None:
    """Return how long after `ended_s` the last of these sets had its Workflow; None if one never had.

    Args:
        found: set to the moments at which its Workflows were first seen, in seconds of one clock.
        names: the sets that were complete at the fault's end.
        ended_s: the fault's end, in seconds of the same clock.
    """
    seen = [min(found[name].values()) if name in found else None for name in names]
    if None in seen:
        return None
    return max([0.0, *(at_s - ended_s for at_s in seen if at_s is not None)])
