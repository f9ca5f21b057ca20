"""The role submit: each firing becomes one run, or a dead letter that says why not.

A firing's offset is released once its outcome is durable: a run that started, a run that is queued (with the firing's
bytes), or a dead letter. Whatever happens between a creation and its record, the next try meets the Workflow's name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random

from confluent_kafka import Message

from headrace.edges import metrics
from headrace.edges.local.runs import LocalRun, LocalRunNotStarted, LocalRunRefused, LocalRuns
from headrace.model import bounds
from headrace.model.dead_letter import Reason, dead_letter
from headrace.model.errors import RecordError
from headrace.model.event import Position
from headrace.model.firing import Firing
from headrace.model.run import Run, RunState
from headrace.roles.attempt import LocalFlows, Startable, Started, TargetSystem, TryAgain
from headrace.roles.complaints import Complaints
from headrace.roles.crew import Crew
from headrace.roles.firing_feed import FiringFeed, retry_of_record
from headrace.roles.health import Health
from headrace.roles.ledger import Ledger
from headrace.roles.pauses import Pauses
from headrace.roles.submit_edges import SubmitEdges, connect
from headrace.settings import Settings
from headrace.stages.bind import Refusal
from headrace.stages.outcome import letter_of, queued_run_of, run_of
from headrace.stages.waiting import Held, Waiting, Why
from headrace.stages.workflow import retry_delay_s

log = logging.getLogger(__name__)

TURN_S = 0.05
TASKS_MAX = 256
ROOM_MIN = 64
"""Firings are read in batches of at least so many, where there are so many: each reading is a change of threads."""
ROOM_WAIT_S = 0.5
API_CONNECTIONS_WARM = 32
GIVE_UP_MS = 24 * 3_600_000
"""A firing that could not start for this long becomes a dead letter."""
STOP_LOCAL_S = 10.0
LOCAL_LOGS = "runs"


class Submitter:
    """One submitter."""

    def __init__(self, edges: SubmitEdges, kubernetes: TargetSystem, local: LocalRuns, health: Health) -> None:
        """Submit to `kubernetes` and `local`."""
        self._names = edges.kafka.names
        self._clock = edges.clock
        self._complaints = Complaints(edges.clock)
        self._producer = edges.producer
        self._kubernetes = kubernetes
        self._flows = LocalFlows()
        self._local = local
        self._health = health
        self._waiting = Waiting()
        self._ledgers: dict[int, Ledger] = {}
        self._attempts: dict[str, asyncio.Future[None]] = {}
        """Attempts under way, by their firings; done when they end."""
        self._slots_reserved: set[str] = set()
        self._crew = Crew(TASKS_MAX, ROOM_MIN, edges.fail)
        self._runs: set[asyncio.Task[None]] = set()
        self._feed = FiringFeed(edges.kafka, self, edges.crossing, edges.clock)
        self._pauses = Pauses(edges.kafka, edges.crossing)

    async def run(self, stop: asyncio.Event) -> None:
        """Submit until `stop` is set; then finish what is under way and leave the group."""
        await self._producer.start((self._names.runs, self._names.dead_letters))
        await self._pauses.start()
        self._feed.start()
        self._health.ready()
        while not stop.is_set():
            # Without room the consumer is paused, which throws away what it has fetched. So that is for when the API
            # server stands still; otherwise room comes in a moment, and is waited for.
            room = await self._crew.wait_for_room(ROOM_WAIT_S)
            if len(self._waiting) >= bounds.QUEUED_FIRINGS_MAX:
                # The rest waits in Kafka. What is held is still tried below.
                room = 0
            for message in await self._feed.poll(room, TURN_S):
                self._begin(message)
            self._try_waiting()
            metrics.QUEUED.set(len(self._waiting))
            self._health.beat(self._kubernetes.problem)
        await self._stop()

    async def _stop(self) -> None:
        await self._crew.wait_for_all(timeout_s=30)
        cut_short = await self._local.stop(STOP_LOCAL_S)
        if cut_short:
            log.warning("%d local runs were ended: their runs are recorded as failed", len(cut_short))
        if self._runs:
            await asyncio.wait(self._runs, timeout=10)
        await self._producer.barrier()
        await self._feed.close()
        await self._pauses.close()
        await self._producer.stop()

    async def assigned(self, ledgers: dict[int, Ledger]) -> None:
        """Take over partitions, with what their last owners left. Called in the loop before their first firing."""
        for partition, ledger in ledgers.items():
            self._ledgers[partition] = ledger
            for run in ledger.queued.values():
                try:
                    firing = Firing.decode(run.firing_value())
                except RecordError as error:
                    log.error("the queued firing %s cannot be read: %s", run.firing, error)
                    continue
                why = Why.PAUSED if run.reason == Why.PAUSED else Why.RETRY
                self._waiting.hold(Held(firing, partition, why, 0.0, run.attempts, run.time_ms, run.time_ms))
            for run in ledger.open_local.values():
                lost = run.model_copy(
                    update={
                        "state": RunState.UNKNOWN,
                        "time_ms": self._clock.now_ms(),
                        "reason": "unseen-end",
                        "message": "the submitter ended before the local process did: look at its log",
                    }
                )
                await self._record(partition, lost)

    async def revoked(self, partitions: set[int]) -> None:
        """Give partitions back: wait for what is under way, then let go of what waits."""
        await self._crew.wait_for_all(timeout_s=15)
        for partition in partitions:
            self._ledgers.pop(partition, None)
            self._waiting.drop_partition(partition)

    def _begin(self, message: Message) -> None:
        partition, offset = message.partition(), message.offset()
        assert partition is not None and offset is not None
        self._crew.spawn(self._submit_message(message, partition, offset))

    async def _submit_message(self, message: Message, partition: int, offset: int) -> None:
        value = message.value() or b""
        retry_of = retry_of_record(message)
        try:
            firing = Firing.decode(value)
        except RecordError as error:
            position = Position(self._names.firings, partition, offset)
            letter = dead_letter(
                "record", Reason.UNREADABLE_RECORD, str(error), position, self._clock.now_ms(), value=value
            )
            await self._producer.send(self._names.dead_letters, 0, letter.id.encode(), letter.encode())
            self._feed.done(partition, offset)
            return
        # One firing may be read twice. As long as it is undecided, no offset of it must be released.
        await self._attempt_ended(firing.id)
        ledger = self._ledgers.get(partition)
        if ledger is None:
            # Given back meanwhile: its next owner reads this firing again.
            return
        if firing.id in self._waiting or ledger.is_decided(firing.id, retry=bool(retry_of)):
            metrics.SUBMISSIONS.labels("duplicate").inc()
        else:
            _, decided_ms = message.timestamp()
            held = Held(firing, partition, Why.RETRY, 0.0, 0, self._clock.now_ms(), decided_ms, retry_of)
            await self._submit(held, retried=False)
        if partition in self._ledgers:
            self._feed.done(partition, offset)

    def _try_waiting(self) -> None:
        if not len(self._waiting):
            return
        for held in self._waiting.take_due(
            self._clock.elapsed_s(), self._crew.room, self._free_slots, self._pauses.names
        ):
            self._crew.spawn(self._submit(held, retried=True))

    async def _submit(self, held: Held, retried: bool) -> None:
        firing = held.firing
        await self._attempt_ended(firing.id)
        ended = self._attempts[firing.id] = asyncio.get_running_loop().create_future()
        try:
            await self._try(held, retried)
        finally:
            del self._attempts[firing.id]
            ended.set_result(None)
            self._slots_reserved.discard(firing.id)

    async def _attempt_ended(self, firing_id: str) -> None:
        while (attempt := self._attempts.get(firing_id)) is not None:
            await attempt

    @property
    def _free_slots(self) -> int:
        return self._local.free_slots - len(self._slots_reserved)

    async def _try(self, held: Held, retried: bool) -> None:
        firing, definition = held.firing, held.firing.definition
        if definition.trigger in self._pauses.names:
            await self._hold(held, Why.PAUSED, "paused", "the trigger is paused", 0.0, retried)
            return
        if (dropped := self._pauses.dropped(held)) is not None:
            await self._refuse(held, Refusal(Reason.DROPPED, dropped))
            return
        if held.why is Why.PAUSED:
            # However long the pause was, nothing has failed yet.
            held.since_ms = self._clock.now_ms()
        age_ms = self._clock.now_ms() - firing.time_ms
        if definition.max_age_ms is not None and age_ms > definition.max_age_ms:
            message = f"the firing is {age_ms // 1000} s old; the trigger's maxAge is {definition.max_age_ms // 1000} s"
            await self._refuse(held, Refusal(Reason.TOO_OLD, message))
            return
        local = definition.run_kind == "flow"
        if local and self._free_slots <= 0:
            await self._hold(held, Why.SLOT, "slot", "all local processes are busy", 0.0, retried)
            return
        if local:
            self._slots_reserved.add(firing.id)
        held.attempts += 1
        outcome = await (self._flows if local else self._kubernetes).attempt(firing)
        match outcome:
            case Started():
                metrics.SUBMISSIONS.labels("existed" if outcome.existed else "created").inc()
                metrics.FIRING_TO_RUN_SECONDS.observe(max(0.0, self._clock.now_ms() / 1000 - firing.time_ms / 1000))
                run = self._run(held, RunState.STARTED, run=outcome.run, parameters=outcome.parameters)
                await self._record(held.partition, run)
            case Startable():
                await self._start_local(held, outcome)
            case Refusal():
                await self._refuse(held, outcome)
            case TryAgain():
                await self._again(held, outcome, retried)

    async def _again(self, held: Held, outcome: TryAgain, retried: bool) -> None:
        metrics.SUBMISSIONS.labels("retry").inc()
        if self._clock.now_ms() - held.since_ms > GIVE_UP_MS:
            hours = GIVE_UP_MS // 3_600_000
            message = f"it could not be started for {hours} h: {outcome.message}"
            await self._refuse(held, Refusal(Reason.REFUSED_BY_API, message))
            return
        delay_s = max(retry_delay_s(held.attempts, random.random()), outcome.after_s or 0.0)
        self._complaints.waits(held.firing.id, held.firing.definition.trigger, outcome.message)
        await self._hold(held, Why.RETRY, "retry", outcome.message, delay_s, retried)

    async def _hold(self, held: Held, why: Why, reason: str, message: str, delay_s: float, retried: bool) -> None:
        if held.partition not in self._ledgers:
            # Given back meanwhile: its next owner has read the firing, or what is durable of it, and tries it itself.
            return
        changed = not retried or held.why is not why
        held.why, held.due_s = why, self._clock.elapsed_s() + delay_s
        if changed:
            await self._record(held.partition, queued_run_of(held, self._clock.now_ms(), reason, message))
        if held.partition in self._ledgers:
            self._waiting.hold(held)

    async def _refuse(self, held: Held, refusal: Refusal) -> None:
        firing = held.firing
        metrics.SUBMISSIONS.labels("refused").inc()
        metrics.DEAD_LETTERS.labels("submit", refusal.reason).inc()
        log.warning("firing %s of %s is refused: %s", firing.id, firing.definition.trigger, refusal.message)
        letter = letter_of(held, refusal)
        await self._producer.send(self._names.dead_letters, 0, letter.id.encode(), letter.encode())
        run = self._run(held, RunState.REFUSED, reason=refusal.reason, message=refusal.message)
        await self._record(held.partition, run)

    async def _start_local(self, held: Held, startable: Startable) -> None:
        log_file = self._local.log_file(held.firing.id)
        intent = self._run(held, RunState.STARTED, run=str(log_file), parameters=startable.parameters)
        # Durable before the process exists: a crash in between leaves a run of unknown end, never a second process.
        await self._record(held.partition, intent)
        self._slots_reserved.discard(held.firing.id)
        try:
            process = await self._local.start(
                held.firing.id, startable.flow, startable.parameters, startable.environment
            )
        except LocalRunNotStarted as error:
            await self._again(held, TryAgain(str(error)), retried=False)
            return
        except LocalRunRefused as error:
            await self._refuse(held, Refusal(Reason.BAD_MAPPING, str(error)))
            return
        metrics.SUBMISSIONS.labels("created").inc()
        task = asyncio.get_running_loop().create_task(self._await_local(held.partition, intent, process))
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)

    async def _await_local(self, partition: int, intent: Run, process: LocalRun) -> None:
        status = await process.wait()
        ended: dict[str, object] = {"state": RunState.SUCCEEDED, "time_ms": self._clock.now_ms()}
        if status != 0:
            message = f"the process ended with status {status}; its log is {intent.run}"
            ended = {
                "state": RunState.FAILED,
                "time_ms": self._clock.now_ms(),
                "reason": "exit-status",
                "message": message,
            }
        await self._record(partition, intent.model_copy(update=ended))

    def _run(self, held: Held, state: RunState, **fields: object) -> Run:
        return run_of(held, state, self._clock.now_ms(), **fields)

    async def _record(self, partition: int, run: Run) -> None:
        await self._producer.send(self._names.runs, partition, run.firing.encode(), run.encode())
        if partition in self._ledgers:
            self._ledgers[partition].note(run.firing, run.state)


async def run(
    settings: Settings, kubernetes: TargetSystem, local: LocalRuns, health: Health, stop: asyncio.Event
) -> None:
    """Run one submitter until `stop` is set."""
    log.info("submit starts (pid %d)", os.getpid())
    await Submitter(connect(settings), kubernetes, local, health).run(stop)
