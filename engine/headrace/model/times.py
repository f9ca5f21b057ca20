"""Durations as people write them, and instants as milliseconds since 1970 UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from headrace.model.errors import TriggerError

_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d+)(ms|s|m|h|d)")
_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})")


def duration_ms(text: str) -> int:
    """Parse `90s`, `1h30m`, `2d` … into milliseconds.

    Raises:
        TriggerError: `text` is no duration.
    """
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise TriggerError(f"{text!r} is not a duration; write it like 30s, 5m, 1h30m or 2d")
    return sum(int(number) * _UNIT_MS[unit] for number, unit in parts)


def duration_text(milliseconds: int) -> str:
    """Write milliseconds as the shortest text that `duration_ms` reads back."""
    rest, parts = milliseconds, []
    for unit, size in sorted(_UNIT_MS.items(), key=lambda item: -item[1]):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def instant_ms(text: str) -> int:
    """Parse an RFC 3339 timestamp into milliseconds since 1970 UTC.

    Raises:
        ValueError: `text` is no such timestamp.
    """
    if not _RFC3339.fullmatch(text):
        raise ValueError(f"{text!r} is not an RFC 3339 timestamp such as 2026-01-31T12:00:00Z")
    seconds, dot, rest = text.upper().replace(" ", "T").partition(".")
    if not dot:
        return int(datetime.fromisoformat(seconds).timestamp() * 1000)
    digits = re.match(r"\d+", rest)
    assert digits is not None
    whole = datetime.fromisoformat(seconds + rest[digits.end() :])
    return int(whole.timestamp()) * 1000 + int(digits[0][:3].ljust(3, "0"))


def instant_text(milliseconds: int) -> str:
    """Write milliseconds since 1970 as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
