"""The role `sync`: keeps the registry of triggers in step with the Sensors that Metaflow deploys.

Each turn compares the whole of both, so that whatever was missed while nobody looked is mended by the next turn.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from headrace.edges import metrics
from headrace.edges.kafka.access import KafkaAccess
from headrace.edges.kafka.trigger_feed import TriggerFeed, keep
from headrace.edges.kafka.trigger_registry import register, write_triggers
from headrace.edges.kube.api import ApiUnreachable, KubeApi, argo_path
from headrace.edges.kube.leadership import Leadership
from headrace.edges.kube.mirror import Key, Mirror
from headrace.model.errors import NoBrokerError, TopicError, TriggerError
from headrace.model.trigger import RefusedTrigger, TriggerRecord
from headrace.roles.health import Health
from headrace.settings import Settings
from headrace.stages.sensor import STATUS_ANNOTATION, template_of, template_settings
from headrace.stages.sync import Held, draft, plan

log = logging.getLogger(__name__)

SENSOR_LABELS = "app.kubernetes.io/name=metaflow-sensor"
TURN_S = 0.1
PATCHES_AT_ONCE = 8
_DEPLOYED = "deployed"

Object = dict[str, Any]


class SensorSync:
    """One process's part in it. Of several, only the leader writes."""

    def __init__(self, settings: Settings, api: KubeApi, namespaces: Sequence[str] | None, health: Health) -> None:
        """Prepare to watch the Sensors of `namespaces`, None meaning all."""
        self._settings = settings
        self._api = api
        self._namespaces = namespaces
        self._health = health
        places = dict.fromkeys(namespaces) if namespaces is not None else (None,)
        self._sensors = [Mirror(api, argo_path("sensors", at), _sensor, SENSOR_LABELS) for at in places]
        self._templates = [Mirror(api, argo_path("workflowtemplates", at), _annotations) for at in places]
        self._registry: dict[str, Held] = {}
        self._seen: list[int] = []
        self._compiled: dict[Key, tuple[Object, dict[str, str], Held]] = {}
        self._told: dict[Key, str] = {}
        self._may_patch = True

    async def run(self, stop: asyncio.Event) -> None:
        """Keep in step until `stop` is set."""
        leadership, feed = Leadership(self._settings, "sync"), TriggerFeed(KafkaAccess(self._settings))
        for mirror in (*self._sensors, *self._templates):
            mirror.start()
        try:
            self._health.ready()
            led = False
            while not stop.is_set():
                leads = await asyncio.to_thread(leadership.poll, TURN_S)
                if leads:
                    await self._turn(feed, first=not led)
                led = leads
                self._health.beat(self._problem())
        finally:
            await asyncio.gather(*(mirror.close() for mirror in (*self._sensors, *self._templates)))
            await asyncio.to_thread(leadership.close)
            feed.close()

    def _problem(self) -> str | None:
        problems = [mirror.problem or "nothing was heard lately" for mirror in self._sensors if not mirror.fresh]
        return problems[0] if problems else None

    async def _turn(self, feed: TriggerFeed, first: bool) -> None:
        changes = await asyncio.to_thread(feed.read_to_end if first else feed.poll)
        for change in changes:
            keep(self._registry, change)
        versions = [mirror.version for mirror in (*self._sensors, *self._templates)]
        if not all(mirror.fresh for mirror in self._sensors) or (versions == self._seen and not changes and not first):
            return
        try:
            await self._reconcile()
            self._seen = versions
        except NoBrokerError as error:
            log.warning("the Sensors are looked at again, since %s", error)

    async def _reconcile(self) -> None:
        sensors = {key: sensor for mirror in self._sensors for key, sensor in mirror.objects.items()}
        found = {f"{namespace}/{name}": self._compile((namespace, name), s) for (namespace, name), s in sensors.items()}
        self._compiled = {key: value for key, value in self._compiled.items() if key in sensors}
        todo = plan(found, self._registry, self._watches)
        for name, refusal in await asyncio.to_thread(self._register, todo.register):
            found[name] = refusal
            if self._registry.get(name) != refusal:
                todo.write[name] = refusal
        if todo.write:
            values = {name: held.encode() if held is not None else None for name, held in todo.write.items()}
            await asyncio.to_thread(write_triggers, self._settings, values)
            for name, held in todo.write.items():
                log.info("%s %s", name, f"is refused: {held.refused}" if held is not None else "is deleted")
                if held is None:
                    self._registry.pop(name, None)
                else:
                    self._registry[name] = held
        refused = sum(isinstance(held, RefusedTrigger) for held in found.values()) + len(todo.taken)
        metrics.SENSORS.labels("refused").set(refused)
        metrics.SENSORS.labels("deployed").set(len(found) - refused)
        await self._tell(sensors, found, todo.taken)

    def _watches(self, namespace: str) -> bool:
        return self._namespaces is None or namespace in self._namespaces

    def _compile(self, key: Key, sensor: Object) -> Held:
        template = template_of(sensor)
        settings: dict[str, str] = {}
        for mirror in self._templates:
            settings = mirror.objects.get(template, settings) if template is not None else settings
        held = self._compiled.get(key)
        if held is None or held[0] is not sensor or held[1] != settings:
            held = self._compiled[key] = (sensor, settings, self._draft(sensor, settings))
        return held[2]

    def _draft(self, sensor: Object, template_settings: dict[str, str]) -> Held:
        now_ms = time.time_ns() // 1_000_000
        return draft(sensor, template_settings, self._settings.window_ms, self._settings.lateness_ms, now_ms)

    def _register(self, drafts: list[TriggerRecord]) -> list[tuple[str, RefusedTrigger]]:
        """Register all together, which is fast; where that fails, one by one, so that none holds the others up."""
        refused: list[tuple[str, RefusedTrigger]] = []
        existing = {name: held for name, held in self._registry.items() if isinstance(held, TriggerRecord)}
        batches = [drafts] if drafts else []
        while batches:
            batch = batches.pop()
            try:
                records, _ = register(self._settings, batch, existing)
            except (TopicError, TriggerError) as error:
                if len(batch) > 1:
                    batches.extend([draft] for draft in batch)
                    continue
                name, source = batch[0].name, batch[0].source or ""
                refused.append((name, RefusedTrigger(name=name, refused=str(error), source=source)))
                continue
            for record in records:
                self._registry[record.name] = record
                log.info("%s is deployed (generation %d)", record.name, record.generation)
        return refused

    async def _tell(self, sensors: dict[Key, Object], found: dict[str, Held], taken: set[str]) -> None:
        """Write on each Sensor what became of it, where that has changed."""
        limit = asyncio.Semaphore(PATCHES_AT_ONCE)

        async def tell(key: Key, status: str) -> None:
            async with limit:
                await self._annotate(key, status)

        told = []
        for key, sensor in sensors.items():
            name = "/".join(key)
            held = found[name]
            status = f"refused: {held.refused}" if isinstance(held, RefusedTrigger) else _DEPLOYED
            if name in taken:
                status = f"refused: a trigger {name} was deployed by hand: `headrace delete {name}` makes room for it"
            if (sensor["metadata"].get("annotations") or {}).get(STATUS_ANNOTATION) != status:
                told.append(tell(key, status))
        await asyncio.gather(*told)

    async def _annotate(self, key: Key, status: str) -> None:
        if not self._may_patch or self._told.get(key) == status:
            return
        try:
            reply = await self._api.annotate(f"{argo_path('sensors', key[0])}/{key[1]}", {STATUS_ANNOTATION: status})
        except ApiUnreachable as error:
            log.warning("what became of the Sensor %s/%s is not written on it: %s", *key, error)
            return
        if reply.status == 403:
            self._may_patch = False
            log.warning("Sensors cannot be annotated (no right to patch them): `headrace triggers` tells what they are")
        elif reply.status == 200:
            self._told[key] = status


def _sensor(item: Object) -> Object:
    metadata = item["metadata"]
    kept = {name: metadata.get(name) for name in ("name", "namespace", "uid", "annotations")}
    return {"metadata": kept, "spec": item.get("spec")}


def _annotations(item: Object) -> dict[str, str]:
    return template_settings(item["metadata"].get("annotations") or {})


async def may_read(api: KubeApi, namespaces: Sequence[str] | None) -> bool:
    """Return whether the kind Sensor exists and may be read, as far as the API server tells."""
    at = namespaces[0] if namespaces else None
    try:
        return (await api.get(f"{argo_path('sensors', at)}?limit=1")).status not in (403, 404)
    except ApiUnreachable:
        return True


async def run(
    settings: Settings, api: KubeApi, namespaces: Sequence[str] | None, health: Health, stop: asyncio.Event
) -> None:
    """Run one process of the role until `stop` is set."""
    await SensorSync(settings, api, namespaces, health).run(stop)
