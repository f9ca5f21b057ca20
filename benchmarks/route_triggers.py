"""The router with many triggers: a thousand on as many topics, and a hundred on one."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.events import fact, fill, register, trigger
from benchmarks.parts import Parts
from benchmarks.route_run import route_rate
from headrace.bench.figures import Aim, Figure, Sample
from headrace.edges.kafka.topics import ensure_internal_topics
from headrace.model.trigger import TriggerRecord
from headrace.settings import Settings
from tests.support.kafka import create_topics

FILTER = "event.rows > 98"
ONE_TOPIC = "regions"
REGIONS = 10_000


def measure(parts: Parts) -> Sequence[Figure]:
    """Measure the row."""
    return [_topics(parts), *_one_topic(parts)]


def _topics(parts: Parts) -> Figure:
    many, few = parts.size(1000, 100), 10
    count, samples = parts.size(200_000, 40_000), []
    for topics in (many, few):
        names = [f"of-{topics}-{number}" for number in range(topics)]
        create_topics({"bootstrap.servers": parts.kafka}, dict.fromkeys(names, 1))
        fill(parts.settings(), ((names[number % topics], 0, None, fact(number)) for number in range(count)))
    for _ in range(parts.repetitions):
        few_rate = _rate(parts.settings(), _filtered(few), count)
        samples.append(Sample(_rate(parts.settings(), _filtered(many), count), few_rate))
    return Figure(
        "route-triggers",
        f"route, {many:,} triggers on as many topics",
        "events/s",
        tuple(samples),
        f"{few} triggers on as many topics",
        Aim(0.8),
        {"events": count},
    )


def _filtered(topics: int) -> list[TriggerRecord]:
    return [trigger(f"t{n}", [{"name": f"of-{topics}-{n}", "filter": FILTER}]) for n in range(topics)]


def _one_topic(parts: Parts) -> list[Figure]:
    count, equal, other = parts.size(200_000, 40_000), [], []
    create_topics({"bootstrap.servers": parts.kafka}, {ONE_TOPIC: 4})
    facts = (fact(number, region=f"r{number % REGIONS}") for number in range(count))
    fill(parts.settings(), ((ONE_TOPIC, number % 4, None, value) for number, value in enumerate(facts)))
    for _ in range(parts.repetitions):
        one = _rate(parts.settings(), regional(1), count)
        equal.append(Sample(_rate(parts.settings(), regional(100), count), one))
        other.append(Sample(_rate(parts.settings(), unordinary(10), count), one))
    what = "triggers on one topic, filters"
    return [
        Figure(
            "route-triggers",
            f"route, 100 {what} compare one field with constants",
            "events/s",
            tuple(equal),
            "one such trigger",
            Aim(0.8),
            {"events": count, "passed": "0.01 % for each trigger"},
        ),
        Figure("route-triggers", f"route, 10 {what} of any kind", "events/s", tuple(other), "one such trigger"),
    ]


def regional(count: int, topic: str = ONE_TOPIC) -> list[TriggerRecord]:
    """Return triggers on one topic, each for one region."""
    return [
        trigger(f"region-{number}", [{"name": topic, "filter": f'event.region == "r{number}"'}])
        for number in range(count)
    ]


def unordinary(count: int) -> list[TriggerRecord]:
    """Return triggers as `regional` does, their filters written so that only CEL understands them."""
    return [
        trigger(f"region-{number}", [{"name": ONE_TOPIC, "filter": f'"r{number}" == event.region'}])
        for number in range(count)
    ]


def _rate(settings: Settings, triggers: list[TriggerRecord], count: int) -> float:
    ensure_internal_topics(settings)
    register(settings, triggers)
    return route_rate(settings, count)
