"""How costs grow: with triggers on one topic, with partitions of the join, with its processes."""

from __future__ import annotations

import os
from collections.abc import Sequence

from benchmarks.events import fact, fill, register
from benchmarks.join_run import join_rate, routed_frames
from benchmarks.parts import Parts
from benchmarks.route_run import route_rate
from benchmarks.route_triggers import ONE_TOPIC, regional
from headrace.bench.figures import Aim, Figure, Sample
from headrace.edges.kafka.topics import ensure_internal_topics
from tests.support.kafka import create_topics

REGIONS = 1_000_000
# Prime, so that the events which pass, one in a hundred, are spread over all of them.
REGION_STEP = 7_919


def measure(parts: Parts) -> Sequence[Figure]:
    """Measure the row."""
    return [_triggers(parts), _partitions(parts), _workers(parts)]


def _triggers(parts: Parts) -> Figure:
    count, samples, many = parts.size(200_000, 60_000), [], 10_000
    topic = f"{ONE_TOPIC}-growth"
    create_topics({"bootstrap.servers": parts.kafka}, {topic: 4})
    facts = (fact(number, region=f"r{number * REGION_STEP % REGIONS}") for number in range(count))
    fill(parts.settings(), ((topic, number % 4, None, value) for number, value in enumerate(facts)))
    for _ in range(parts.repetitions):
        rates = []
        for triggers in (1, many):
            settings = parts.settings()
            ensure_internal_topics(settings)
            register(settings, regional(triggers, topic=topic))
            rates.append(route_rate(settings, count))
        samples.append(Sample(rates[1], rates[0]))
    return Figure(
        "growth",
        f"route, {many:,} triggers on one topic, each for one constant",
        "events/s",
        tuple(samples),
        "one such trigger",
        Aim(0.8),
        {"events": count, "passed": "0.0001 % for each trigger"},
    )


def _partitions(parts: Parts) -> Figure:
    pairs = parts.size(50_000, 10_000)
    frames = {n: routed_frames(parts.settings(HEADRACE_PARTITIONS=str(n)), pairs) for n in (1, 64)}
    samples = []
    for _ in range(parts.repetitions):
        one, many = (join_rate(parts.settings(HEADRACE_PARTITIONS=str(n)), frames[n], pairs) for n in (1, 64))
        samples.append(Sample(many, one))
    facts = {"pairs": pairs, "frames": {str(n): len(frames[n]) for n in frames}}
    return Figure("growth", "join, 64 partitions", "events/s", tuple(samples), "one partition", Aim(0.8), facts)


def _workers(parts: Parts) -> Figure:
    pairs = parts.size(100_000, 20_000)
    frames = routed_frames(parts.settings(), pairs)
    samples = []
    for _ in range(parts.repetitions):
        one, two = (join_rate(parts.settings(), frames, pairs, workers) for workers in (1, 2))
        samples.append(Sample(two, one))
    # A machine needs cores for the broker and both; with fewer there is nothing that a second process could use.
    aim = Aim(1.7) if (os.cpu_count() or 1) >= 4 else None
    return Figure("growth", "join, two processes", "events/s", tuple(samples), "one process", aim, {"pairs": pairs})
