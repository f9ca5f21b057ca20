"""Deploy: triggers become records of `headrace.triggers`, and take effect before the call returns."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence

import orjson
from confluent_kafka import Consumer, TopicPartition

from headrace.edges.kafka.clients import admin_client, consumer, watermarks
from headrace.edges.kafka.topics import ensure_internal_topics, partition_counts
from headrace.edges.kafka.trigger_feed import read_triggers
from headrace.edges.kafka.trigger_registry import register, write_triggers
from headrace.edges.kube.deployed_flow import DeployedFlow
from headrace.edges.trigger_file import LoadedTrigger
from headrace.model.errors import NotConfirmedError, NotFoundError, TriggerError
from headrace.model.names import trigger_name
from headrace.model.trigger import RefusedTrigger, TriggerRecord, TriggerSpec
from headrace.settings import Settings
from headrace.stages import sync
from headrace.stages.progress import Progress, decode_report
from headrace.stages.route import compile_trigger

CONFIRM_TIMEOUT_S = 30.0


def deploy(
    settings: Settings,
    loaded: Sequence[LoadedTrigger | DeployedFlow],
    default_namespace: str,
    timeout_s: float = CONFIRM_TIMEOUT_S,
    *,
    drop_held: bool = False,
) -> list[TriggerRecord]:
    """Deploy triggers and wait until the routers listen: an event published afterwards is not missed.

    Args:
        settings: where Kafka is, and the defaults of triggers.
        loaded: what to deploy.
        default_namespace: of triggers that name none.
        timeout_s: how long to wait for the routers.
        drop_held: what a pause has held until now is dropped, not started.

    Raises:
        TriggerError: a trigger cannot work, or nothing of it can be held; nothing was deployed.
        NoBrokerError: Kafka does not answer.
        TopicError: a topic could not be made.
        NotConfirmedError: no router confirmed in time; the triggers are deployed all the same.
    """
    drafts = [_draft(settings, trigger, default_namespace) for trigger in loaded]
    names = [draft.name for draft in drafts]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise TriggerError(f"the trigger {repeated} stands twice in what is to be deployed")
    ensure_internal_topics(settings)
    existing = read_triggers(settings)
    for draft in drafts:
        _check_author(draft, existing.get(draft.name))
    if drop_held:
        drafts = [_dropping(draft, existing.get(draft.name)) for draft in drafts]
    events = {dependency.name for draft in drafts for dependency in draft.spec.events}
    with Confirmations(settings) as confirmations:
        records, applied = register(settings, drafts, existing)
        confirmations.wait(events, applied, timeout_s)
    return records


def _check_author(draft: TriggerRecord, existing: TriggerRecord | None) -> None:
    if existing is None or (draft.sensor is None) == (existing.sensor is None):
        return
    if existing.sensor is not None:
        raise TriggerError(f"the trigger {draft.name} is that of a Metaflow flow's Sensor; choose another name")
    raise TriggerError(
        f"a trigger {draft.name} was deployed by hand: `headrace delete {draft.name}` makes room for the flow's"
    )


def _dropping(draft: TriggerRecord, existing: TriggerRecord | None) -> TriggerRecord:
    if existing is None or not existing.spec.paused:
        raise TriggerError(f"the trigger {draft.name} is not paused, so nothing of it is held: leave --drop-held away")
    if draft.spec.paused:
        raise TriggerError(f"the trigger {draft.name} stays paused: --drop-held is for its resumption (paused: false)")
    return draft.model_copy(update={"drop_held_ms": draft.deployed_ms})


def _draft(settings: Settings, loaded: LoadedTrigger | DeployedFlow, default_namespace: str) -> TriggerRecord:
    if isinstance(loaded, DeployedFlow):
        return _flow_draft(settings, loaded)
    metadata, spec = loaded.file.metadata, loaded.file.spec
    try:
        name = trigger_name(metadata.name, metadata.namespace or default_namespace)
        if spec.run.flow is not None:
            spec = _with_flow(spec, loaded)
        draft = TriggerRecord(
            name=name,
            creation=uuid.uuid4().hex,
            generation=1,
            spec=spec,
            starts={},
            deployed_ms=time.time_ns() // 1_000_000,
            source=loaded.source,
        )
        compile_trigger(draft, settings.window_ms, settings.lateness_ms)
    except TriggerError as error:
        raise TriggerError(f"{loaded.source}: {error}") from None
    return draft


def _flow_draft(settings: Settings, flow: DeployedFlow) -> TriggerRecord:
    now_ms = time.time_ns() // 1_000_000
    held = sync.draft(flow.sensor, flow.template_settings, settings.window_ms, settings.lateness_ms, now_ms)
    if isinstance(held, RefusedTrigger):
        raise TriggerError(held.refused)
    events = {dependency.name for dependency in held.spec.events}
    if events != flow.file_events:
        raise TriggerError(
            f"{held.name} is deployed for {', '.join(sorted(events))}, but its file waits for "
            f"{', '.join(sorted(flow.file_events))}: `python FLOW argo-workflows create` deploys it anew"
        )
    return held


def _with_flow(spec: TriggerSpec, loaded: LoadedTrigger) -> TriggerSpec:
    assert spec.run.flow is not None
    path = (loaded.directory / spec.run.flow).resolve()
    if not path.is_file():
        raise TriggerError(f"the flow {path} does not exist; its path is relative to the trigger's file")
    return spec.model_copy(update={"run": spec.run.model_copy(update={"flow": str(path)})})


class Confirmations:
    """Listens to the routers' reports from before the deployment on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __enter__(self) -> Confirmations:
        self._consumer: Consumer = consumer(self._settings, group_id=f"{self._settings.topics.prefix}deploy-reader")
        at = TopicPartition(self._settings.topics.progress, 0)
        _, at.offset = watermarks(self._consumer, at)
        self._consumer.assign([at])
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def wait(self, events: set[str], applied: int, timeout_s: float) -> None:
        """Wait until the owner of every partition of `events` has applied `applied`."""
        counts = partition_counts(admin_client(self._settings), events)
        wanted = {(topic, partition) for topic, count in counts.items() for partition in range(count)}
        progress, deadline_s = Progress(), time.monotonic() + timeout_s
        while True:
            missing = wanted - progress.confirmed(wanted, applied)
            if not missing:
                return
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                topic, partition = min(missing)
                raise NotConfirmedError(
                    f"the trigger is deployed, but no router has confirmed it for {topic}:{partition} within "
                    f"{timeout_s:.0f} s: is `headrace run route` running? (`headrace status` tells)"
                )
            message = self._consumer.poll(min(left_s, 0.5))
            if message is not None and message.error() is None:
                record = orjson.loads(message.value() or b"{}")
                if record.get("kind") == "router":
                    progress.take(decode_report(record))


def delete(settings: Settings, name: str) -> None:
    """Delete a trigger. What it has fired already still runs.

    Raises:
        NotFoundError: there is no such trigger.
        TriggerError: a Sensor made it, which would make it again.
    """
    if require_trigger(settings, name).sensor is not None:
        raise TriggerError(f"the trigger {name} is that of a Metaflow flow's Sensor: delete the Sensor")
    write_triggers(settings, {name: None})


def require_trigger(settings: Settings, name: str) -> TriggerRecord:
    """Return a deployed trigger.

    Raises:
        NotFoundError: there is no such trigger.
    """
    triggers = read_triggers(settings)
    if name not in triggers:
        known = ", ".join(sorted(triggers)) or "none is deployed"
        raise NotFoundError(f"there is no trigger {name}; known: {known}")
    return triggers[name]


def resume(settings: Settings, event: str, announce: Callable[[str], None]) -> None:
    """Let a stopped event topic go on with what is there, for every trigger that waits for it.

    Raises:
        NotFoundError: no trigger waits for it.
    """
    triggers = {n: r for n, r in read_triggers(settings).items() if event in r.starts}
    if not triggers:
        raise NotFoundError(f"no trigger waits for the event {event}")
    client = consumer(settings)
    try:
        count = partition_counts(admin_client(settings), {event}).get(event, 0)
        lows = {}
        for partition in range(count):
            low, _ = watermarks(client, TopicPartition(event, partition))
            lows[str(partition)] = low
    finally:
        client.close()
    records = {}
    for name, record in triggers.items():
        update = {
            "starts": {**record.starts, event: lows},
            "resumed_ms": {**record.resumed_ms, event: time.time_ns() // 1_000_000},
            "generation": record.generation + 1,
        }
        records[name] = record.model_copy(update=update).encode()
        announce(f"{name} goes on with {event} from offsets {lows}")
    write_triggers(settings, {**records})
