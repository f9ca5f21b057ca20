"""Durations and instants as text."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.errors import TriggerError
from headrace.model.times import duration_ms, duration_text, instant_ms, instant_text

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_MS = -62_135_596_800_000
LAST_MS = 253_402_300_799_999


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("0s", 0),
        ("250ms", 250),
        ("90s", 90_000),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("2d", 172_800_000),
        ("1d2h3m4s5ms", 93_784_005),
        ("007s", 7_000),
    ],
)
def test_durations(text: str, milliseconds: int) -> None:
    assert duration_ms(text) == milliseconds


@pytest.mark.parametrize(
    "text", ["", "5", "s", "5 m", "-5m", "1.5h", "5x", "1h ", " 1h", "1h\n", "5M", "h5", "1h-5m", "٣s", "³s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(TriggerError, match="is not a duration"):
        duration_ms(text)


@given(st.integers(0, 10**13))
def test_a_durations_text_reads_back(milliseconds: int) -> None:
    assert duration_ms(duration_text(milliseconds)) == milliseconds


@pytest.mark.parametrize(
    ("milliseconds", "text"), [(0, "0s"), (1, "1ms"), (3_600_000, "1h"), (5_400_000, "1h30m"), (86_400_000, "1d")]
)
def test_a_durations_text_is_short(milliseconds: int, text: str) -> None:
    assert duration_text(milliseconds) == text


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.001Z", 1),
        ("1970-01-01t00:00:01z", 1_000),
        ("1970-01-01 00:00:01Z", 1_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T19:00:00-05:00", 0),
        ("1969-12-31T23:59:59.5Z", -500),
        ("2026-05-01T12:00:00.25Z", 1_777_636_800_250),
        ("2026-05-01T12:00:00.123456789Z", 1_777_636_800_123),
        ("2026-05-01T12:00:00.9999Z", 1_777_636_800_999),
        ("2026-05-01T17:30:00.5+05:30", 1_777_636_800_500),
    ],
)
def test_instants(text: str, milliseconds: int) -> None:
    assert instant_ms(text) == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-05-01",
        "2026-05-01T12:00:00",
        "2026-05-01T12:00Z",
        "2026-02-30T12:00:00Z",
        "2026-05-01T25:00:00Z",
        "2026-05-01T12:00:00+0100",
        "2026-05-01T12:00:00.Z",
        "2026-05-01T12:00:00,5Z",
        "2026-05-01T12:00:00Z\n",
        "2026-05-01T12:00:00.٣Z",
        "20260501T120000Z",
    ],
)
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        instant_ms(text)


@given(st.integers(FIRST_MS, LAST_MS))
def test_an_instants_text_reads_back(milliseconds: int) -> None:
    assert instant_ms(instant_text(milliseconds)) == milliseconds


@given(
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
)
def test_an_instant_is_what_the_calendar_says(local: datetime, offset_minutes: int) -> None:
    instant = local.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    assert instant_ms(instant.isoformat()) == (instant - EPOCH) // timedelta(milliseconds=1)


@given(st.text(max_size=30))
def test_text_that_is_no_instant_raises_nothing_but_value_errors(text: str) -> None:
    with suppress(ValueError):
        assert isinstance(instant_ms(text), int)
