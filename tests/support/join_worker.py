"""A join with a toy stage in a process of its own, so that tests can kill, stop and watch it.

The stage counts keys. A frame is a JSON array of keys; for each the worker writes the key's new count to the outputs
topic, and to the changelog, together with the offset of the frame that made it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from faust.types import TP

from headrace.edges.faust.app import Frame, JoinApp
from headrace.edges.faust.consumer import JoinConsumer, JoinTransport
from headrace.edges.faust.consumer_thread import JoinConsumerThread
from headrace.edges.faust.sequels import Outgoing

POISON = "poison"
GATE = "gate"


class ToyState:
    """Counts by key, and the last applied frame."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.counts: dict[str, int] = {}
        self.offset = -1

    def restore(self, key: bytes, value: bytes | None) -> None:
        if key == b"partition":
            self.offset = int(value or b"-1")
        elif value is None:
            self.counts.pop(key.decode(), None)
        else:
            self.counts[key.decode()] = int(value)

    def next_offset(self) -> int | None:
        return None if self.offset < 0 else self.offset + 1


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker is told on its command line, as JSON."""

    properties: Mapping[str, str]
    group: str
    matches: str
    changelog: str
    outputs: str
    data_dir: str
    # Whether the state says where to go on; otherwise the committed offset does.
    resumes_from_state: bool = True
    # Whether a frame with the key GATE is not applied before SIGUSR1 has come.
    waits_at_gate: bool = False
    # Whether the answer to a commit, one that moved some partition by two frames or more, is held until the worker is
    # told to give its partitions back.
    holds_an_answer: bool = False


class SlowCoordinator(JoinConsumerThread):
    """Holds one answer of the group's coordinator, as if it were slow."""

    _committed: Mapping[TP, int] = {}
    _has_held = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.answer = threading.Event()

    async def commit_in_thread(self, offsets: Mapping[TP, int]) -> bool:
        accepted = await super().commit_in_thread(offsets)
        moved = [offset - before for tp, offset in offsets.items() if (before := self._committed.get(tp, 0)) > 0]
        self._committed = {**self._committed, **offsets}
        if not self._has_held and max(moved, default=0) >= 2:
            self._has_held = True
            # Set when the first partitions came.
            self.answer.clear()
            say(held={tp.partition: offset for tp, offset in offsets.items()})
            await asyncio.to_thread(self.answer.wait)
        return accepted


class ImpatientConsumer(JoinConsumer):
    """A consumer whose coordinator is slow."""

    def _new_consumer_thread(self) -> JoinConsumerThread:
        return SlowCoordinator(self, loop=self.loop, beacon=self.beacon)

    async def stop_reading(self) -> None:
        await super().stop_reading()
        cast(SlowCoordinator, self._thread).answer.set()


def say(**facts: object) -> None:
    """Tell the test something, one JSON object a line."""
    print(json.dumps(facts), flush=True)


async def work(options: WorkerOptions) -> None:
    """Run the join until SIGTERM."""
    stop = asyncio.Event()
    gate = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, gate.set)

    async def apply(state: ToyState, frame: Frame) -> None:
        if frame.offset <= state.offset:
            say(replayed=frame.offset, partition=frame.partition)
            return
        keys: list[str] = json.loads(frame.value or b"[]")
        if POISON in keys:
            raise ValueError("this frame is poisoned")
        if GATE in keys and options.waits_at_gate:
            say(waiting=True)
            await gate.wait()
        counts = state.counts
        for key in keys:
            counts[key] = counts.get(key, 0) + 1
        delivered = app.send_all(
            Outgoing(options.outputs, frame.partition, key.encode(), b"%d %d" % (counts[key], frame.offset))
            for key in keys
        )
        changes: list[tuple[bytes, bytes | None]] = [(key.encode(), b"%d" % counts[key]) for key in keys]
        state.offset = frame.offset
        app.write(frame.partition, [*changes, (b"partition", b"%d" % frame.offset)], after=delivered)

    app: JoinApp[ToyState] = JoinApp(
        properties=options.properties,
        group=options.group,
        matches_topic=options.matches,
        changelog_topic=options.changelog,
        new_state=ToyState,
        on_frame=apply,
        data_dir=Path(options.data_dir),
        next_offset=ToyState.next_offset if options.resumes_from_state else None,
        output_topics=(options.outputs,),
    )
    if options.holds_an_answer:
        JoinTransport.Consumer = ImpatientConsumer
    reporting = asyncio.create_task(report(app))
    await app.run(stop)
    reporting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reporting
    say(stopped=True)


async def report(app: JoinApp[ToyState]) -> None:
    """Say what the worker holds, whenever that has changed."""
    last: object = None
    while True:
        shown = app.progress()
        held = (shown.recovered, shown.partitions)
        if held != last:
            counts = {p: state.counts for p, state in app.table.states.items()} if shown.recovered else {}
            say(recovered=shown.recovered, partitions=shown.partitions, counts=counts)
            last = held
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    asyncio.run(work(WorkerOptions(**json.loads(sys.argv[1]))))
