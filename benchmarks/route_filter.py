"""The router with one trigger whose CEL filter lets one event in a hundred pass, beside a bare loop."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.events import fact, fill, register, trigger
from benchmarks.parts import Parts
from benchmarks.route_run import bare_rate, route_rate
from headrace.bench.figures import Aim, Figure, Sample
from headrace.edges.kafka.topics import ensure_internal_topics
from tests.support.kafka import create_topics

TOPIC = "facts"
PARTITIONS = 4
FILTER = "event.rows > 98"


def measure(parts: Parts) -> Sequence[Figure]:
    """Measure the row."""
    count, samples = parts.size(300_000, 60_000), []
    create_topics({"bootstrap.servers": parts.kafka}, {TOPIC: PARTITIONS})
    fill(parts.settings(), ((TOPIC, number % PARTITIONS, None, fact(number)) for number in range(count)))
    for _ in range(parts.repetitions):
        settings = parts.settings()
        bare = bare_rate(settings, TOPIC, PARTITIONS, count, FILTER)
        ensure_internal_topics(settings)
        register(settings, [trigger("filtered", [{"name": TOPIC, "filter": FILTER}])])
        samples.append(Sample(route_rate(settings, count), bare))
    return [
        Figure(
            "route-filter",
            "route, one CEL filter, 1 % pass",
            "events/s",
            tuple(samples),
            "consume + orjson.loads + the same CEL program in a bare loop",
            Aim(0.7),
            {"events": count},
        )
    ]
