"""Builders of small literal inputs, so that each test shows only what it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.model.definition import Definition
from headrace.model.event import Event, Position, ReadEvent
from headrace.model.firing import Firing, firing_of
from headrace.model.trigger import TriggerRecord, TriggerSpec
from headrace.stages.read import RawRecord, Unreadable, read
from headrace.stages.route import CompiledTrigger, compile_trigger

NOW_MS = 1_780_000_000_000
"""The clock in tests that do not care about it."""

WINDOW_MS = 3_600_000
LATENESS_MS = 60_000


def make_event(
    event_id: str = "e",
    name: str = "data_updated",
    time_ms: int = 0,
    offset: int = 0,
    *,
    partition: int = 0,
    payload: str = "{}",
) -> Event:
    """Make an event without a record behind it."""
    return Event(event_id, name, time_ms, partition, offset, payload)


def make_definition(
    dependencies: Sequence[str] = ("a", "b"),
    *,
    window_ms: int = 10,
    lateness_ms: int = 0,
    match: str = "latest",
    generation: int = 1,
    signature: str = "signature",
    trigger: str = "ml/model-refresh",
    creation: str = "creation-1",
    mappings: Sequence[dict[str, str] | None] | None = None,
    constants: Mapping[str, Any] | None = None,
    run_kind: str = "workflowTemplate",
    run_target: str = "model-refresh",
) -> Definition:
    """Make one generation of a trigger, every default resolved."""
    return Definition(
        trigger=trigger,
        creation=creation,
        generation=generation,
        signature=signature,
        window_ms=window_ms,
        lateness_ms=lateness_ms,
        match=match,
        dependencies=tuple(dependencies),
        mappings=tuple(mappings) if mappings is not None else (None,) * len(dependencies),
        run_kind=run_kind,
        run_target=run_target,
        constants=dict(constants or {}),
    )


def make_firing(
    *payloads: str,
    mappings: Sequence[dict[str, str] | None] | None = None,
    constants: Mapping[str, Any] | None = None,
    run_kind: str = "workflowTemplate",
    run_target: str = "model-refresh",
    trigger: str = "ml/model-refresh",
    ids: Sequence[str] | None = None,
) -> Firing:
    """Make a firing with one event for each payload, named a, b, c …"""
    names = "abcdefgh"[: len(payloads)]
    definition = make_definition(
        names, mappings=mappings, constants=constants, run_kind=run_kind, run_target=run_target, trigger=trigger
    )
    events = tuple(
        make_event(ids[index] if ids else f"id-{name}", name, 1_000 * index, payload=payload)
        for index, (name, payload) in enumerate(zip(names, payloads, strict=True))
    )
    return firing_of(definition, "", events)


def make_record(spec: Mapping[str, Any], **fields: Any) -> TriggerRecord:
    """Make a deployed trigger; `spec` is as in a file, its `run` may be left out."""
    whole = {"run": {"workflowTemplate": "model-refresh"}, **spec}
    return TriggerRecord.model_validate(
        {
            "name": "ml/model-refresh",
            "creation": "creation-1",
            "generation": 1,
            "starts": {},
            "deployed_ms": 0,
            **fields,
            "spec": TriggerSpec.model_validate(whole),
        }
    )


def make_trigger(spec: Mapping[str, Any], **fields: Any) -> CompiledTrigger:
    """Compile a deployed trigger with the engine's default window and lateness."""
    return compile_trigger(make_record(spec, **fields), WINDOW_MS, LATENESS_MS)


def make_raw(
    value: bytes | None,
    *,
    topic: str = "data_updated",
    partition: int = 2,
    offset: int = 7,
    timestamp_ms: int | None = NOW_MS - 1_000,
    **headers: str,
) -> RawRecord:
    """Make a record as Kafka gives it; `content_type` becomes the header `content-type`."""
    pairs = tuple((name.replace("content_type", "content-type"), text.encode()) for name, text in headers.items())
    return RawRecord(Position(topic, partition, offset), None, value, pairs, timestamp_ms)


def read_event(value: bytes, **fields: Any) -> ReadEvent:
    """Read a record that must be readable."""
    outcome = read(make_raw(value, **fields), NOW_MS)
    assert isinstance(outcome, ReadEvent), outcome
    return outcome


def read_refusal(value: bytes | None, **fields: Any) -> Unreadable:
    """Read a record that must be refused."""
    outcome = read(make_raw(value, **fields), NOW_MS)
    assert isinstance(outcome, Unreadable), outcome
    return outcome
