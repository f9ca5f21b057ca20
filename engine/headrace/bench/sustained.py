"""Sustained: events to Workflows as fast as they go, beside bare creation of the same bodies."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from headrace.bench.creation import BareCreation, body
from headrace.bench.figures import Aim, Figure, Sample
from headrace.bench.ground import Ground
from headrace.bench.load import Load
from headrace.bench.watch import CreatedWorkflows, NotSeen
from headrace.edges.kube.api import CONNECTIONS_MAX

SILENCE_MAX_S = 60.0
"""Workflows of a bench come in a stream; after so long without one, none will."""
WARM_SETS = 200


Meter = Callable[[], dict[str, float]]
"""Seconds of processor time used so far, by the name of who used them."""


def sustained(ground: Ground, kind: str, sets: int, repetitions: int, meter: Meter = dict) -> Figure:
    """Measure Workflows a second, from publishing a burst of sets until the last one's Workflow is seen.

    Each set must have exactly one Workflow; bare creation and Headrace are counted by the same watch.

    Raises:
        NotSeen: a set has no Workflow, or more than one.
    """
    load, samples = Load(ground.settings), []
    load.warm(ground.events(kind))
    with ground.watch() as watch:
        _published(ground, kind, load, watch, WARM_SETS)
        bare_ms, set_ms = Usage(meter), Usage(meter)
        for _ in range(repetitions):
            baseline = _bare(ground, kind, watch, sets, bare_ms)
            with set_ms:
                samples.append(Sample(_published(ground, kind, load, watch, sets), baseline))
        what = "single events to Workflows" if kind == "single" else "pairs to Workflows"
        return Figure(
            f"{kind}s",
            f"{what}, sustained",
            "/s",
            tuple(samples),
            f"bare creation by aiohttp, {CONNECTIONS_MAX} in flight, same bodies, same watch",
            Aim(0.9, 0.75),
            {
                "sets": sets,
                "every set exactly once": True,
                "processor ms a Workflow": set_ms.of_each(sets * repetitions),
                "processor ms a bare Workflow": bare_ms.of_each(sets * repetitions),
            },
        )


class Usage:
    """Processor time that was used while its blocks lasted."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._before: dict[str, float] = {}
        self._used: dict[str, float] = {}

    def __enter__(self) -> None:
        self._before = self._meter()

    def __exit__(self, *_: object) -> None:
        for name, seconds in self._meter().items():
            self._used[name] = self._used.get(name, 0.0) + seconds - self._before.get(name, 0.0)

    def of_each(self, count: int) -> dict[str, float]:
        """Return milliseconds for each of `count`, by name."""
        return {name: round(1000 * seconds / count, 3) for name, seconds in self._used.items()}


def _bare(ground: Ground, kind: str, watch: CreatedWorkflows, sets: int, usage: Usage) -> float:
    definition, now_ms = ground.bare_definition(kind), time.time_ns() // 1_000_000
    words = _words(sets)
    bodies = [body(definition, word, now_ms) for word in words]
    with BareCreation(ground.namespace, bodies, CONNECTIONS_MAX) as creation, usage:
        began_s = creation.run(timeout_s=600)
        return sets / (_last_seen(watch, words) - began_s)


def _published(ground: Ground, kind: str, load: Load, watch: CreatedWorkflows, sets: int) -> float:
    words = _words(sets)
    began_s = time.monotonic()
    load.burst(ground.events(kind), words)
    return sets / (_last_seen(watch, words) - began_s)


def _last_seen(watch: CreatedWorkflows, words: list[str]) -> float:
    """Wait for every set's Workflow; return when the last one was seen, and make sure that none has two."""
    watch.wait_for_all(words, SILENCE_MAX_S)
    creations = [watch.creations(word) for word in words]
    doubled = sum(len(seen) > 1 for seen in creations)
    if doubled:
        raise NotSeen(f"{doubled} of {len(words)} sets have more than one Workflow")
    return max(moment_s for seen in creations for _, moment_s in seen)


def _words(count: int) -> list[str]:
    run = uuid.uuid4().hex[:12]
    return [f"{run}-{number}" for number in range(count)]
