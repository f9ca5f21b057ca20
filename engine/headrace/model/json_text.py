"""JSON as text: exact numbers in, canonical bytes out.

Payloads travel as the text that their publisher wrote, so nothing between the topic and the workflow's parameter can
round a number. Only where a single field is picked out is the text parsed, by `loads_exact`.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import orjson


def canonical(value: Any) -> str:
    """Return the canonical JSON text of `value`: keys sorted, no spaces, numbers that are equal written alike.

    Used for join keys, where `1` and `1.0` come from different languages' serialisers and must be one key.

    Raises:
        TypeError: `value` holds something that JSON has not.
    """
    return orjson.dumps(_integral(value), option=orjson.OPT_SORT_KEYS).decode()


def _integral(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {str(name): _integral(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_integral(item) for item in value]
    return value


def loads_exact(text: str | bytes) -> Any:
    """Parse JSON without rounding: integers of any size stay `int`, other numbers become `Decimal`.

    Raises:
        ValueError: `text` is not JSON.
    """
    return json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def dumps_exact(value: Any) -> str:
    """Write a value that came from `loads_exact` as JSON text, every digit as it was read."""
    match value:
        case Decimal():
            return str(value)
        case dict():
            fields = (f"{json.dumps(name, ensure_ascii=False)}:{dumps_exact(item)}" for name, item in value.items())
            return "{" + ",".join(fields) + "}"
        case list():
            return "[" + ",".join(map(dumps_exact, value)) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)
