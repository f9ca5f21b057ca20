"""Select: which pending events make a complete set with the one that has just come.

Before an event comes there is no complete set, or it would have fired; so every complete set holds the new event. Both
ways of choosing walk the spans of one window that contain it: `latest` from the newest span down, `each` from the
oldest up. Within a span every dependency gives its newest, or oldest, event. Ties go by topic, partition, offset.

    window 10, dependencies a and b, b has just come at 12:

        a: 1   4       11          latest takes a@11, each takes a@4 (a@1 lies more than 10 away)
        b:                12
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from headrace.model.event import Event


def assign(event: Event, passed: Sequence[int], pending: Sequence[Sequence[Event]], window_ms: int) -> int:
    """Return the index of the dependency that `event` fills: the emptiest that it passed, the first of equals.

    Args:
        event: the event that has come.
        passed: indexes of the dependencies whose filters it passed, in their order; never empty.
        pending: for each dependency its pending events, sorted by `Event.order`.
        window_ms: only events this close in time count as filling a place beside it.
    """
    if len(passed) == 1:
        return passed[0]
    return min(passed, key=lambda index: (_count_within(pending[index], event.time_ms, window_ms), index))


def complete(
    event: Event, place: int, pending: Sequence[Sequence[Event]], window_ms: int, match: str
) -> tuple[Event, ...] | None:
    """Return one event for each dependency, `event` at `place`, all within `window_ms`; None if there is no such set.

    Args:
        event: the event that has come; it is not in `pending`.
        place: the dependency that it fills.
        pending: for each dependency its pending events, sorted by `Event.order`.
        window_ms: the longest allowed distance between the oldest and the newest.
        match: `latest` or `each`.
    """
    near = [_within(events, event.time_ms, window_ms) for events in pending]
    near[place] = [event]
    if not all(near):
        return None
    if all(len(events) == 1 for events in near):
        times = [events[0].time_ms for events in near]
        return tuple(events[0] for events in near) if max(times) - min(times) <= window_ms else None
    return _newest(event, near, window_ms) if match == "latest" else _oldest(event, near, window_ms)


def _newest(event: Event, near: list[list[Event]], window_ms: int) -> tuple[Event, ...] | None:
    times = [[e.time_ms for e in events] for events in near]
    ends = sorted({time for row in times for time in row if time >= event.time_ms}, reverse=True)
    for end in ends:
        chosen = []
        for events, row in zip(near, times, strict=True):
            index = bisect_right(row, end) - 1
            if index < 0 or row[index] < end - window_ms:
                break
            chosen.append(events[index])
        else:
            return tuple(chosen)
    return None


def _oldest(event: Event, near: list[list[Event]], window_ms: int) -> tuple[Event, ...] | None:
    times = [[e.time_ms for e in events] for events in near]
    starts = sorted({time for row in times for time in row if time <= event.time_ms})
    for start in starts:
        chosen = []
        for events, row in zip(near, times, strict=True):
            index = bisect_left(row, start)
            if index == len(row) or row[index] > start + window_ms:
                break
            chosen.append(events[index])
        else:
            return tuple(chosen)
    return None


def _within(events: Sequence[Event], time_ms: int, window_ms: int) -> list[Event]:
    if len(events) == 1:
        return [events[0]] if abs(events[0].time_ms - time_ms) <= window_ms else []
    low = bisect_left(events, time_ms - window_ms, key=_time)
    return list(events[low : bisect_right(events, time_ms + window_ms, key=_time)])


def _count_within(events: Sequence[Event], time_ms: int, window_ms: int) -> int:
    low = bisect_left(events, time_ms - window_ms, key=_time)
    return bisect_right(events, time_ms + window_ms, key=_time) - low


def _time(event: Event) -> int:
    return event.time_ms
