"""Which frame of a partition a join begins with, once its state is restored."""

from __future__ import annotations

from headrace.model.errors import HeadraceError


class OffsetsLost(HeadraceError):
    """The matches topic no longer holds the next frame of a partition."""


def first_frame(
    matches: str, changelog: str, partition: int, wanted: int | None, committed: int | None, low: int, high: int
) -> int:
    """Return the offset of the frame to begin with.

    Args:
        matches: the frames' topic, for the message, as are the next two.
        changelog: the states' topic.
        partition: of both.
        wanted: what the restored state wants next; None where it cannot say.
        committed: the group's committed offset, if there is one.
        low: the first offset that Kafka holds.
        high: the one after the last.

    Raises:
        OffsetsLost: frames are missing, or changelog records are.
    """
    if wanted is None:
        wanted = committed
    elif committed is not None and committed > wanted:
        raise OffsetsLost(
            f"partition {partition}: group and changelog disagree: offset {committed} is committed, but topic "
            f"{changelog} knows frames only up to {wanted - 1}, so records of it are lost."
        )
    if wanted is None:
        return low
    if not low <= wanted <= high:
        raise OffsetsLost(
            f"partition {partition} of topic {matches} holds frames {low} to {high - 1}, but the next "
            f"one is {wanted}: they were deleted before they were read, or the topic was deleted and made anew."
        )
    return wanted
