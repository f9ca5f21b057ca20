"""How the join gets on: what is measured while it runs, and the picture of it for readiness and metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from headrace.edges.faust.fence import Clock


@dataclass(frozen=True)
class JoinProgress:
    """How the join is getting on at one moment."""

    # Whether a rebalance has been taken through to the end, with all states restored.
    recovered: bool
    # Partitions of the matches topic that this process holds.
    partitions: tuple[int, ...]
    # Changelog records still to be restored.
    recovery_remaining: int
    # Seconds since a frame was last applied; None before the first.
    frame_age_s: float | None
    # Seconds since the group last accepted a commit; None before the first.
    commit_age_s: float | None
    # Seconds since anything moved: the group, the recovery, a frame or a commit.
    still_s: float
    # Frames that Kafka holds and that are not applied yet, as far as the broker's last answers tell.
    lag: int


class ProgressMeter:
    """Collects what `JoinProgress` shows. Times are seconds of its clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._frame_at_s: float | None = None
        self._commit_at_s: float | None = None
        self._moved_at_s = clock()
        self._remaining = 0
        self._recovered = False

    def revoked(self) -> None:
        """The partitions were taken away; the group rebalances."""
        self._recovered = False
        self._remaining = 0
        self._moved()

    def recovering(self, remaining: Mapping[object, int]) -> None:
        """So many records remain to be restored."""
        total = sum(remaining.values())
        # Reading nothing is no movement: a recovery that hangs must become visible.
        if total != self._remaining:
            self._moved()
        self._remaining = total
        self._recovered = False

    def recovered(self) -> None:
        """All states are restored, and frames flow."""
        self._recovered = True
        self._remaining = 0
        self._moved()

    def frame_applied(self) -> None:
        """A frame was applied."""
        self._moved()
        self._frame_at_s = self._moved_at_s

    def committed(self) -> None:
        """The group accepted a commit."""
        self._moved()
        self._commit_at_s = self._moved_at_s

    def show(self, partitions: Iterable[int], lag: int) -> JoinProgress:
        """Return the picture of this moment."""
        now_s = self._clock()
        return JoinProgress(
            recovered=self._recovered,
            partitions=tuple(sorted(partitions)),
            recovery_remaining=self._remaining,
            frame_age_s=None if self._frame_at_s is None else now_s - self._frame_at_s,
            commit_age_s=None if self._commit_at_s is None else now_s - self._commit_at_s,
            still_s=now_s - self._moved_at_s,
            lag=lag,
        )

    def _moved(self) -> None:
        self._moved_at_s = self._clock()
