"""The join's Faust edge against a real Kafka, with a toy stage in processes that are killed, stopped and joined."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from headrace.edges.faust_app import EXIT_STATUS
from tests.support.join_run import PARTITIONS, JoinRun
from tests.support.join_worker import POISON
from tests.support.kafka import KafkaServer

pytest_plugins = ["tests.system.kafka_fixtures"]


@pytest.fixture
def run(kafka: KafkaServer, topic_prefix: str, tmp_path: Path) -> Iterator[JoinRun]:
    yield JoinRun(kafka.bootstrap_servers, topic_prefix, tmp_path)


def test_a_killed_worker_is_replaced_and_nothing_is_lost_or_applied_twice(run: JoinRun) -> None:
    run.create_topics()
    with run.feeding(), run.worker() as first:
        run.wait_until_committed(lambda committed: min(committed.values()) > 0)
        first.signal(signal.SIGKILL)
        assert first.wait_until_it_ends() == -signal.SIGKILL
    # The committed offsets lie behind what the first has written, so the second meets frames that are done.
    with run.worker(resumes_from_state=False) as second:
        second.wait_until_it_holds(PARTITIONS)
        run.wait_until_all_is_committed()
        second.stop()
    run.assert_exact()


def test_after_a_clean_stop_nothing_is_replayed(run: JoinRun) -> None:
    run.create_topics()
    with run.feeding(), run.worker() as first:
        run.wait_until_committed(lambda committed: min(committed.values()) > 0)
        first.stop()
    # Only the committed offsets say where the second one goes on, so it would see what the first left uncommitted.
    with run.worker(resumes_from_state=False) as second:
        run.wait_until_all_is_committed()
        second.stop()
        assert not [facts for facts in second.said if "replayed" in facts]
    run.assert_exact()
    outputs = run.outputs()
    assert len(outputs) == len(set(outputs))


def test_workers_share_the_partitions_and_take_them_over_with_their_states(run: JoinRun) -> None:
    run.create_topics()
    with run.worker() as first, run.worker() as second:
        with run.feeding():
            first.wait_until_it_holds(PARTITIONS // 2)
            second.wait_until_it_holds(PARTITIONS // 2)
            shared_at = run.committed()
            run.wait_until_committed(lambda committed: all(committed[p] > shared_at[p] for p in committed))
            seen = len(second.said)
            first.stop()
        second.wait_until_it_holds(PARTITIONS, after=seen)
        run.wait_until_all_is_committed()
        second.stop()
    run.assert_exact()


def test_a_frozen_worker_that_lost_its_partitions_ends_without_writing(run: JoinRun) -> None:
    run.create_topics()
    with run.worker() as zombie:
        with run.feeding():
            run.wait_until_committed(lambda committed: min(committed.values()) > 0)
            zombie.signal(signal.SIGSTOP)
        with run.worker() as heir:
            heir.wait_until_it_holds(PARTITIONS)
            run.wait_until_all_is_committed()
            written = run.ends("outputs"), run.ends("changelog")
            zombie.signal(signal.SIGCONT)
            assert zombie.wait_until_it_ends() == EXIT_STATUS
            heir.stop()
        assert (run.ends("outputs"), run.ends("changelog")) == written
    run.assert_exact()


def test_a_commit_never_passes_a_changelog_record_that_was_not_delivered(run: JoinRun) -> None:
    run.create_topics(changelog={"max.message.bytes": "2000"})
    run.send(0, "small")
    with run.worker() as worker:
        run.wait_until_all_is_committed()
        # The outputs topic takes this key, the changelog does not.
        run.send(0, "x" * 4000)
        run.send(0, "small")
        assert worker.wait_until_it_ends() == EXIT_STATUS
        assert "Message size too large" in worker.log_tail()
    assert run.committed()[0] == 1
    # Nothing landed behind the gap: a recovery would take it for whole.
    assert run.changelog()[0] == {"small": 1, "partition": 0}


def test_an_exception_in_a_frame_ends_the_process_and_the_frame_is_not_committed(run: JoinRun) -> None:
    run.create_topics()
    run.send(0, "fine")
    run.send(0, POISON)
    run.send(0, "later")
    with run.worker() as worker:
        assert worker.wait_until_it_ends() == EXIT_STATUS
        assert "this frame is poisoned" in worker.log_tail()
    assert run.committed()[0] <= 1
    assert [output.key for output in run.outputs()] == ["fine"]


def test_a_changelog_that_ends_without_a_record_is_recovered(run: JoinRun) -> None:
    run.create_topics()
    run.send_many(40)
    with run.worker() as first:
        run.wait_until_all_is_committed()
        first.stop()
    # Partition 0: emptied. Partition 1: the last offset is a transaction's marker. Faust waits for ever on those.
    changelog = run.topic("changelog")
    end = run.ends("changelog")[0]
    run.set_cleanup_policy(changelog, "compact,delete")
    run.delete_records_before(changelog, 0, end)
    run.set_cleanup_policy(changelog, "compact")
    writer = Producer({"bootstrap.servers": run.bootstrap_servers, "transactional.id": run.topic("marker")})
    writer.init_transactions()
    writer.begin_transaction()
    writer.produce(changelog, b"1", b"added", partition=1)
    writer.commit_transaction()
    with run.worker(resumes_from_state=False) as second:
        counts = second.wait_until_it_holds(PARTITIONS)["counts"]
        assert counts["0"] == {}
        assert counts["1"] == {**run.expected[1], "added": 1}
        assert counts["2"] == run.expected[2]
        second.stop()


def test_frames_deleted_before_they_were_applied_end_the_process(run: JoinRun) -> None:
    run.create_topics()
    run.send_many(40)
    with run.worker() as first:
        run.wait_until_all_is_committed()
        first.stop()
    run.send_many(40)
    matches = run.topic("matches")
    run.delete_records_before(matches, 2, run.ends("matches")[2])
    with run.worker() as second:
        assert second.wait_until_it_ends() == EXIT_STATUS
        assert f"partition 2 of topic {matches} holds frames" in second.log_tail()
    assert run.committed()[2] == 10
