"""What a key costs that waits for its second event: memory of the join, and time to restore it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from benchmarks.events import PADDING, trigger
from benchmarks.join_run import copy_frames, joins
from benchmarks.parts import Parts
from headrace.bench.children import wait_for
from headrace.bench.figures import Aim, Figure, Sample
from headrace.model.event import Event
from headrace.model.frame import Match, encode_frame
from headrace.model.names import partition_of
from headrace.stages.route import compile_trigger

PER_FRAME = 100
TIMEOUT_S = 600.0


def measure(parts: Parts) -> Sequence[Figure]:
    """Measure the row."""
    sizes = [10_000, 100_000] if not parts.quick else [10_000]
    if parts.million:
        sizes.append(1_000_000)
    return [figure for size in sizes for figure in _keys(parts, size)]


def _keys(parts: Parts, keys: int) -> list[Figure]:
    bytes_a_key, restored_bytes, recovery_s = [], [], []
    # A million keys take a minute to write, and differ less from run to run.
    for _ in range(1 if keys > 100_000 else parts.repetitions):
        settings = parts.settings()
        with joins(settings) as filling:
            filling.wait_until_ready()
            empty = filling.resident_bytes()
            copy_frames(settings, list(waiting(keys, settings.partitions)))
            wait_for(lambda: filling.looks()[0].decided >= keys, TIMEOUT_S, "the last key")
            bytes_a_key.append(Sample((filling.resident_bytes() - empty) / keys))
        began_s = time.monotonic()
        with joins(settings) as restored:
            restored.wait_until_ready()
            recovery_s.append(Sample(time.monotonic() - began_s))
            restored_bytes.append(Sample((restored.resident_bytes() - empty) / keys))
    what = f"{keys:,} waiting keys"
    few = keys < 100_000
    return [
        Figure("pending-keys", f"memory, {what}", "bytes/key", tuple(bytes_a_key), "", None if few else _KEY_AIM),
        Figure("pending-keys", f"memory restored, {what}", "bytes/key", tuple(restored_bytes)),
        Figure("pending-keys", f"recovery with process start, {what}", "s", tuple(recovery_s), "", _RECOVERY_AIM),
    ]


_KEY_AIM = Aim(1024, lower_is_better=True)
_RECOVERY_AIM = Aim(30.0, lower_is_better=True)


def waiting(keys: int, partitions: int) -> Iterator[tuple[int, bytes]]:
    """Yield frames of events that wait, each under a key of its own, with the partition of each frame."""
    definition = compile_trigger(
        trigger("pair", [{"name": side, "key": "event.set"} for side in ("left", "right")]), 3_600_000, 60_000
    ).definition
    time_ms = time.time_ns() // 1_000_000
    gathered: list[list[Match]] = [[] for _ in range(partitions)]
    for number in range(keys):
        key = f'"set-{number}"'
        payload = f'{{"set":{key},"rows":{number % 100},"padding":"{PADDING}"}}'
        event = Event(f"left:0:{number}", "left", time_ms, 0, number, payload)
        partition = partition_of(definition.trigger, key, partitions)
        gathered[partition].append(Match(definition, event, (0,), key))
        if len(gathered[partition]) == PER_FRAME:
            yield partition, encode_frame(gathered[partition])
            gathered[partition] = []
    yield from ((partition, encode_frame(matches)) for partition, matches in enumerate(gathered) if matches)
