"""The judge: hears of everything that becomes durable, and compares it with what was published.

Sharing no code with stages and roles, it reads the records' JSON itself, asks the rules and the referee what should
come of each event, and complains as soon as something else does. The order of the log of matches decides joins, so
that log is taken as it lies; that it holds exactly what was published is judged from the event topics.
"""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from dataclasses import dataclass
from typing import Any

import orjson

from tests.simulation.log import Entry, TopicPartition
from tests.simulation.process import Process
from tests.simulation.referee import Referee
from tests.simulation.rules import Published, Rule
from tests.simulation.world import NAMES, World

Position = tuple[str, int, int]
SetOfEvents = tuple[str, str, tuple[str, ...]]
"""Trigger, key, and the events' ids in the order of the dependencies."""


class Violation(Exception):
    """Something happened that must not."""


@dataclass(frozen=True, slots=True)
class Complete:
    """A complete set of events, and the rule by which it is complete."""

    rule: Rule
    key: str
    events: tuple[Published, ...]

    @property
    def identity(self) -> SetOfEvents:
        """What makes it this set and no other."""
        return (self.rule.name, self.key, tuple(event.id for event in self.events))


class Judge:
    """Judges one scenario."""

    def __init__(self, world: World, lateness_ms: int) -> None:
        self._world = world
        self._lateness_ms = lateness_ms
        self.violation: str | None = None
        self.violated = asyncio.Event()
        self.stalled = False
        """Whether the author of ticks ever left a partition out; then events may be late that were not."""
        self.published: dict[Position, Published] = {}
        self.rules: dict[tuple[str, int], Rule] = {}
        self.current: dict[str, Rule] = {}
        self.wanted_from: dict[str, int | None] = {}
        """Trigger -> when its deployment had returned, milliseconds; None before that."""
        self.redefined: set[str] = set()
        self.referees = [Referee(lateness_ms) for _ in range(world.log.counts[NAMES.matches])]
        self.complete: dict[SetOfEvents, Complete] = {}
        self.firings: dict[str, SetOfEvents] = {}
        self.firing_ids: dict[SetOfEvents, str] = {}
        self.matched: set[tuple[Position, str]] = set()
        self.letters: set[tuple[Position, str | None, str]] = set()
        self.runs: dict[str, list[str]] = {}
        self.created_by_set: Counter[SetOfEvents] = Counter()
        self.outcomes: Counter[str] = Counter()
        self._owed: dict[int, list[tuple[int, SetOfEvents | tuple[Position, str | None, str]]]] = {}
        self._checked: dict[tuple[str, TopicPartition], int] = {}
        self._durable: dict[int, int] = {}

    def complain(self, what: str) -> None:
        """Note the first violation."""
        if self.violation is None:
            self.violation = what
            self.violated.set()
            self._world.trace("JUDGE", what)

    # What is durable.

    def appended(self, entry: Entry) -> None:
        """Hear of a record."""
        match entry.topic:
            case NAMES.matches:
                self._read_matches(entry)
            case NAMES.firings:
                self._read_firing(orjson.loads(entry.value or b""))
            case NAMES.dead_letters:
                self._read_letter(orjson.loads(entry.value or b""))
            case NAMES.runs:
                run = orjson.loads(entry.value or b"")
                self.runs.setdefault(run["firing"], []).append(run["state"])
            case NAMES.joins:
                if entry.key == b"p":
                    self._durable[entry.partition] = orjson.loads(entry.value or b"")["offset"]

    def _read_matches(self, entry: Entry) -> None:
        record = orjson.loads(entry.value or b"")
        referee = self.referees[entry.partition]
        if record["kind"] == "tick":
            referee.tick(record["time_ms"])
            return
        owed = self._owed.setdefault(entry.partition, [])
        for definition_index, event_index, places, key in record["matches"]:
            definition, row = record["definitions"][definition_index], record["events"][event_index]
            rule = self.rules[(definition["trigger"], definition["generation"])]
            event = self.published[(row[1], row[3], row[4])]
            self._check_match(rule, event, row, tuple(places), key)
            is_first = (event.position, rule.name) not in self.matched
            self.matched.add((event.position, rule.name))
            outcome = referee.arrive(rule, event, tuple(places), key)
            self.outcomes[outcome.kind] += 1
            if outcome.kind == "fires":
                complete = Complete(rule, key, outcome.events)
                self.complete[complete.identity] = complete
                owed.append((entry.offset, complete.identity))
            elif outcome.kind == "late":
                owed.append((entry.offset, (event.position, rule.name, "late")))
                if is_first:
                    # A router that took over may route an event once more, long after it has counted.
                    self._check_late(rule, event)

    def _check_match(self, rule: Rule, event: Published, row: list[Any], places: tuple[int, ...], key: str) -> None:
        if (
            event.unusable is not None
            or not rule.counts(event)
            or places != rule.places(event)
            or not rule.joins
            or key != rule.key_of(event)
        ):
            self.complain(f"a match of {rule.name} that must not be: {row} at places {places} under key {key!r}")
        if (row[0], row[2], orjson.loads(row[5])) != (event.id, event.time_ms, event.payload):
            self.complain(f"an event was altered on its way: {row}, published as {event}")

    def _check_late(self, rule: Rule, event: Published) -> None:
        if not self.stalled and event.time_ms >= event.appended_ms - self._lateness_ms // 2:
            self.complain(f"{event.id} counts as late for {rule.name}, though it was published in time")

    def _read_firing(self, firing: dict[str, Any]) -> None:
        definition = firing["definition"]
        rule = self.rules[(definition["trigger"], definition["generation"])]
        events = tuple(self.published[(row[1], row[3], row[4])] for row in firing["events"])
        identity: SetOfEvents = (rule.name, firing["key"], tuple(row[0] for row in firing["events"]))
        if not rule.joins and rule.places(events[0]) and events[0].unusable is None and rule.counts(events[0]):
            self.matched.add((events[0].position, rule.name))
            self.complete.setdefault(identity, Complete(rule, "", events))
        if identity not in self.complete:
            self.complain(f"a firing without a complete set: {identity}")
        held = self.firings.setdefault(firing["id"], identity)
        known = self.firing_ids.setdefault(identity, firing["id"])
        if held != identity or known != firing["id"]:
            self.complain(f"firing {firing['id']} of {identity}: also {known} of {held}")

    def _read_letter(self, letter: dict[str, Any]) -> None:
        position = (letter["topic"], letter["partition"], letter["offset"])
        trigger = letter.get("trigger")
        if letter["kind"] == "firing":
            firing = orjson.loads(base64.b64decode(letter["value"]))["id"]
            complete = self.complete.get(self.firings.get(firing, ("", "", ())))
            if complete is None or complete.rule.refusal(complete.events) != letter["reason"]:
                self.complain(f"a firing was refused that should run: {letter['reason']}: {letter['message']}")
        else:
            event = self.published[position]
            rule = self.current.get(trigger or "")
            bad_key = rule is not None and rule.joins and bool(rule.places(event)) and rule.key_of(event) is None
            expected = event.unusable or ("bad-key" if bad_key else "late")
            if letter["reason"] != expected:
                self.complain(f"{event} was set aside as {letter['reason']} for {trigger}, not {expected}")
        self.letters.add((position, trigger, letter["reason"]))

    # What must not happen at a moment.

    def writes(self, process: Process, at: TopicPartition) -> None:
        """A record of a process becomes durable: no join may write to the state of another."""
        if at[0] != NAMES.joins:
            return
        owner = self._world.groups[NAMES.group("join")].owner((NAMES.matches, at[1]))
        if owner is not None and owner != process.name:
            self.complain(f"{process.name} writes to {at[0]}:{at[1]}, which is {owner}'s")

    def committed(self, role: str, at: TopicPartition, offset: int) -> None:
        """A group's offset moves: everything before it must be finished."""
        begin = self._checked.get((role, at), 0)
        self._checked[(role, at)] = max(begin, offset)
        if offset < begin:
            self.complain(f"{role} takes the offset of {at} back from {begin} to {offset}")
        match role:
            case "route" if at[0] != NAMES.progress:
                for number in range(begin, offset):
                    self.check_routed(self.published[(*at, number)], "committed")
            case "join":
                if self._durable.get(at[1], -1) < offset - 1:
                    self.complain(f"{at} is committed up to {offset}, but the changelog is not there yet")
                owed = self._owed.setdefault(at[1], [])
                while owed and owed[0][0] < offset:
                    _, what = owed.pop(0)
                    if what not in self.firing_ids and what not in self.letters:
                        self.complain(f"{at} is committed up to {offset}, but this is nowhere: {what}")
            case "submit":
                for entry in self._world.log.of(*at)[begin:offset]:
                    firing = (entry.key or b"").decode()
                    if firing not in self.runs:
                        self.complain(f"{at} is committed up to {offset}, but firing {firing} has no run")

    def check_routed(self, event: Published, when: str) -> None:
        """Everything that an event leads to must be durable."""
        for rule in self.current.values():
            wanted_ms = self.wanted_from[rule.name]
            wanted = wanted_ms is not None and event.appended_ms >= wanted_ms and rule.waits_for(event.topic)
            if wanted and event.unusable is not None:
                if (event.position, None, event.unusable) not in self.letters:
                    self.complain(f"{event.position} was {when}, but has no dead letter ({event.unusable})")
                return
            if not wanted or not rule.places(event):
                continue
            bad_key = rule.joins and rule.key_of(event) is None
            if bad_key and (event.position, rule.name, "bad-key") not in self.letters:
                self.complain(f"{event.position} was {when}, but has no dead letter for {rule.name} (bad-key)")
            if not bad_key and (event.position, rule.name) not in self.matched:
                self.complain(f"{event.position} was {when}, but {rule.name} never got it")

    def has_ended(self, firing: str) -> bool:
        """Whether a firing became a run or was refused; what a former owner still says of it then changes nothing."""
        return not {"started", "refused"}.isdisjoint(self.runs.get(firing, ()))

    def created(self, workflow: dict[str, Any]) -> None:
        """A Workflow comes into being."""
        metadata = workflow["metadata"]
        identity = self.firings.get(metadata["annotations"]["headrace.dev/firing"])
        if identity is None or identity not in self.complete:
            self.complain(f"Workflow {metadata['name']} runs for no complete set")
            return
        complete = self.complete[identity]
        self.created_by_set[identity] += 1
        if self.created_by_set[identity] > 1:
            self.complain(f"a second Workflow was created for {identity}: {metadata['name']}")
        if complete.rule.refusal(complete.events) is not None:
            self.complain(f"Workflow {metadata['name']} should have been refused")
        got = {p["name"]: p["value"] for p in workflow["spec"]["arguments"]["parameters"]}
        expected = complete.rule.parameters(complete.events)
        if got != expected:
            self.complain(f"Workflow {metadata['name']} got the parameters {got}; these are right: {expected}")
