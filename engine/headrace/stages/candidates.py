"""Candidates: of all triggers that wait for an event, those that its fields do not rule out at once.

Where filters compare one field with constants, finding them takes as long for ten thousand triggers as for one: a table
for `==`, sorted constants for the rest.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from headrace.stages.comparison import ABSENT, Comparison, comparable, field_at

T = TypeVar("T")


class _Sorted(Generic[T]):
    """Items under one ordering operator, by their constants."""

    def __init__(self, operator: str, items: list[tuple[int, int, T]]) -> None:
        items.sort(key=lambda item: item[0])
        self._operator = operator
        self._constants = [constant for constant, _, _ in items]
        self._items = [(order, item) for _, order, item in items]

    def of(self, value: float) -> list[tuple[int, T]]:
        match self._operator:
            case ">":
                return self._items[: bisect_left(self._constants, value)]
            case ">=":
                return self._items[: bisect_right(self._constants, value)]
            case "<":
                return self._items[bisect_right(self._constants, value) :]
            case _:
                return self._items[bisect_left(self._constants, value) :]


class _Field(Generic[T]):
    """Items whose filters compare the same field."""

    def __init__(self, items: list[tuple[int, Comparison, T]]) -> None:
        self.count = len(items)
        self._equal: dict[tuple[type, str | int], list[tuple[int, T]]] = {}
        ordered: dict[str, list[tuple[int, int, T]]] = {}
        for order, comparison, item in items:
            if comparison.operator == "==":
                kind: type = str if isinstance(comparison.constant, str) else int
                self._equal.setdefault((kind, comparison.constant), []).append((order, item))
            else:
                assert isinstance(comparison.constant, int)
                ordered.setdefault(comparison.operator, []).append((comparison.constant, order, item))
        self._ordered_count = sum(map(len, ordered.values()))
        self._ordered = [_Sorted(operator, found) for operator, found in ordered.items()]

    def failed_count(self, value: Any) -> int:
        """Return for how many items CEL would fail: without the field all, without an order those that ask for it."""
        if value is ABSENT:
            return self.count
        return 0 if comparable(value, 0) else self._ordered_count

    def of(self, value: Any) -> list[tuple[int, T]]:
        """Return the items whose comparison `value` passes."""
        if comparable(value, ""):
            return self._equal.get((str, value), [])
        if not comparable(value, 0):
            return []
        found = list(self._equal.get((int, value), ()))
        for ordered in self._ordered:
            found.extend(ordered.of(value))
        return found


class Candidates(Generic[T]):
    """An index over items, of which each has a comparison or none. A value: it is built once and never changed."""

    def __init__(self, items: Iterable[tuple[Comparison | None, T]]) -> None:
        """Index the items; those without a comparison are always candidates."""
        self._always: list[tuple[int, T]] = []
        by_path: dict[tuple[str, ...], list[tuple[int, Comparison, T]]] = {}
        for order, (comparison, item) in enumerate(items):
            if comparison is None:
                self._always.append((order, item))
            else:
                by_path.setdefault(comparison.path, []).append((order, comparison, item))
        self._fields = {path: _Field(found) for path, found in by_path.items()}
        self._without_fields = [item for _, item in self._always]

    def of(self, fields: dict[str, Any], counts: dict[str, int]) -> list[T]:
        """Return the candidates in the order of the items, and count the others as `filtered` or `filter_failed`."""
        if not self._fields:
            return self._without_fields
        found = list(self._always)
        for path, field in self._fields.items():
            value = field_at(fields, path)
            passed = field.of(value)
            found.extend(passed)
            failed = field.failed_count(value)
            if failed:
                counts["filter_failed"] = counts.get("filter_failed", 0) + failed
            if field.count > len(passed) + failed:
                counts["filtered"] = counts.get("filtered", 0) + field.count - len(passed) - failed
        if len(found) > 1:
            found.sort(key=_order)
        return [item for _, item in found]


def _order(item: tuple[int, Any]) -> int:
    return item[0]
