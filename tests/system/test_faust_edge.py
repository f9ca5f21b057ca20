"""The join's Faust edge against a real Kafka, with a toy stage in processes that are killed, stopped and joined."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from headrace.edges.faust.app import EXIT_STATUS
from headrace.edges.faust.fence import Fence
from headrace.edges.faust.fenced_producer import FencedProducer
from headrace.edges.faust.sequels import Outgoing
from tests.support.join_run import PARTITIONS, JoinRun
from tests.support.join_worker import GATE, POISON
from tests.support.kafka import KafkaServer, SecureKafka, wait_until


@pytest.fixture
def run(kafka: KafkaServer, topic_prefix: str, tmp_path: Path) -> JoinRun:
    return JoinRun({"bootstrap.servers": kafka.bootstrap_servers}, topic_prefix, tmp_path)


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


def test_a_stop_amid_a_commit_commits_what_was_done_since(run: JoinRun) -> None:
    run.create_topics()
    run.send_many(PARTITIONS)
    with run.worker(holds_an_answer=True) as worker:
        run.wait_until_all_is_committed()
        run.send_many(40)
        worker.wait_until_said(lambda facts: "held" in facts)
        run.send_many(2 * PARTITIONS)
        wait_until(lambda: len(run.outputs()) == 2 * (PARTITIONS + 40 + 2 * PARTITIONS), "all frames are applied")
        worker.stop()
    assert run.committed() == run.ends("matches")
    run.assert_exact()


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


def test_a_worker_that_is_stopped_amid_a_rebalance_ends_without_a_complaint(run: JoinRun) -> None:
    run.create_topics()
    with run.worker() as first:
        first.wait_until_it_holds(PARTITIONS)
        seen = len(first.said)
        with run.worker() as second:
            first.wait_until_said(lambda facts: facts.get("recovered") is False, after=seen)
            first.stop()
            assert "Traceback" not in first.log_tail()
            second.wait_until_it_holds(PARTITIONS)
            second.stop()


def test_a_frozen_worker_that_lost_its_partitions_ends_without_writing(run: JoinRun) -> None:
    run.create_topics()
    run.send_many(40)
    with run.worker(waits_at_gate=True) as zombie:
        run.wait_until_all_is_committed()
        # It has decided nothing about this frame yet, and goes on with it as soon as it is thawed.
        run.send(0, GATE)
        zombie.wait_until_said(lambda facts: "waiting" in facts)
        zombie.signal(signal.SIGSTOP)
        with run.worker() as heir:
            heir.wait_until_it_holds(PARTITIONS)
            run.wait_until_all_is_committed()
            written = run.ends("outputs"), run.ends("changelog")
            zombie.signal(signal.SIGUSR1)
            zombie.signal(signal.SIGCONT)
            assert zombie.wait_until_it_ends() == EXIT_STATUS
            heir.stop()
        assert (run.ends("outputs"), run.ends("changelog")) == written
    run.assert_exact()


def test_a_commit_never_passes_a_changelog_record_that_was_not_delivered(run: JoinRun) -> None:
    run.create_topics()
    run.send(0, "before")
    with run.worker() as worker:
        run.wait_until_all_is_committed()
        # The producer tries again for a while, so the changelog's records stay undelivered while the outputs pass, and
        # more than one commit comes due before it gives up.
        run.delete_topic("changelog")
        run.send_many(40)
        assert worker.wait_until_it_ends() == EXIT_STATUS
    assert len(run.outputs()) > 1
    assert run.committed() == {0: 1, 1: 0, 2: 0, 3: 0}


async def test_a_commit_waits_for_what_follows_a_delivery_too(run: JoinRun, kafka: KafkaServer) -> None:
    run.create_topics()
    failures: list[BaseException] = []
    fence = Fence(60.0)
    fence.renew(fence.now_s())
    client = {"bootstrap.servers": kafka.bootstrap_servers}
    producer = FencedProducer(client, fence=fence, delivery_timeout_s=30.0, fail=failures.append)
    await producer.start((run.topic("outputs"), run.topic("changelog")))
    firings = producer.send(run.topic("outputs"), 0, b"firing", b"1 0")
    producer.send_after(firings, [Outgoing(run.topic("changelog"), 0, b"head", b"1")])
    assert not firings.done()
    await producer.barrier()
    assert producer.outstanding_records == 0
    assert run.changelog()[0] == {"head": 1}
    await producer.stop()
    assert failures == []


def test_behind_a_changelog_record_that_was_refused_nothing_is_written(run: JoinRun) -> None:
    run.create_topics(changelog={"max.message.bytes": "2000"})
    run.send(0, "small")
    with run.worker() as worker:
        run.wait_until_all_is_committed()
        # The outputs topic takes this key, the changelog does not.
        run.send(0, "x" * 4000)
        run.send(0, "small")
        assert worker.wait_until_it_ends() == EXIT_STATUS
        assert "Message size too large" in worker.log_tail()
    assert run.committed()[0] <= 1
    # A recovery would take a changelog with a gap for whole.
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
    run.configure(changelog, "cleanup.policy", "compact,delete")
    run.delete_records_before(changelog, 0, run.ends("changelog")[0])
    run.configure(changelog, "cleanup.policy", "compact")
    run.send_in_transaction("changelog", 1, b"added", b"1")
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


def test_a_gap_between_frames_ends_the_process(run: JoinRun) -> None:
    run.create_topics()
    run.send(0, "first")
    with run.worker() as worker:
        run.wait_until_all_is_committed()
        # The transaction's marker takes offset 2, so that the frames' offsets are 0, 1 and 3.
        run.send_in_transaction("matches", 0, None, b'["second"]')
        run.send(0, "third")
        assert worker.wait_until_it_ends() == EXIT_STATUS
        assert "jumps from offset 2 to 3" in worker.log_tail()
    # The frame before the gap is finished, though it was read together with what lies behind; that is not begun.
    assert [output.key for output in run.outputs()] == ["first", "second"]


def test_it_connects_with_tls_and_a_password(secure_kafka: SecureKafka, topic_prefix: str, tmp_path: Path) -> None:
    run = JoinRun(secure_kafka.client_properties(), topic_prefix, tmp_path)
    run.create_topics()
    run.send_many(4)
    with run.worker() as worker:
        run.wait_until_all_is_committed()
        worker.stop()
    run.assert_exact()
