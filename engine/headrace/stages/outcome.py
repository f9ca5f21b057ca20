"""Outcome: what is put on record of a firing, as a run and, where it is refused, as a dead letter."""

from __future__ import annotations

import base64

from headrace.model.dead_letter import DeadLetter, dead_letter
from headrace.model.event import Position
from headrace.model.run import Run, RunEvent, RunState
from headrace.stages.bind import Refusal
from headrace.stages.waiting import Held


def run_of(held: Held, state: RunState, now_ms: int, **fields: object) -> Run:
    """Return the record of a firing that has come to this state now; `fields` are the run's, see `Run`."""
    firing, definition = held.firing, held.firing.definition
    pairs = zip(definition.dependencies, firing.events, strict=True)
    return Run(
        firing=firing.id,
        trigger=definition.trigger,
        state=state,
        time_ms=now_ms,
        fired_ms=firing.time_ms,
        target=f"{definition.run_kind}:{definition.run_target}",
        key=firing.key,
        events=[RunEvent(dependency=d, id=e.id, name=e.name, time_ms=e.time_ms) for d, e in pairs],
        attempts=held.attempts,
        **fields,
    )


def queued_run_of(held: Held, now_ms: int, reason: str, message: str) -> Run:
    """Return the record of a firing that has to wait, with its bytes: the partition's next owner goes on with it."""
    encoded = base64.b64encode(held.firing.encode()).decode()
    return run_of(held, RunState.QUEUED, now_ms, reason=reason, message=message, firing_bytes=encoded)


def letter_of(held: Held, refusal: Refusal) -> DeadLetter:
    """Return the dead letter of a firing that is refused; the firing itself is its bytes."""
    firing = held.firing
    # The newest event stands for the firing's place.
    newest = max(firing.events, key=lambda event: event.order)
    return dead_letter(
        "firing",
        refusal.reason,
        refusal.message,
        Position(newest.name, newest.partition, newest.offset),
        firing.time_ms,
        value=firing.encode(),
        trigger=firing.definition.trigger,
        event_id=newest.id,
        retry_of=held.retry_of,
    )
