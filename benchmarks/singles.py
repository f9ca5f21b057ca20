"""Single events to Workflows, sustained, beside bare creation."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.parts import Parts
from benchmarks.processor_time import processor_seconds
from headrace.bench.figures import Figure
from headrace.bench.ground import SINGLE
from headrace.bench.sustained import sustained


def measure(parts: Parts) -> Sequence[Figure]:
    """Measure the row."""
    with parts.ground() as ground:
        return [sustained(ground, SINGLE, parts.size(6000, 1500), parts.repetitions, processor_seconds)]
