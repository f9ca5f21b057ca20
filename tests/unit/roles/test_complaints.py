"""Complaints: told at once, then summed up."""

from __future__ import annotations

import pytest

from headrace.roles.complaints import INTERVAL_S, REASONS_MAX, Complaints


class HandClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.s = 0.0

    def elapsed_s(self) -> float:
        return self.s

    def now_ms(self) -> int:
        return round(self.s * 1000)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


def test_many_that_wait_for_one_reason_are_one_line_and_then_one_more(caplog: pytest.LogCaptureFixture) -> None:
    clock = HandClock()
    complaints = Complaints(clock)
    for number in range(1_000):
        complaints.waits(f"f{number}", "ml/t", "the API server is away")
    complaints.waits("g", "ml/t", "HTTP 403: exceeded quota")
    assert lines(caplog) == [
        "firing f0 of ml/t waits: the API server is away",
        "firing g of ml/t waits: HTTP 403: exceeded quota",
    ]
    clock.s = INTERVAL_S
    complaints.waits("f1000", "ml/t", "the API server is away")
    assert lines(caplog) == ["firing f1000 of ml/t waits: the API server is away (as 999 others did since)"]
    clock.s = 2 * INTERVAL_S
    complaints.waits("f1001", "ml/t", "the API server is away")
    assert lines(caplog) == ["firing f1001 of ml/t waits: the API server is away"]


def test_reasons_that_never_come_again_do_not_pile_up(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(HandClock())
    for number in range(3 * REASONS_MAX):
        complaints.waits("f", "ml/t", f"reason {number}")
    assert len(lines(caplog)) == 3 * REASONS_MAX
    assert len(complaints._told) <= REASONS_MAX
