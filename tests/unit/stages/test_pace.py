"""Pace: quick while quiet, one frame an interval when busy."""

from __future__ import annotations

import pytest

from headrace.stages.pace import FRAME_INTERVAL_S, FRAMES_PER_S_MAX, QUICK_FRAMES_BURST, QUICK_FRAMES_PER_S, Pace


def test_the_first_frame_and_a_pair_leave_at_once() -> None:
    pace = Pace()
    assert pace.wait_s(100.0) == 0.0
    pace.sent(1, 100.0)
    assert pace.wait_s(100.0001) == 0.0


def test_sustained_load_waits_for_the_interval() -> None:
    pace, now_s, flushes, frames = Pace(), 0.0, 0, 8
    while now_s < 10.0:
        wait_s = pace.wait_s(now_s)
        now_s += max(wait_s, 0.0001)
        if pace.wait_s(now_s) == 0.0:
            pace.sent(frames, now_s)
            flushes += 1
    by_interval = 10.0 / FRAME_INTERVAL_S
    quick = (QUICK_FRAMES_BURST + 10.0 * QUICK_FRAMES_PER_S) / frames
    assert flushes <= by_interval + quick + 1


def test_after_a_pause_it_is_quick_again() -> None:
    pace = Pace()
    for step in range(1000):
        pace.sent(8, step * FRAME_INTERVAL_S)
    busy_s = 1000 * FRAME_INTERVAL_S
    assert pace.wait_s(busy_s - FRAME_INTERVAL_S) > 0
    assert pace.wait_s(busy_s + 1.0) == 0.0


def test_under_load_frames_for_many_partitions_wait_longer_so_that_the_join_gets_no_more_of_them() -> None:
    pace, now_s = Pace(), 100.0
    for _ in range(3):
        pace.sent(64, now_s)
    assert pace.wait_s(now_s) == pytest.approx(64 / FRAMES_PER_S_MAX)
    pace.sent(8, now_s)
    assert pace.wait_s(now_s) == pytest.approx(FRAME_INTERVAL_S)
