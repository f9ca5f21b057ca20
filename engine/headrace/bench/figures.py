"""Figures: measurements beside their baselines, and what they are held against."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values lie; `values` is not empty."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Sample:
    """One repetition: what was measured, and the baseline right before it."""

    measured: float
    baseline: float | None = None


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure should reach. A ratio where the figure has a baseline, else its own unit."""

    value: float
    least: float | None = None
    """What it must reach at the very least, where that is something else."""
    lower_is_better: bool = False

    def verdict(self, reached: float) -> str:
        """Return `met`, `least met` or `missed`."""
        if self._holds(reached, self.value):
            return "met"
        return "least met" if self.least is not None and self._holds(reached, self.least) else "missed"

    def _holds(self, reached: float, bound: float) -> bool:
        return reached <= bound if self.lower_is_better else reached >= bound

    def __str__(self) -> str:
        sign = "≤" if self.lower_is_better else "≥"
        least = "" if self.least is None else f" (least {sign} {self.least:g})"
        return f"{sign} {self.value:g}{least}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    row: str
    what: str
    unit: str
    samples: tuple[Sample, ...]
    baseline: str = ""
    """What the baseline is; empty where there is none."""
    aim: Aim | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    """What else was seen or checked."""

    @property
    def measured(self) -> float:
        """The median of what was measured."""
        return statistics.median(sample.measured for sample in self.samples)

    @property
    def baseline_value(self) -> float | None:
        """The median of the baselines."""
        values = [sample.baseline for sample in self.samples if sample.baseline is not None]
        return statistics.median(values) if values else None

    @property
    def ratios(self) -> list[float]:
        """Each repetition to its own baseline: what disturbs the machine for a while disturbs both."""
        return [sample.measured / sample.baseline for sample in self.samples if sample.baseline]

    @property
    def reached(self) -> float:
        """What is held against the aim."""
        return statistics.median(self.ratios) if self.ratios else self.measured

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the greatest of the repetitions, as `reached` counts them."""
        values = self.ratios or [sample.measured for sample in self.samples]
        return min(values), max(values)

    @property
    def verdict(self) -> str:
        """How it stands to its aim; `reported` where it has none."""
        return "reported" if self.aim is None else self.aim.verdict(self.reached)

    def to_json(self) -> dict[str, Any]:
        """The figure with every repetition."""
        return {
            "row": self.row,
            "what": self.what,
            "unit": self.unit,
            "measured": self.measured,
            "baseline": {"what": self.baseline, "value": self.baseline_value} if self.baseline else None,
            "ratio": self.reached if self.ratios else None,
            "spread": list(self.spread),
            "aim": None if self.aim is None else str(self.aim),
            "verdict": self.verdict,
            "samples": [[sample.measured, sample.baseline] for sample in self.samples],
            "facts": self.facts,
        }


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that could not be measured here, and why."""

    row: str
    why: str

    def to_json(self) -> dict[str, Any]:
        """The row and the reason."""
        return {"row": self.row, "skipped": self.why}
