"""The rows of the table, in its order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks import (
    growth,
    join_updates,
    latency,
    many_flows,
    pairs,
    pending_keys,
    publisher,
    route_filter,
    route_triggers,
    singles,
)
from benchmarks.parts import Parts
from headrace.bench.figures import Figure, Skipped

ROWS: dict[str, Callable[[Parts], Sequence[Figure | Skipped]]] = {
    "singles": singles.measure,
    "pairs": pairs.measure,
    "latency": latency.measure,
    "route-filter": route_filter.measure,
    "route-triggers": route_triggers.measure,
    "join-updates": join_updates.measure,
    "publisher": publisher.measure,
    "pending-keys": pending_keys.measure,
    "growth": growth.measure,
    "many-flows": many_flows.measure,
}
