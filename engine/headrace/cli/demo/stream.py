"""The gentle stream that follows the plan's fixed one, for as long as somebody watches."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from random import Random

from headrace.cli.demo.plan import Plan, data, margin, orders, prices, refresh

REGIONS = ("north", "south", "east", "west")
SCENE_S = 6.0
"""One scene begins every so many seconds; most of them lead to one run."""
PARTNER_DELAY_S_MAX = 10.0
DAYS_BACK = 3
"""The stream's joins are about days before those of the fixed plan, so neither meets the other."""


def endless(first_s: float, today: date, random: Random) -> Iterator[Plan]:
    """Yield one scene after another, each a small plan; the first begins `first_s` after the stream's start."""
    number = 0
    while True:
        at_s = first_s + number * SCENE_S
        region = random.choice(REGIONS)
        number += 1
        match number % 3:
            case 1:
                yield _update(at_s, f"s{number}", region, random)
            case 2:
                yield _pair(at_s, f"s{number}", region, str(today - timedelta(days=DAYS_BACK + number)), random)
            case _:
                small = data(at_s, f"s{number}", region, random.randrange(10, 1000), note="too few rows")
                yield Plan((small,), ())


def _update(at_s: float, label: str, region: str, random: Random) -> Plan:
    rows, days = random.randrange(1000, 20_000), random.choice((1, 7, 14, 30))
    return Plan((data(at_s, label, region, rows, days),), (refresh(label, region, rows, days),))


def _pair(at_s: float, label: str, region: str, day: str, random: Random) -> Plan:
    labels = (f"{label}o", f"{label}p")
    count, cost = random.randrange(20, 400), random.randrange(8, 32) / 4
    delays_s = [0.0, random.uniform(1, PARTNER_DELAY_S_MAX)]
    random.shuffle(delays_s)
    return Plan(
        (
            orders(at_s + delays_s[0], labels[0], region, day, count),
            prices(at_s + delays_s[1], labels[1], region, day, "v9", cost + 3.25, cost),
        ),
        (margin(labels, region, day, count, "v9", 3.25),),
    )
