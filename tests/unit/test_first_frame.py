"""Which frame a join begins with: the state knows best, and what contradicts it is an error."""

from __future__ import annotations

import pytest

from headrace.edges.faust.first_frame import OffsetsLost, first_frame


@pytest.mark.parametrize(
    ("wanted", "committed", "expected"),
    [(None, None, 3), (None, 7, 7), (8, None, 8), (8, 7, 8), (8, 8, 8), (10, 8, 10)],
)
def test_the_state_decides_then_the_group_then_the_beginning(
    wanted: int | None, committed: int | None, expected: int
) -> None:
    assert first_frame("matches", "joins", 0, wanted, committed, 3, 10) == expected


@pytest.mark.parametrize(("wanted", "committed"), [(2, None), (11, None), (7, 8), (None, 2)])
def test_missing_frames_and_missing_changelog_records_are_errors(wanted: int | None, committed: int | None) -> None:
    with pytest.raises(OffsetsLost):
        first_frame("matches", "joins", 0, wanted, committed, 3, 10)
