"""Route: one event becomes matches (for the join) and firings (of triggers that wait for nothing else)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from headrace.model import bounds
from headrace.model.dead_letter import Reason
from headrace.model.definition import Definition
from headrace.model.event import Event, ReadEvent
from headrace.model.firing import Firing, firing_of
from headrace.model.frame import Match
from headrace.model.json_text import canonical
from headrace.model.times import duration_ms
from headrace.model.trigger import TriggerRecord
from headrace.stages.candidates import Candidates
from headrace.stages.comparison import Comparison, comparison_of, field_at
from headrace.stages.expression import Expression, Failed, variables
from headrace.stages.resets import Schedule, period


@dataclass(frozen=True, slots=True)
class Rejected:
    """An event that one trigger cannot use, though its filter let it pass."""

    trigger: str | None
    """None where the event as a whole is concerned."""
    reason: Reason
    message: str


@dataclass(slots=True)
class Routed:
    """What one event led to."""

    matches: list[Match] = field(default_factory=list)
    firings: list[Firing] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """`filtered`, `filter_failed` and `missing_field`, for the metrics."""

    def count(self, how: str) -> None:
        """Count one dependency that the event did not pass."""
        self.counts[how] = self.counts.get(how, 0) + 1


@dataclass(frozen=True, slots=True)
class _Dependency:
    index: int
    filter: Expression | None
    key: Expression | None
    requires: tuple[str, ...] = ()
    """Fields that the payload must have."""
    comparison: Comparison | None = None
    """What the filter begins with, where that can be decided without CEL."""


@dataclass(frozen=True, slots=True)
class CompiledTrigger:
    """A trigger ready to route."""

    definition: Definition
    starts: dict[str, dict[int, int]]
    by_event: dict[str, tuple[_Dependency, ...]]
    reads_headers: bool
    resumed_ms: dict[str, int]
    resets: tuple[Schedule, ...] = ()
    """When waiting events stop counting."""

    @property
    def joins(self) -> bool:
        """Whether it waits for more than one event."""
        return len(self.definition.dependencies) > 1

    def comparison(self, event: str) -> Comparison | None:
        """Return what rules an event out as a whole; None where nothing that simple does."""
        # What an event lacks that it must have is told even where a filter would not let it pass.
        only = self.by_event[event][0]
        return only.comparison if len(self.by_event[event]) == 1 and not only.requires else None


def compile_trigger(record: TriggerRecord, default_window_ms: int, lateness_ms: int) -> CompiledTrigger:
    """Resolve a trigger's defaults and compile its expressions.

    Raises:
        TriggerError: an expression is not CEL.
    """
    spec, sensor = record.spec, record.sensor
    window_ms = duration_ms(spec.window) if spec.window is not None else default_window_ms
    by_event: dict[str, list[_Dependency]] = {}
    for index, dependency in enumerate(spec.events):
        by_event.setdefault(dependency.name, []).append(
            _Dependency(
                index,
                Expression(dependency.filter) if dependency.filter is not None else None,
                Expression(dependency.key) if dependency.key is not None else None,
                tuple(sensor.requires.get(dependency.name, ())) if sensor is not None else (),
                comparison_of(dependency.filter) if dependency.filter is not None else None,
            )
        )
        for source in (dependency.parameters or {}).values():
            if source.startswith("="):
                Expression(source[1:])
    definition = Definition(
        trigger=record.name,
        creation=record.creation,
        generation=record.generation,
        signature=_signature(record, window_ms),
        window_ms=window_ms,
        lateness_ms=lateness_ms,
        match=spec.match,
        dependencies=tuple(spec.dependency_names()),
        mappings=tuple(dependency.parameters for dependency in spec.events),
        run_kind=spec.run.kind,
        run_target=spec.run.target,
        constants=dict(spec.run.parameters),
        max_age_ms=duration_ms(spec.max_age) if spec.max_age is not None else None,
        sensor=sensor.model_dump(exclude={"requires", "resets"}) if sensor is not None else None,
    )
    return CompiledTrigger(
        definition,
        {topic: {int(p): offset for p, offset in starts.items()} for topic, starts in record.starts.items()},
        {name: tuple(dependencies) for name, dependencies in by_event.items()},
        any(
            source.startswith("=") and "headers" in source
            for dependency in spec.events
            for source in (dependency.parameters or {}).values()
        ),
        dict(record.resumed_ms),
        tuple(Schedule(reset) for reset in sensor.resets) if sensor is not None else (),
    )


def _signature(record: TriggerRecord, window_ms: int) -> str:
    signature, sensor = record.spec.signature(window_ms), record.sensor
    if sensor is None or not (sensor.requires or sensor.resets):
        return signature
    # What an event must have, and when waiting events are forgotten, is part of what those that wait depend on.
    text = orjson.dumps([signature, sensor.requires, [reset.model_dump() for reset in sensor.resets]])
    return hashlib.sha256(text).hexdigest()[:16]


class Routes:
    """Which triggers wait for which event. A value: a changed set of triggers makes a new one."""

    def __init__(self, triggers: Iterable[CompiledTrigger] = ()) -> None:
        self._triggers = {trigger.definition.trigger: trigger for trigger in triggers}
        by_event: dict[str, list[CompiledTrigger]] = {}
        for trigger in self._triggers.values():
            for name in trigger.by_event:
                by_event.setdefault(name, []).append(trigger)
        self._by_event = {name: tuple(triggers) for name, triggers in by_event.items()}
        # Made when an event first asks: triggers are often changed one after the other.
        self._candidates: dict[str, Candidates[CompiledTrigger]] = {}

    @property
    def events(self) -> set[str]:
        """Every event that some trigger waits for."""
        return set(self._by_event)

    @property
    def triggers(self) -> dict[str, CompiledTrigger]:
        """The triggers by their names, `namespace/name`."""
        return dict(self._triggers)

    def changed(self, changes: Mapping[str, CompiledTrigger | None]) -> Routes:
        """Return routes in which each trigger named is as given, or is gone."""
        triggers = {name: trigger for name, trigger in self._triggers.items() if name not in changes}
        triggers.update({name: trigger for name, trigger in changes.items() if trigger is not None})
        return Routes(triggers.values())

    def start_of(self, topic: str, partition: int) -> int:
        """Return the first offset of a partition that any trigger wants."""
        return min((t.starts.get(topic, {}).get(partition, 0) for t in self._by_event.get(topic, ())), default=0)

    def resumed_ms(self, topic: str) -> int:
        """Return when a person last let a stopped topic go on, milliseconds since 1970; 0 for never."""
        return max((t.resumed_ms.get(topic, 0) for t in self._by_event.get(topic, ())), default=0)

    def route(self, read: ReadEvent) -> Routed:
        """Find what `read` leads to. Triggers whose start lies behind the event do not see it."""
        routed = Routed()
        event = read.event
        triggers = self._by_event.get(event.name, ())
        if len(triggers) > bounds.MATCHES_PER_EVENT_MAX:
            message = f"{len(triggers)} triggers wait for {event.name}; {bounds.MATCHES_PER_EVENT_MAX} is the most"
            routed.rejected.append(Rejected(None, Reason.TOO_MANY_MATCHES, message))
            return routed
        seen: dict[str, Any] | None = None
        with_headers: Event | None = None
        for trigger in self._candidates_for(event.name).of(read.fields, routed.counts):
            if event.offset < trigger.starts.get(event.name, {}).get(event.partition, 0):
                continue
            if seen is None:
                seen = variables(event, read.fields, read.headers)
            carried = event
            if trigger.reads_headers:
                with_headers = carried = with_headers or _with_headers(read)
            _match(trigger, carried, seen, routed)
        return routed

    def _candidates_for(self, event: str) -> Candidates[CompiledTrigger]:
        candidates = self._candidates.get(event)
        if candidates is None:
            waiting = self._by_event.get(event, ())
            candidates = Candidates((trigger.comparison(event), trigger) for trigger in waiting)
            self._candidates[event] = candidates
        return candidates


def _with_headers(read: ReadEvent) -> Event:
    event = read.event
    return Event(event.id, event.name, event.time_ms, event.partition, event.offset, event.payload, read.headers)


def _match(trigger: CompiledTrigger, event: Event, seen: dict[str, Any], routed: Routed) -> None:
    # An event is used once for each trigger, and keys are joined apart from each other: so it goes to one key only, the
    # first that it gives, and beside that fills the dependencies that agree on it.
    first_key: str | None = None
    passed_indexes: list[int] = []
    for dependency in trigger.by_event[event.name]:
        missing = next((field for field in dependency.requires if field not in seen["event"]), None)
        if missing is not None:
            routed.count("missing_field")
            message = f"the payload has no field {missing}, which a required parameter needs"
            routed.rejected.append(Rejected(trigger.definition.trigger, Reason.MISSING_FIELD, message))
            continue
        passed = _passed(dependency, seen)
        if passed is not True:
            routed.count("filter_failed" if isinstance(passed, Failed) else "filtered")
            continue
        if not trigger.joins:
            routed.firings.append(firing_of(trigger.definition, "", (event,)))
            return
        key = _key(dependency, seen, period(trigger.resets, event.time_ms))
        if isinstance(key, Failed):
            routed.rejected.append(Rejected(trigger.definition.trigger, Reason.BAD_KEY, key.message))
            continue
        if first_key is None or key == first_key:
            first_key = key
            passed_indexes.append(dependency.index)
    if first_key is not None:
        routed.matches.append(Match(trigger.definition, event, tuple(passed_indexes), first_key))


def _passed(dependency: _Dependency, seen: dict[str, Any]) -> Any | Failed:
    if dependency.filter is None:
        return True
    comparison = dependency.comparison
    if comparison is not None and comparison.is_all and comparison.holds(field_at(seen["event"], comparison.path)):
        return True
    return dependency.filter.evaluate(seen)


def _key(dependency: _Dependency, seen: dict[str, Any], since: str) -> str | Failed:
    """Return the key, as canonical JSON; the period between resets is part of it, where there is one."""
    if dependency.key is None:
        return canonical({"since": since}) if since else ""
    value = dependency.key.evaluate(seen)
    if isinstance(value, Failed):
        return Failed(f"the key {dependency.key.text!r} cannot be evaluated: {value.message}")
    if value is None:
        return Failed(f"the key {dependency.key.text!r} is null")
    try:
        text = canonical({"key": value, "since": since} if since else value)
    except TypeError as error:
        return Failed(f"the key {dependency.key.text!r} is no JSON value: {error}")
    if len(text.encode()) > bounds.KEY_BYTES_MAX:
        return Failed(
            f"the key {dependency.key.text!r} has {len(text.encode())} bytes; {bounds.KEY_BYTES_MAX} is the most"
        )
    return text
