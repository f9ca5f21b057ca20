"""Comparison: a filter's condition on one field, `event.a.b == "x"`, decided without CEL, and exactly as CEL does.

Most filters are of this kind, and handing an event over to the CEL library costs more than all else that routing does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_INTEGER_MAX = 2**53
"""Up to here a comparison of integers and floating-point numbers is exact, in CEL as in Python."""

_CONDITION = re.compile(
    r"""\s*event((?:\.[A-Za-z_][A-Za-z0-9_]*)+)\s*
        (==|<=|>=|<|>)\s*
        ("[^"\\\r\n]*"|'[^'\\\r\n]*'|-?(?:0|[1-9][0-9]{0,15}))\s*
        (?:&&([^?|]*))?""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One field against a constant; where it does not hold, the filter does not either."""

    path: tuple[str, ...]
    """Names of the field and of those that it lies in, outermost first."""
    operator: str
    constant: str | int
    """A string is compared by `==` alone."""
    is_all: bool
    """Whether this is the whole filter; else `&&` and more follows."""

    def holds(self, value: Any) -> bool:
        """Compare a field's value."""
        if not comparable(value, self.constant):
            return False
        match self.operator:
            case "==":
                return bool(value == self.constant)
            case "<":
                return bool(value < self.constant)
            case "<=":
                return bool(value <= self.constant)
            case ">":
                return bool(value > self.constant)
            case _:
                return bool(value >= self.constant)


class Absent:
    """Stands for a field that is not there, and is comparable with nothing."""


ABSENT = Absent()


def field_at(fields: dict[str, Any], path: tuple[str, ...]) -> Any:
    """Return the value at `path`, or `ABSENT`."""
    value: Any = fields
    for name in path:
        if type(value) is not dict or name not in value:
            return ABSENT
        value = value[name]
    return value


def comparable(value: Any, constant: str | int) -> bool:
    """Whether a payload's value is of the constant's kind. No other kind is equal, greater or less in CEL."""
    if type(constant) is str:
        return type(value) is str
    return type(value) is int or type(value) is float


def comparison_of(text: str) -> Comparison | None:
    """Return the comparison that a filter begins with; None where it does not begin with one that is understood."""
    found = _CONDITION.fullmatch(text)
    if found is None:
        return None
    path, operator, literal, rest = found.groups()
    if literal[0] in "\"'":
        constant: str | int = literal[1:-1]
        if operator != "==":
            return None
    else:
        constant = int(literal)
        if abs(constant) > _INTEGER_MAX:
            return None
    return Comparison(tuple(path[1:].split(".")), operator, constant, rest is None)
