"""The heads of one partition, most of them at rest: as the bytes of the record that made them durable.

Most keys wait for long and are looked at once more. As objects such a head is some thirty of them, which is twice the
memory and, with a million keys, a pause of seconds whenever Python looks for cycles; as bytes it is one that Python
need not look into, and what is restored from the changelog need not be built before somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator

from headrace.stages.changelog import read_head
from headrace.stages.head import Head

REST_COUNT_MAX = 8
"""Events and ids up to which a head rests. Reading back what is busy and large would cost more than it saves."""


class Heads:
    """Heads by name. What `get` returns is to be kept or put to rest again once it has changed, and only then."""

    def __init__(self) -> None:
        self._held: dict[str, Head | bytes] = {}

    def __len__(self) -> int:
        return len(self._held)

    def get(self, name: str) -> Head | None:
        """Return a head; of one that rests, a copy of its own.

        Raises:
            RecordError: its record is damaged.
        """
        held = self._held.get(name)
        return read_head(held) if isinstance(held, bytes) else held

    def values(self) -> Iterator[Head]:
        """Yield every head."""
        return (read_head(held) if isinstance(held, bytes) else held for held in self._held.values())

    def keep(self, name: str, head: Head) -> None:
        """Hold a head as it is."""
        self._held[name] = head

    def rest(self, name: str, record: bytes) -> None:
        """Hold a head as the record that says all of it."""
        self._held[name] = record

    def settle(self, name: str, head: Head, record: bytes) -> None:
        """Hold a head that is as its record says, at rest if it is small."""
        # A copy, since orjson cuts its results from larger pieces of memory, whose rest would stay with them unused.
        self._held[name] = bytes(memoryview(record)) if _is_small(head) else head

    def drop(self, name: str) -> None:
        """Forget a head; nothing happens where there is none."""
        self._held.pop(name, None)


def _is_small(head: Head) -> bool:
    used = head.used
    if head.outside or (used is not None and used.segments):
        return False
    return head.pending_count + (len(used.times) if used is not None else 0) <= REST_COUNT_MAX
