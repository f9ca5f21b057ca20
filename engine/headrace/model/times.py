"""Durations as people write them, and instants as milliseconds since 1970 UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from headrace.model.errors import TriggerError

_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([0-9]{1,15})(ms|s|m|h|d)")
_DURATION_MS_MAX = 365_250 * _UNIT_MS["d"]
_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_INSTANT_MS_MIN = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
_INSTANT_MS_MAX = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND


def duration_ms(text: str) -> int:
    """Parse `90s`, `1h30m`, `2d` … into milliseconds.

    Raises:
        TriggerError: `text` is no duration, or a longer one than a thousand years.
    """
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise TriggerError(f"{text!r} is not a duration; write it like 30s, 5m, 1h30m or 2d")
    milliseconds = sum(int(number) * _UNIT_MS[unit] for number, unit in parts)
    if milliseconds > _DURATION_MS_MAX:
        raise TriggerError(f"{text!r} is longer than a thousand years")
    return milliseconds


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
        ValueError: `text` is no such timestamp, or lies outside the years 1 to 9999 in UTC.
    """
    if not _RFC3339.fullmatch(text):
        raise ValueError(f"{text!r} is not an RFC 3339 timestamp such as 2026-01-31T12:00:00Z")
    seconds, _, rest = text.upper().replace(" ", "T").partition(".")
    digits = re.match(r"\d*", rest)
    assert digits is not None
    whole = datetime.fromisoformat(seconds + rest[digits.end() :])
    milliseconds = (whole - _EPOCH) // _MILLISECOND + int(digits[0][:3].ljust(3, "0"))
    if not _INSTANT_MS_MIN <= milliseconds <= _INSTANT_MS_MAX:
        raise ValueError(f"{text!r} lies outside the years 1 to 9999")
    return milliseconds


def instant_text(milliseconds: int) -> str:
    """Write milliseconds since 1970 as RFC 3339 in UTC, to the millisecond."""
    return (_EPOCH + milliseconds * _MILLISECOND).isoformat(timespec="milliseconds").replace("+00:00", "Z")
