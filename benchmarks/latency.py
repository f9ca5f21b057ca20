"""From publishing to the Workflow's existence at 50 sets a second, single and joined, beside bare hops and a post."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.parts import Parts
from headrace.bench.figures import Figure
from headrace.bench.latency import ARRIVALS, latency


def measure(parts: Parts) -> Sequence[Figure]:
    """Measure the row."""
    with parts.ground() as ground:
        sets = parts.size(1000, 250)
        return [figure for each in ARRIVALS for figure in latency(ground, each, sets, parts.repetitions)]
