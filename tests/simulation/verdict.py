"""The verdict, once faults have stopped and everything is drained: nothing lost, nothing doubled, all accounted for."""

from __future__ import annotations

from collections import defaultdict

from headrace.model.frame import Frame
from headrace.stages.join import JoinState
from tests.simulation.judge import Judge, SetOfEvents
from tests.simulation.rules import Published, Rule
from tests.simulation.world import NAMES, World

_IN_TIME_MS = 8_000
_NOTHING = Frame(())


def unfinished(world: World, judge: Judge) -> str | None:
    """Return what is still under way; None when everything is drained."""
    route, join, submit = (world.groups[NAMES.group(role)].committed for role in ("route", "join", "submit"))
    for event in judge.published.values():
        wanted = any(rule.counts(event) for rule in judge.current.values())
        if wanted and route.get((event.topic, event.partition), 0) <= event.offset:
            return f"{event.position} is not routed"
    for partition in range(world.log.counts[NAMES.matches]):
        frames = (e.offset for e in world.log.of(NAMES.matches, partition) if b'"frame"' in (e.value or b""))
        last = max(frames, default=-1)
        if join.get((NAMES.matches, partition), 0) <= last:
            return f"{NAMES.matches}:{partition}:{last} is not joined"
    for partition in range(world.log.counts[NAMES.firings]):
        if submit.get((NAMES.firings, partition), 0) < world.log.end(NAMES.firings, partition):
            return f"{NAMES.firings}:{partition} is not submitted to its end"
    waiting = next((f for f in judge.firings if not judge.has_ended(f)), None)
    return None if waiting is None else f"firing {waiting} has not ended"


def conclude(world: World, judge: Judge) -> None:
    """Judge the end of a scenario."""
    for event in judge.published.values():
        judge.check_routed(event, "drained")
    for identity, complete in judge.complete.items():
        refused = complete.rule.refusal(complete.events)
        firing = judge.firing_ids.get(identity)
        if firing is None:
            judge.complain(f"the complete set {identity} never fired")
        elif refused is None and judge.created_by_set[identity] != 1:
            judge.complain(f"the complete set {identity} has {judge.created_by_set[identity]} Workflows, not one")
        elif refused is not None and "refused" not in judge.runs[firing]:
            judge.complain(f"firing {firing} should have been refused: {refused}")
    for partition, referee in enumerate(judge.referees):
        state = JoinState(partition)
        for entry in world.log.of(NAMES.joins, partition):
            state.restore(entry.key or b"", entry.value)
        # A state takes in what it restored with the next record that it sees; an old one changes nothing.
        state.apply(-1, _NOTHING)
        if (waiting := _waiting(state, referee.time_ms)) != referee.waiting():
            judge.complain(f"in partition {partition} there wait {waiting}, but should {referee.waiting()}")
    _check_lone_sets(judge)


def _waiting(state: JoinState, time_ms: int | None) -> dict[tuple[str, str], list[str]]:
    """Ids of what waits in a state and has not expired; the last ticks may not have reached it."""
    result = {}
    for head in state.heads.values():
        before_ms = time_ms - head.horizon_ms if time_ms is not None else None
        ids = [e.id for events in head.pending for e in events if before_ms is None or e.time_ms >= before_ms]
        if ids:
            result[(head.trigger, head.key)] = sorted(ids)
    return result


def _check_lone_sets(judge: Judge) -> None:
    """Judge from the event topics alone: a set that shares its key with nothing else has run, whatever the log says."""
    for rule in judge.current.values():
        wanted_ms = judge.wanted_from[rule.name]
        if not rule.joins or not rule.keyed or wanted_ms is None or rule.name in judge.redefined or judge.stalled:
            continue
        by_key: dict[str, list[Published]] = defaultdict(list)
        for event in judge.published.values():
            if event.unusable is None and rule.places(event) and (key := rule.key_of(event)) is not None:
                by_key[key].append(event)
        for key, events in by_key.items():
            identity = _lone_set(rule, key, events, wanted_ms)
            if identity is not None and identity not in judge.firing_ids:
                judge.complain(f"the lone set {identity} never fired")
            judge.outcomes["lone sets"] += identity is not None


def _lone_set(rule: Rule, key: str, events: list[Published], wanted_ms: int) -> SetOfEvents | None:
    """Return the one set that all events under a key make, in whatever order and by whichever copies they are read."""
    by_topic = {event.topic: event.id for event in events}
    topics = [need.topic for need in rule.needs]
    ids = {event.id for event in events}
    if len(ids) != len(topics) or len(set(topics)) != len(topics) or set(by_topic) != set(topics):
        return None
    times = [event.time_ms for event in events]
    in_time = all(event.time_ms >= event.appended_ms - _IN_TIME_MS for event in events)
    fresh = all(event.appended_ms >= wanted_ms for event in events)
    if not in_time or not fresh or max(times) - min(times) > rule.window_ms:
        return None
    return (rule.name, key, tuple(by_topic[topic] for topic in topics))
