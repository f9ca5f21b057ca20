"""The order of effects in route and join, and who may write."""

from __future__ import annotations

from tests.mutations.mutation import FEW, MANY, Mutation, Test

_EDGE = "tests/system/test_faust_edge.py::"

EFFECTS = (
    # Commits.
    Mutation(
        "a late turn takes a lost partition's offset back",
        "1",
        "roles/route.py",
        "            self._outbox.forget((at.topic, at.partition))\n",
        "",
        MANY,
    ),
    Mutation(
        "route commits what is not delivered",
        "1",
        "roles/turns.py",
        "while self._closed and self._closed[0].outstanding == 0:",
        "while self._closed:",
        FEW,
    ),
    Mutation(
        "a turn ends before the one ahead of it",
        "1",
        "roles/turns.py",
        "            ended.append(self._closed.popleft())",
        "            ended.append(self._closed.popleft())\n"
        "        for turn in [t for t in self._closed if t.outstanding == 0]:\n"
        "            self._closed.remove(turn)\n            ended.append(turn)",
        MANY,
    ),
    Mutation(
        "submit commits past a firing still under way (Faust's #606)",
        "5",
        "roles/handover.py",
        "return None if moved is None else moved + 1",
        "return offset + 1",
        FEW,
    ),
    Mutation(
        "the join commits before its changelog is delivered (Faust's #606)",
        "1",
        "edges/faust/consumer.py",
        "                await self.app.join.producer.barrier()\n",
        "",
        Test(_EDGE + "test_a_commit_never_passes_a_changelog_record_that_was_not_delivered"),
    ),
    Mutation(
        "the join commits before the changes are sent that follow its firings",
        "1",
        "edges/faust/fenced_producer.py",
        "        await self._sequels.all_sent()\n",
        "",
        Test(_EDGE + "test_a_commit_waits_for_what_follows_a_delivery_too"),
    ),
    Mutation(
        "a drain forgets the commit that it has waited for",
        "1",
        "edges/faust/consumer.py",
        "        elif accepted:",
        "        elif False:",
        Test(_EDGE + "test_a_stop_amid_a_commit_commits_what_was_done_since"),
    ),
    Mutation(
        "a frame that raised is skipped (Faust's #315)",
        "2",
        "edges/faust/app.py",
        "                await self._join.fail_behind(error)\n                raise\n",
        "                log.error('skipped: %s', error)\n",
        Test(_EDGE + "test_an_exception_in_a_frame_ends_the_process_and_the_frame_is_not_committed"),
    ),
    Mutation(
        "a firing's offset is released before it ended",
        "5",
        "roles/submit.py",
        "            await self._submit(held, retried=False)",
        "            self._feed.done(partition, offset)\n            await self._submit(held, retried=False)",
        FEW,
    ),
    # The order of effects in the join.
    Mutation(
        "the changelog does not wait for the firings",
        "1",
        "roles/join.py",
        "after=delivered)",
        "after=None)",
        MANY,
    ),
    Mutation(
        "a record's changes overtake those of the one before",
        "1",
        "edges/faust/sequels.py",
        "        if not self._waiting and _has_come(after):",
        "        if _has_come(after):",
        MANY,
    ),
    Mutation(
        "the partition's record comes before the heads",
        "1",
        "stages/join.py",
        "        changes: list[Change] = []\n        for name, head in changed.items():",
        "        changes: list[Change] = [partition_change(self.offset, self.time_ms)]\n"
        "        for name, head in changed.items():",
        MANY,
    ),
    Mutation(
        "a head forgets the ids it has used",
        "1",
        "stages/changelog.py",
        'record["used"] = [[identity, used.times[identity]] for identity in used.open_ids]',
        'record["used"] = []',
        MANY,
    ),
    Mutation(
        "an event may be used twice",
        "1",
        "stages/head.py",
        "        self.used.add(event)",
        "        self.used.newest_ms = event.time_ms",
        FEW,
    ),
    Mutation(
        "heads are tombstoned before their frame is known as applied",
        "1",
        "stages/join.py",
        "            changes.extend(own)",
        "            changes.extend(own)\n            changes.append(head_tombstone(head))",
        MANY,
    ),
    # Zombies.
    Mutation(
        "the fence never expires",
        "2",
        "edges/faust/fence.py",
        "        if age_s > self._lifetime_s:",
        "        if age_s > 1e9:",
        MANY,
    ),
    Mutation(
        "writes outlive the session",
        "2",
        "edges/faust/timing.py",
        "            delivery_s=delivery_s,",
        "            delivery_s=delivery_s * 10,",
        MANY,
    ),
    Mutation(
        "a gap in the frames is passed over",
        "3",
        "stages/join.py",
        "if self.offset >= 0 and offset != self.offset + 1:",
        "if self.offset > offset:",
        Test("tests/unit/stages/test_join.py::test_a_gap_in_the_log_is_an_error_and_changes_nothing"),
    ),
)
