"""At which instants a cron expression forgets what waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.errors import TriggerError
from headrace.model.sensor import Reset
from headrace.model.times import instant_ms, instant_text
from headrace.stages.resets import Schedule, period


def last(cron: str, time: str, timezone: str = "UTC") -> str | None:
    """Return the last reset at or before a time."""
    found = Schedule(Reset(cron=cron, timezone=timezone)).last_ms(instant_ms(time))
    return None if found is None else instant_text(found).replace(":00.000Z", "")


@pytest.mark.parametrize(
    ("cron", "time", "expected"),
    [
        ("* * * * *", "2024-05-06T12:34:56Z", "2024-05-06T12:34"),
        ("0 6 * * *", "2024-05-06T06:00:00Z", "2024-05-06T06:00"),
        ("0 6 * * *", "2024-05-06T05:59:59.999Z", "2024-05-05T06:00"),
        ("*/20 * * * *", "2024-05-06T00:19:00Z", "2024-05-06T00:00"),
        ("5/20 * * * *", "2024-05-06T00:04:00Z", "2024-05-05T23:45"),
        ("10-40/15 * * * *", "2024-05-06T01:00:00Z", "2024-05-06T00:40"),
        ("0 0,12 * * *", "2024-05-06T23:00:00Z", "2024-05-06T12:00"),
        ("0 6 * * 1-5", "2024-05-06T05:00:00Z", "2024-05-03T06:00"),
        ("0 6 * * SUN", "2024-05-06T05:00:00Z", "2024-05-05T06:00"),
        ("0 6 1 * *", "2024-05-31T05:00:00Z", "2024-05-01T06:00"),
        ("0 6 1 JAN ?", "2024-05-31T05:00:00Z", "2024-01-01T06:00"),
        ("0 0 29 2 *", "2023-05-31T05:00:00Z", "2020-02-29T00:00"),
        # Both days restricted: either suffices. One of them open: both hold.
        ("0 0 13 * 5", "2024-05-14T00:00:00Z", "2024-05-13T00:00"),
        ("0 0 13 * 5", "2024-05-12T00:00:00Z", "2024-05-10T00:00"),
        ("0 0 */13 * 5", "2024-05-31T00:00:00Z", "2024-03-01T00:00"),
        ("0 0 30 2 *", "2024-05-12T00:00:00Z", None),
    ],
)
def test_the_last_instant_is_found(cron: str, time: str, expected: str | None) -> None:
    assert last(cron, time) == expected


@pytest.mark.parametrize(
    ("cron", "time", "expected"),
    [
        ("0 6 * * *", "2024-07-01T04:00:00Z", "2024-07-01T04:00"),
        ("0 6 * * *", "2024-01-01T05:00:00Z", "2024-01-01T05:00"),
        ("0 0 * * *", "2024-07-01T00:00:00Z", "2024-06-30T22:00"),
        # 02:30 is left out on 2024-03-31, and comes twice on 2024-10-27.
        ("30 2 * * *", "2024-03-31T12:00:00Z", "2024-03-30T01:30"),
        ("30 2 * * *", "2024-10-27T00:45:00Z", "2024-10-27T00:30"),
        ("30 2 * * *", "2024-10-27T12:00:00Z", "2024-10-27T01:30"),
    ],
)
def test_time_zones_and_their_clock_changes_hold(cron: str, time: str, expected: str) -> None:
    assert last(cron, time, "Europe/Berlin") == expected


@given(
    st.sampled_from(["0 6 * * *", "*/7 3-5 * * 1,3", "30 2 */3 * *", "0 0 1 1 *", "15 10 13 * 5"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Los_Angeles", "Asia/Kathmandu", "Africa/Cairo"]),
    st.integers(instant_ms("2015-01-01T00:00:00Z"), instant_ms("2035-01-01T00:00:00Z")),
)
def test_an_instant_is_its_own_last_one_and_none_lies_between(cron: str, timezone: str, time_ms: int) -> None:
    schedule = Schedule(Reset(cron=cron, timezone=timezone))
    found = schedule.last_ms(time_ms)
    assert found is not None and found <= time_ms
    assert schedule.last_ms(found) == found
    assert schedule.last_ms((found + time_ms) // 2) == found


def test_a_clock_change_of_half_an_hour_hides_no_reset() -> None:
    # At 02:00 the clock of Lord Howe goes to 02:30; 01:45 was 15 minutes before, at 15:15 in UTC.
    assert last("45 1 * * *", "2015-10-03T16:00:00Z", "Australia/Lord_Howe") == "2015-10-03T15:15"


def test_a_period_begins_with_the_latest_reset_of_any_schedule() -> None:
    schedules = (Schedule(Reset(cron="0 6 * * *")), Schedule(Reset(cron="0 12 * * *")))
    assert period(schedules, instant_ms("2024-05-06T13:00:00Z")) == "2024-05-06T12:00:00.000Z"
    assert period(schedules, instant_ms("2024-05-06T07:00:00Z")) == "2024-05-06T06:00:00.000Z"
    assert period((), 0) == ""
    assert period((Schedule(Reset(cron="0 0 30 2 *")),), 0) == ""


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "0 6 * *",
        "0 6 * * * *",
        "@daily",
        "60 * * * *",
        "-1 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 7",
        "5-1 * * * *",
        "*/0 * * * *",
        "a * * * *",
        "1,,2 * * * *",
        "1/ * * * *",
        "* * * * mond",
    ],
)
def test_what_is_no_cron_expression_is_refused(cron: str) -> None:
    with pytest.raises(TriggerError, match="reset_at's cron"):
        Schedule(Reset(cron=cron))


def test_an_unknown_time_zone_is_refused() -> None:
    for timezone in ("Mars/Olympus", "../etc/passwd", ""):
        with pytest.raises(TriggerError, match="IANA"):
            Schedule(Reset(cron="* * * * *", timezone=timezone))
