"""Names, firings and their runs."""

from __future__ import annotations

from tests.mutations.mutation import FEW, MANY, SOME, Mutation, Test

SUBMISSION = (
    # Names and firings.
    Mutation(
        "a Workflow's name differs at each try",
        "9",
        "stages/workflow.py",
        "{firing_id[:_HASH_CHARACTERS]}",
        "{hashlib.sha256(__import__('os').urandom(9)).hexdigest()[:_HASH_CHARACTERS]}",
        FEW,
    ),
    Mutation(
        "a firing's id differs at each decision",
        "9",
        "model/firing.py",
        "orjson.dumps([definition.trigger, definition.creation, replay, pairs])",
        "orjson.dumps([definition.trigger, definition.creation, replay, pairs, __import__('os').urandom(9).hex()])",
        SOME,
    ),
    Mutation(
        "a Workflow of that name counts as ours, whoever made it",
        "9",
        "roles/attempt.py",
        "if owner == firing.id:",
        "if owner is None or owner:",
        Test("tests/system/test_workflows.py::test_a_workflow_of_that_name_made_by_somebody_else_is_no_success"),
    ),
    Mutation(
        "a Workflow that exists already is refused",
        "5",
        "roles/attempt.py",
        "                return await self._existing(firing, made.namespace, made.name, parameters)",
        "                return Refusal(Reason.NAME_TAKEN, message)",
        FEW,
    ),
    # Submission.
    Mutation(
        "offsets of a lost partition are stored once it is taken again",
        "5",
        "roles/firing_feed.py",
        "            self._released.pop(at.partition, None)\n",
        "",
        MANY,
    ),
    Mutation(
        "no ledger: the firings of the last 24 h are forgotten",
        "5",
        "roles/ledger.py",
        "            for message in read_to_end(client, [start]):",
        "            for message in ():",
        SOME,
    ),
    Mutation(
        "a former owner's queued undoes started",
        "5",
        "model/run.py",
        "before is RunState.STARTED and not self.is_local",
        "before is RunState.STARTED and self.is_local",
        MANY,
    ),
    Mutation(
        "a waiting firing is not written down",
        "5",
        "roles/submit.py",
        "changed = not retried or held.why is not why",
        "changed = False",
        FEW,
    ),
    Mutation(
        "what waited is not taken over",
        "5",
        "roles/ledger.py",
        "        ledger.queued[firing_id] = run",
        "        pass",
        SOME,
    ),
    Mutation(
        "a quota's 403 counts as a refusal for good",
        "5",
        "stages/workflow.py",
        "if status in (401, 403, 408, 409, 429)",
        "if status in (401, 408, 409, 429)",
        FEW,
    ),
)
