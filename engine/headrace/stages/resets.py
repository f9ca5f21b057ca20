"""Resets: at which instants a cron expression forgets what waits.

The expression has the five fields of Argo Events' `conditionsReset`, whose parser is robfig/cron: lists, ranges, steps
and names; where both days are restricted, either one suffices.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from headrace.model.errors import TriggerError
from headrace.model.sensor import Reset
from headrace.model.times import instant_text

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of the week", 0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
_MINUTE = timedelta(minutes=1)
_YEARS_BACK_MAX = 9
"""A 29 February may be eight years away; an expression that never holds must end the search."""
_KEPT_MAX = 10_000


class Schedule:
    """One cron expression in its time zone."""

    def __init__(self, reset: Reset) -> None:
        """Read the expression.

        Raises:
            TriggerError: it is no such expression, or the time zone is unknown.
        """
        try:
            self._zone = ZoneInfo(reset.timezone)
        except (KeyError, ValueError, OSError):
            raise TriggerError(f"the time zone {reset.timezone!r} of reset_at is unknown; use an IANA name") from None
        texts = reset.cron.split()
        if len(texts) != len(_FIELDS):
            raise TriggerError(
                f"reset_at's cron {reset.cron!r} has {len(texts)} fields; it needs five, as in '0 6 * * *'"
            )
        self._allowed = [_allowed(text, reset.cron, *field) for text, field in zip(texts, _FIELDS, strict=True)]
        self._either_day = not any(text.startswith(("*", "?")) for text in (texts[2], texts[4]))
        self._known: dict[int, int | None] = {}

    def last_ms(self, time_ms: int) -> int | None:
        """Return the last instant at or before `time_ms`, both milliseconds since 1970; None where there is none."""
        minute = time_ms // 60_000
        if minute not in self._known:
            if len(self._known) >= _KEPT_MAX:
                self._known.clear()
            self._known[minute] = self._search(minute * 60)
        return self._known[minute]

    def _search(self, seconds: int) -> int | None:
        # The walk goes through instants, not through local times: so an hour that a clock repeats counts twice, and
        # one that it leaves out does not count.
        at = datetime.fromtimestamp(seconds, UTC)
        earliest = max(at.year - _YEARS_BACK_MAX, 1)
        while at.year > earliest:
            local = at.astimezone(self._zone)
            if not self._on_day(local):
                midnight = local.replace(hour=0, minute=0, fold=0).astimezone(UTC)
                at = min(midnight, at) - _MINUTE
            elif local.hour not in self._allowed[1]:
                # By half hours, for there is a zone whose clock changes by one.
                at -= _MINUTE * (local.minute % 30 + 1)
            elif local.minute not in self._allowed[0]:
                at -= _MINUTE
            else:
                return int(at.timestamp()) * 1000
        return None

    def _on_day(self, local: datetime) -> bool:
        _, _, days, months, weekdays = self._allowed
        if local.month not in months:
            return False
        of_month, of_week = local.day in days, local.isoweekday() % 7 in weekdays
        return of_month or of_week if self._either_day else of_month and of_week


def period(schedules: tuple[Schedule, ...], time_ms: int) -> str:
    """Name the period between resets in which an instant lies: by the reset that began it, empty before the first."""
    began = [at for schedule in schedules if (at := schedule.last_ms(time_ms)) is not None]
    return instant_text(max(began)) if began else ""


def _allowed(text: str, cron: str, what: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    values: set[int] = set()
    try:
        for part in text.split(","):
            span, slash, step_text = part.partition("/")
            first, dash, last = span.partition("-")
            step = int(step_text) if slash else 1
            if span in ("*", "?"):
                start, end = low, high
            else:
                start = _number(first, names)
                end = _number(last, names) if dash else high if slash else start
            if not (low <= start <= end <= high and step > 0):
                raise ValueError
            values.update(range(start, end + 1, step))
    except ValueError:
        raise TriggerError(f"reset_at's cron {cron!r}: {text!r} is no {what} from {low} to {high}") from None
    return frozenset(values)


def _number(text: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return int(text)
