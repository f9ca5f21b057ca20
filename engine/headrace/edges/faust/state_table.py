"""A Faust table whose values are whole partitions' states, restored from a changelog and written past Faust."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import faust
from faust.types import EventT

from headrace.edges.faust.fenced_producer import FencedProducer
from headrace.edges.faust.sequels import Delivered, Outgoing
from headrace.model.errors import HeadraceError


class PartitionState(Protocol):
    """What the table keeps for each partition."""

    def restore(self, key: bytes, value: bytes | None) -> None:
        """Take one record of the changelog, oldest first; None says that the key's record was deleted."""


S = TypeVar("S", bound=PartitionState)


class PartitionNotHeld(HeadraceError):
    """A state was asked for that this process does not hold now."""


class StateTable(faust.Table[bytes, bytes], Generic[S]):
    """One state for each held partition.

    Faust recovers it, assigns its partitions beside those of the frames, and says when they are revoked. Nothing goes
    through Faust's own dictionaries, serializers and producer: a state holds its own objects, decoded once, and its
    changes are written by `write`.
    """

    def __init__(
        self, app: Any, *, name: str, changelog: str, new_state: Callable[[int], S], producer: FencedProducer
    ) -> None:
        """Prepare a table on the existing topic `changelog`; `new_state` makes a partition's empty state."""
        topic = app.topic(
            changelog,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            internal=True,
            acks=False,
            allow_empty=True,
        )
        super().__init__(app, name=name, changelog_topic=topic, key_type=bytes, value_type=bytes)
        self._changelog = changelog
        self._new_state = new_state
        self._producer = producer
        self._states: dict[int, S] = {}

    @property
    def states(self) -> Mapping[int, S]:
        """The held partitions' states; to be looked at, not kept."""
        return self._states

    def state_of(self, partition: int) -> S:
        """Return the partition's state.

        Raises:
            PartitionNotHeld: its partition is not assigned to this process.
        """
        try:
            return self._states[partition]
        except KeyError:
            raise PartitionNotHeld(
                f"the state of partition {partition} was asked for, but this process does not hold that partition."
            ) from None

    def write(
        self, partition: int, changes: Iterable[tuple[bytes, bytes | None]], after: Delivered | None = None
    ) -> None:
        """Write changes of the partition's state to the changelog, in order, without waiting.

        The offsets of what caused them are committed only after they are delivered.

        Args:
            partition: the state's.
            changes: keys, and values or None for a tombstone.
            after: what must be delivered before.

        Raises:
            FenceExpired: nothing was written, and nothing may be written any more.
        """
        topic = self._changelog
        self._producer.send_after(after, [Outgoing(topic, partition, key, value) for key, value in changes])

    def drop_all(self) -> None:
        """Forget all states: their partitions were revoked, or are about to be recovered."""
        self._states.clear()

    def begin(self, partitions: Iterable[int]) -> None:
        """Start from empty states of exactly these partitions."""
        self.drop_all()
        for partition in partitions:
            self._states[partition] = self._new_state(partition)

    def restore(self, partition: int, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Hand records of the changelog, oldest first, to the partition's state."""
        restore = self._states[partition].restore
        for key, value in records:
            restore(key, value)

    def apply_changelog_batch(self, batch: Iterable[EventT[Any]]) -> None:
        """Faust's own way into a table; the recovery reads in batches and does not come here."""
        for event in batch:
            self.restore(event.message.partition, [(event.message.key or b"", event.message.value)])

    def on_key_set(self, key: bytes, value: bytes) -> None:
        """Refuse: a change that Faust's producer writes would not be fenced."""
        raise TypeError(f"table {self.name} is written by its write method, not by item assignment")

    def on_key_del(self, key: bytes) -> None:
        """Refuse, see `on_key_set`."""
        raise TypeError(f"table {self.name} is written by its write method, not by item deletion")
