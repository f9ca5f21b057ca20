"""The plan of the demo: which events come when, and, written by hand beside it, which runs must come of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

MODEL_REFRESH = "demo/model-refresh"
DAILY_MARGIN = "demo/daily-margin"
FLOWS = {MODEL_REFRESH: "ModelRefresh", DAILY_MARGIN: "DailyMargin"}
"""Trigger -> the name of the flow that it starts."""
TIER = "prod"
DAYS_DEFAULT = 7
"""What model_refresh.py itself sets where an event names no days."""


@dataclass(frozen=True, slots=True)
class PlannedEvent:
    """An event to publish."""

    at_s: float
    """When, in seconds after the stream's start."""
    name: str
    label: str
    """Its identity within the plan; a label that comes again is the same event, sent twice."""
    payload: Mapping[str, Any]
    note: str = ""
    """What is special about it, for people."""
    ago_s: float = 0.0
    """How long before its publication it happened."""
    after: str | None = None
    """Label of an event that must wait in a join before this one is published: then their order is certain."""

    @property
    def key(self) -> str:
        """The Kafka record's key: events of one region keep their order."""
        return str(self.payload.get("region", ""))


@dataclass(frozen=True, slots=True)
class ExpectedRun:
    """A run that must come of the events, exactly once."""

    trigger: str
    labels: tuple[str, ...]
    """Labels of its events, in the order of the trigger's dependencies."""
    parameters: Mapping[str, Any]
    """What the flow must see: every parameter, typed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A stream of events and all that must come of it."""

    events: tuple[PlannedEvent, ...]
    runs: tuple[ExpectedRun, ...]
    waiting: frozenset[str] = field(default_factory=frozenset)
    """Labels of the events that still wait for a partner in the end."""
    set_aside: Mapping[str, str] = field(default_factory=dict)
    """Label of an event that becomes a dead letter -> the reason."""

    @property
    def ends_s(self) -> float:
        """When the last event is due, in seconds after the stream's start."""
        return max(event.at_s for event in self.events)


def data(at_s: float, label: str, region: str, rows: int | None, days: int | None = None, **more: Any) -> PlannedEvent:
    """Make a `data_updated`; `more` are fields of the event, and `table` of its payload."""
    payload: dict[str, Any] = {"table": more.pop("table", "sales"), "region": region}
    payload.update({name: value for name, value in (("rows", rows), ("days", days)) if value is not None})
    return PlannedEvent(at_s, "data_updated", label, payload, **more)


def orders(at_s: float, label: str, region: str, day: str, count: int, **more: Any) -> PlannedEvent:
    """Make an `orders_loaded`."""
    return PlannedEvent(at_s, "orders_loaded", label, {"region": region, "day": day, "orders": count}, **more)


def prices(
    at_s: float, label: str, region: str, day: str, version: str, price: float, cost: float, **more: Any
) -> PlannedEvent:
    """Make a `prices_loaded`."""
    payload = {"region": region, "day": day, "list": {"version": version}, "price": price, "cost": cost}
    return PlannedEvent(at_s, "prices_loaded", label, payload, **more)


def refresh(label: str, region: str, rows: int, days: int = DAYS_DEFAULT) -> ExpectedRun:
    """Expect a run of model_refresh.py."""
    parameters = {"region": region, "rows": rows, "how_many_days": days, "tier": TIER}
    return ExpectedRun(MODEL_REFRESH, (label,), parameters)


def margin(labels: tuple[str, str], region: str, day: str, count: int, version: str, unit: float) -> ExpectedRun:
    """Expect a run of daily_margin.py from the orders and the prices that `labels` name."""
    parameters = {"region": region, "day": day, "orders": count, "price_list": version, "unit_margin": unit}
    return ExpectedRun(DAILY_MARGIN, labels, parameters)


def script(today: date) -> Plan:
    """Return the demo's fixed stream: 40 s, 22 runs, and all that is to be shown."""
    d0, d1, d2 = (str(today - timedelta(days=back)) for back in range(3))
    return Plan(_events(d0, d1, d2), _runs(d0, d1), waiting=frozenset({"o9", "p10"}), set_aside={"o10": "late"})


def _events(d0: str, d1: str, d2: str) -> tuple[PlannedEvent, ...]:
    return (
        data(0, "d1", "north", 5200, 14),
        orders(1, "o1", "north", d0, 120),
        prices(2, "p1", "north", d0, "v7", 9.5, 6.25),
        data(3, "d2", "south", 800, note="the filter drops it: too few rows"),
        prices(3.5, "p2", "south", d0, "v7", 8.75, 6.0, note="the prices come first"),
        data(4, "d3", "east", 12_000),
        orders(5, "o3", "east", d0, 75, note="its prices will be late"),
        orders(6, "o2", "south", d0, 310, ago_s=30, note="happened before its prices, came after them"),
        data(7, "d4", "west", 3400, 30),
        data(7.5, "d4", "west", 3400, 30, note="sent twice"),
        orders(8, "o4", "west", d0, 50, note="will be replaced"),
        orders(9, "o4b", "west", d0, 64, after="o4", note="loaded again: the newest counts"),
        prices(10, "p4", "west", d0, "v8", 7.5, 4.0, after="o4b"),
        data(11, "d5", "north", 1000, 1),
        prices(12, "p5", "north", d1, "v6", 9.25, 6.25),
        data(12.5, "d6", "south", 45_000, table="web_logs", note="the filter drops it: another table"),
        data(13, "d7", "south", 2600, 7),
        orders(14, "o5", "north", d1, 131),
        orders(15, "o6", "south", d1, 290, ago_s=20 * 60, note="happened 20 min ago"),
        prices(16, "p6", "south", d1, "v6", 8.5, 6.0),
        data(17, "d8", "east", 9100, 21),
        data(18, "d9", "west", 999, note="the filter drops it: too few rows"),
        orders(19, "o9", "north", d2, 118, note="its prices never come"),
        data(20, "d10", "north", 7700),
        orders(21, "o7", "east", d1, 82),
        data(22, "d11", "west", None, note="no match: it has no rows to filter by"),
        prices(22.5, "p7", "east", d1, "v6", 11.0, 7.75),
        data(23, "d12", "south", 1500, 3),
        orders(24, "o7", "east", d1, 82, note="sent twice, after its run began"),
        data(25, "d13", "east", 6000, 14),
        prices(26, "p8", "west", d1, "v8", 7.25, 4.0),
        prices(26.5, "p8", "west", d1, "v8", 7.25, 4.0, after="p8", note="sent twice, while it waits"),
        data(27, "d1", "north", 5200, 14, note="sent twice, half a minute apart"),
        orders(28, "o8", "west", d1, 58),
        prices(30, "p3", "east", d0, "v7", 11.5, 7.75, after="o3", note="the late partner"),
        data(31, "d14", "west", 8800, 10),
        orders(32, "o10", "south", d2, 305, ago_s=3 * 3600, note="too old to join: set aside"),
        prices(33, "p10", "south", d2, "v5", 8.25, 6.0, note="alone: its orders were set aside"),
        data(34, "d15", "north", 2100, 2),
        data(35, "d16", "south", 400, note="the filter drops it: too few rows"),
        data(36, "d17", "east", 1250),
        data(38, "d18", "west", 4300, 30),
        data(40, "d19", "south", 7000, 14),
    )


def _runs(d0: str, d1: str) -> tuple[ExpectedRun, ...]:
    return (
        refresh("d1", "north", 5200, 14),
        refresh("d3", "east", 12_000),
        refresh("d4", "west", 3400, 30),
        refresh("d5", "north", 1000, 1),
        refresh("d7", "south", 2600, 7),
        refresh("d8", "east", 9100, 21),
        refresh("d10", "north", 7700),
        refresh("d12", "south", 1500, 3),
        refresh("d13", "east", 6000, 14),
        refresh("d14", "west", 8800, 10),
        refresh("d15", "north", 2100, 2),
        refresh("d17", "east", 1250),
        refresh("d18", "west", 4300, 30),
        refresh("d19", "south", 7000, 14),
        margin(("o1", "p1"), "north", d0, 120, "v7", 3.25),
        margin(("o2", "p2"), "south", d0, 310, "v7", 2.75),
        margin(("o3", "p3"), "east", d0, 75, "v7", 3.75),
        margin(("o4b", "p4"), "west", d0, 64, "v8", 3.5),
        margin(("o5", "p5"), "north", d1, 131, "v6", 3.0),
        margin(("o6", "p6"), "south", d1, 290, "v6", 2.5),
        margin(("o7", "p7"), "east", d1, 82, "v6", 3.25),
        margin(("o8", "p8"), "west", d1, 58, "v8", 3.25),
    )
