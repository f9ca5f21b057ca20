"""The fence that keeps a lost process from writing, and the time limits that it rests on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.edges.faust.fence import Fence, FenceExpired
from headrace.edges.faust.join_progress import ProgressMeter
from headrace.edges.faust.timing import Timing
from headrace.model.errors import SettingsError


class HandClock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_new_fence_is_closed() -> None:
    fence = Fence(30.0, HandClock())
    assert not fence.is_open
    assert fence.age_s is None
    with pytest.raises(FenceExpired, match="holds no partitions"):
        fence.check()


def test_a_renewal_allows_writes_for_the_lifetime_counted_from_the_question() -> None:
    clock = HandClock()
    fence = Fence(30.0, clock)
    asked_at_s = fence.now_s()
    clock.now_s += 20.0
    fence.renew(asked_at_s)
    clock.now_s += 10.0
    fence.check()
    assert not fence.has_expired
    clock.now_s += 0.1
    assert fence.has_expired
    with pytest.raises(FenceExpired, match=r"30\.1 s ago"):
        fence.check()


def test_an_answer_that_was_overtaken_does_not_shorten_the_fence() -> None:
    clock = HandClock()
    fence = Fence(30.0, clock)
    fence.renew(100.0)
    fence.renew(90.0)
    assert fence.age_s == 0.0


def test_a_closed_fence_refuses_until_the_next_renewal() -> None:
    fence = Fence(30.0, HandClock())
    fence.renew(100.0)
    fence.close()
    with pytest.raises(FenceExpired):
        fence.check()
    fence.renew(100.0)
    fence.check()


def test_the_default_limits() -> None:
    timing = Timing.of({})
    assert (timing.session_s, timing.fence_s, timing.delivery_s, timing.rebalance_s) == (45.0, 30.0, 15.0, 60.0)


@given(st.integers(min_value=6_000, max_value=1_800_000))
def test_a_write_is_over_before_the_group_gives_the_partitions_away(session_ms: int) -> None:
    timing = Timing.of({"session.timeout.ms": str(session_ms)})
    assert timing.fence_s + timing.delivery_s <= timing.session_s + 1e-9
    # In a rebalance the member is waited for; it learns of it by a heartbeat, and then has to drain.
    assert timing.heartbeat_s + timing.drain_s + timing.delivery_s < timing.rebalance_s
    assert timing.heartbeat_s * 2 <= timing.session_s


@pytest.mark.parametrize(
    "properties",
    [
        {"session.timeout.ms": "soon"},
        {"session.timeout.ms": "0"},
        {"session.timeout.ms": "6000", "heartbeat.interval.ms": "5000"},
    ],
)
def test_limits_that_cannot_work_are_refused(properties: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"\.ms"):
        Timing.of(properties)


def test_a_recovery_that_reads_nothing_stands_still() -> None:
    clock = HandClock()
    meter = ProgressMeter(clock)
    meter.revoked()
    clock.now_s += 5.0
    meter.recovering({"a": 10, "b": 5})
    assert meter.show((), 0).still_s == 0.0
    clock.now_s += 7.0
    meter.recovering({"a": 10, "b": 5})
    shown = meter.show((), 0)
    assert (shown.still_s, shown.recovery_remaining, shown.recovered) == (7.0, 15, False)
    meter.recovering({"b": 5})
    assert meter.show((), 0).still_s == 0.0


def test_progress_tells_the_ages_of_frames_and_commits() -> None:
    clock = HandClock()
    meter = ProgressMeter(clock)
    meter.recovered()
    assert (meter.show((), 0).frame_age_s, meter.show((), 0).commit_age_s) == (None, None)
    meter.frame_applied()
    clock.now_s += 2.0
    meter.committed()
    clock.now_s += 3.0
    shown = meter.show({2, 1}, 7)
    assert (shown.recovered, shown.frame_age_s, shown.commit_age_s, shown.still_s) == (True, 5.0, 3.0, 3.0)
    assert (shown.partitions, shown.lag) == ((1, 2), 7)
