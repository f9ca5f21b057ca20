"""Handover: which offsets of a partition are done, when work on them ends in any order."""

from __future__ import annotations

from collections import deque


class Handover:
    """One partition's offsets from the first unfinished one on."""

    def __init__(self) -> None:
        self._order: deque[int] = deque()
        self._done: set[int] = set()

    @property
    def unfinished(self) -> int:
        """Records begun and not done."""
        return len(self._order) - len(self._done)

    def begin(self, offset: int) -> None:
        """Note that work on a record has begun; offsets come in rising order."""
        self._order.append(offset)

    def done(self, offset: int) -> int | None:
        """Note that a record is done; return the offset to commit, if it has moved."""
        self._done.add(offset)
        moved = None
        while self._order and self._order[0] in self._done:
            moved = self._order.popleft()
            self._done.remove(moved)
        return None if moved is None else moved + 1
