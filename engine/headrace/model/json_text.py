"""JSON as text: exact numbers in, canonical bytes out.

Payloads travel as the text that their publisher wrote, so nothing between the topic and the workflow's parameter can
round a number. Only where a single field is picked out is the text parsed, by `loads_exact`.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME
_NESTED = "it is nested too deeply"


def canonical(value: Any) -> str:
    """Return the canonical JSON text of `value`: keys sorted, no spaces, numbers that are equal written alike.

    Used for join keys, where `1` and `1.0` come from different languages' serialisers and must be one key.

    Raises:
        TypeError: `value` holds something that JSON has not, an integer beyond 64 bits, or is nested too deeply.
    """
    try:
        return orjson.dumps(_integral(value), option=_CANONICAL).decode()
    except RecursionError:
        raise TypeError(_NESTED) from None


def _integral(value: Any) -> Any:
    if isinstance(value, float):
        check_finite(value)
        return int(value) if value.is_integer() and -(2**63) <= value < 2**64 else value
    if isinstance(value, dict):
        return {str(name): _integral(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_integral(item) for item in value]
    return value


def check_finite(value: Any) -> None:
    """Refuse numbers that JSON has not, wherever in `value` they are.

    Raises:
        TypeError: there is one, or `value` is nested too deeply.
    """
    try:
        if isinstance(value, float) and not math.isfinite(value):
            raise TypeError(f"JSON has no number {value}")
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list | tuple):
            for item in value:
                check_finite(item)
    except RecursionError:
        raise TypeError(_NESTED) from None


def loads_exact(text: str | bytes) -> Any:
    """Parse JSON without rounding: integers of any size stay `int`, other numbers become `Decimal`.

    Raises:
        ValueError: `text` is not JSON, is nested too deeply, or holds a number beyond what `Decimal` and `int` take.
    """
    try:
        # `json.loads` would make a decoder for each call, which costs more than decoding an event.
        return _EXACT.decode(text if isinstance(text, str) else text.decode(json.detect_encoding(text)))
    except RecursionError:
        raise ValueError(_NESTED) from None
    except InvalidOperation:
        raise ValueError("it holds a number whose exponent is beyond all bounds") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_EXACT = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse_constant)


def dumps_exact(value: Any) -> str:
    """Write a value that came from `loads_exact` as JSON text, every digit as it was read.

    Raises:
        ValueError: `value` is nested too deeply.
    """
    try:
        return _dumps_exact(value)
    except RecursionError:
        raise ValueError(_NESTED) from None


def _dumps_exact(value: Any) -> str:
    match value:
        case Decimal():
            return str(value)
        case dict():
            fields = (f"{json.dumps(name, ensure_ascii=False)}:{_dumps_exact(item)}" for name, item in value.items())
            return "{" + ",".join(fields) + "}"
        case list():
            return "[" + ",".join(map(_dumps_exact, value)) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)
