"""What is decided: the meaning of a trigger, time, deployments."""

from __future__ import annotations

from tests.mutations.mutation import FEW, MANY, SOME, Mutation, Test

DECISIONS = (
    # What a trigger means.
    Mutation(
        "the window ends a millisecond early",
        "semantics",
        "stages/select.py",
        "if max(times) - min(times) <= window_ms else None",
        "if max(times) - min(times) < window_ms else None",
        FEW,
    ),
    Mutation(
        "the window ends a millisecond late",
        "semantics",
        "stages/select.py",
        "    near = [_within(events, event.time_ms, window_ms) for events in pending]",
        "    window_ms += 1\n    near = [_within(events, event.time_ms, window_ms) for events in pending]",
        SOME,
    ),
    Mutation(
        "latest keeps the older events of a set",
        "semantics",
        "stages/join.py",
        "dropped = [other for other in events if other.order <= event.order]",
        "dropped = [] if index == place else [event]",
        FEW,
    ),
    Mutation(
        "an event fills the first place, not the emptiest",
        "semantics",
        "stages/select.py",
        "return min(passed, key=lambda index: (_count_within(pending[index], event.time_ms, window_ms), index))",
        "return passed[0]",
        FEW,
    ),
    Mutation(
        "fields of the payload win over constants",
        "semantics",
        "stages/bind.py",
        "        values.update(firing.definition.constants)",
        "        values = {**firing.definition.constants, **values}",
        SOME,
    ),
    Mutation(
        "payload text becomes a template",
        "semantics",
        "stages/bind.py",
        'if from_payload and "{{" in plain:',
        'if from_payload and "{{{{" in plain:',
        FEW,
    ),
    Mutation(
        "an event's id is not read",
        "identity",
        "stages/read.py",
        'headers.get("ce_id") or "", None',
        '"", None',
        FEW,
    ),
    # Time.
    Mutation(
        "ticks move join time backwards",
        "4",
        "stages/join.py",
        "if self.time_ms is None or tick.time_ms > self.time_ms:",
        "if True:",
        MANY,
    ),
    Mutation(
        "join time runs ahead of partitions that are behind",
        "4",
        "stages/progress.py",
        "least = min(least, report[0] if report[1] is None else report[1])",
        "least = min(least, report[0])",
        SOME,
    ),
    Mutation(
        "lateness does not count",
        "4",
        "model/definition.py",
        "return self.window_ms + self.lateness_ms",
        "return self.window_ms",
        FEW,
    ),
    # Deployments.
    Mutation(
        "events from before a deployment count",
        "6",
        "stages/route.py",
        "if event.offset < trigger.starts.get(event.name, {}).get(event.partition, 0):",
        "if event.offset < 0:",
        SOME,
    ),
    Mutation(
        "an older generation overrules a newer one",
        "7",
        "stages/join.py",
        "if definition.signature != head.signature and definition.generation < head.generation:",
        "if False:",
        Test("tests/unit/stages/test_join_redefinition.py"),
    ),
    Mutation(
        "what cannot be read is dropped without a dead letter",
        "conservation",
        "roles/route.py",
        "            self._outbox.set_aside(_letter(record, outcome, log_ms))\n",
        "",
        FEW,
    ),
    Mutation(
        "late events are dropped without a dead letter",
        "4",
        "stages/join.py",
        '        joined.counts["late"] += 1\n        _reject(',
        '        joined.counts["late"] += 1\n        (lambda *_: None)(',
        SOME,
    ),
)
