"""A mutation: one known fault as an exact change of text, and the check that must find it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


class MutationStale(Exception):
    """The text that a mutation changes is not there, or not once: the mutation has to follow the code."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """Seeds of the simulation; the first that fails is enough."""

    seeds: int

    @property
    def arguments(self) -> tuple[str, ...]:
        """What Python is to run."""
        return ("-m", "tests.simulation", "--seeds", str(self.seeds), "--stop-at-first", "--jobs", "1")

    def found(self, output: str) -> str | None:
        """Return what the check says it found; None where it found nothing."""
        found = re.search(r"seed (\d+) FAILED: (.*)", output)
        return f"seed {found[1]}: {found[2]}" if found else None

    def __str__(self) -> str:
        return f"simulation, {self.seeds} seeds"


@dataclass(frozen=True, slots=True)
class Test:
    """Tests of pytest, by their nodes' ids; those under `tests/system` need real parts, and take longer."""

    node: str

    @property
    def arguments(self) -> tuple[str, ...]:
        """What Python is to run."""
        return ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", self.node)

    def found(self, output: str) -> str | None:
        """Return which test failed; None where none did."""
        found = re.search(r"^FAILED (\S+)", output, re.MULTILINE)
        return found[1].rpartition("::")[2] if found else None

    @property
    def is_on_real_parts(self) -> bool:
        """Whether it needs Kafka or an API server."""
        return self.node.startswith("tests/system")

    def __str__(self) -> str:
        return self.node.rpartition("::")[2]


Check = Simulation | Test

# How many seeds find a fault, with room to spare.
FEW, SOME, MANY = Simulation(40), Simulation(150), Simulation(600)


@dataclass(frozen=True, slots=True)
class Mutation:
    """One fault."""

    name: str
    rule: str
    """Of docs/rules.md, or what else it breaks."""
    file: str
    """Below engine/headrace."""
    old: str
    new: str
    check: Check

    @property
    def is_on_real_parts(self) -> bool:
        """Whether its check needs Kafka or an API server."""
        return isinstance(self.check, Test) and self.check.is_on_real_parts

    def apply(self, root: Path) -> None:
        """Put the fault into a copy of the tree.

        Raises:
            MutationStale: the text is not there exactly once.
        """
        path = root / "engine" / "headrace" / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise MutationStale(f"{self.name}: {self.file} holds its text {text.count(self.old)} times, not once")
        path.write_text(text.replace(self.old, self.new))
