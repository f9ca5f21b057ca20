"""One scenario: triggers are deployed, events published, faults strike, then all is healed, drained and judged."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random
from typing import Any

import orjson

from headrace.stages.progress import Progress, decode_report
from tests.simulation.faults import Kind
from tests.simulation.rules import TOPICS, Payload, Published, Rule, random_rules
from tests.simulation.world import NAMES, World

TOPIC_PARTITIONS = 2
_HOUR_MS = 3_600_000


@dataclass
class _Sent:
    """An event that could be sent again."""

    topic: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    payload: Payload
    id: str | None
    time_ms: int | None


class Publisher:
    """Publishes events, and remembers them."""

    def __init__(self, world: World, rules: list[Rule]) -> None:
        self._world, self._random, self._rules = world, Random(world.seed + 2), rules
        self._count = 0
        self._sent: list[_Sent] = []

    async def publish(self, until_s: float) -> None:
        """Publish until then, now this, now that."""
        random = self._random
        pause_s = random.choice([0.5, 1.5, 4.0])
        while self._world.loop.now_s < until_s:
            await asyncio.sleep(random.uniform(0, 2 * pause_s))
            choice = random.random()
            if choice < 0.4:
                self._world.loop.create_task(self._publish_set())
            elif choice < 0.93 or not self._sent:
                self._publish_one(random.choice(TOPICS), f"r{random.randint(0, 2)}", random.random() < 0.06)
            else:
                self._repeat(random.choice(self._sent[-60:]), Kind.DUPLICATE_LATER)

    async def _publish_set(self) -> None:
        """A set with a key of its own, that some trigger waits for."""
        rule = self._random.choice(self._rules)
        self._count += 1
        region = f"lone-{self._count}"
        # Some sets end exactly with their window, or just beside it.
        begin_ms = self._world.now_ms() if self._random.random() < 0.4 else None
        for number, need in enumerate(self._random.sample(rule.needs, len(rule.needs))):
            time_ms = begin_ms
            if time_ms is not None and number > 0:
                time_ms += rule.window_ms + self._random.choice([-1, 0, 0, 1])
            self._publish_one(need.topic, region, False, time_ms)
            await asyncio.sleep(self._random.uniform(0, rule.window_s / len(rule.needs) * 1.1))

    def _publish_one(self, topic: str, region: str | None, odd: bool, time_ms: int | None = None) -> None:
        random, now_ms = self._random, self._world.now_ms()
        self._count += 1
        if odd:
            region = random.choice([None, region])
        payload: Payload = {
            "region": region,
            "v": random.randint(0, 9),
            "kind": random.choice(["x", "x", "y"]),
            "note": "{{workflow.name}}" if random.random() < 0.03 else random.choice(["", "ä note", 'a "quote"']),
            "flag": random.choice([True, False, None]),
            "parts": [1, 2, self._count],
        }
        if random.random() < 0.7:
            payload["deep"] = {"n": self._count}
        if random.random() < 0.2:
            payload["tier"] = "whatever the publisher wants"
        if random.random() < 0.1:
            del payload["region"]
        if time_ms is not None:
            pass
        elif odd and random.random() < 0.5:
            self._world.faults.note(Kind.LATE)
            time_ms = now_ms - random.choice([30_000, 60_000, 120_000, _HOUR_MS])
        elif self._world.faults.strikes(Kind.SKEWED, 0.3):
            time_ms = now_ms + round(random.uniform(-8_000, 8_000))
        elif random.random() < 0.01:
            time_ms = now_ms + _HOUR_MS
        event_id = f"e{self._count}" if random.random() < 0.75 else None
        headers = [("ce_id", event_id.encode())] if event_id is not None else []
        if time_ms is not None:
            headers.append(("ce_time", _instant(time_ms)))
        value = b"{poison" if self._world.faults.strikes(Kind.POISON, 0.02) else json.dumps(payload).encode()
        sent = _Sent(topic, value, tuple(headers), payload, event_id, time_ms)
        self._append(sent)
        if event_id is not None and value != b"{poison":
            self._sent.append(sent)
            if random.random() < 0.1:
                self._repeat(sent, Kind.DUPLICATE_AT_ONCE)

    def _repeat(self, sent: _Sent, kind: Kind) -> None:
        self._world.faults.note(kind)
        self._append(sent)

    def _append(self, sent: _Sent) -> None:
        world = self._world
        partition = self._random.randrange(TOPIC_PARTITIONS)
        offset, now_ms = world.log.end(sent.topic, partition), world.now_ms()
        time_ms = sent.time_ms if sent.time_ms is not None else now_ms
        unusable = "not-json" if sent.value == b"{poison" else None
        if unusable is None and time_ms > now_ms + _HOUR_MS // 2:
            unusable = "from-the-future"
        event = Published(
            topic=sent.topic,
            partition=partition,
            offset=offset,
            appended_ms=now_ms,
            id=sent.id or f"{sent.topic}:{partition}:{offset}",
            time_ms=time_ms,
            payload=sent.payload,
            unusable=unusable,
        )
        world.judge.published[event.position] = event
        world.log.append(sent.topic, partition, None, sent.value, sent.headers)
        age_ms = time_ms - now_ms
        world.trace("publisher", f"{event.id} to {sent.topic}:{partition}:{offset} {age_ms:+} ms {sent.payload}")


def _instant(time_ms: int) -> bytes:
    seconds, milliseconds = divmod(time_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03}Z".encode()


class Deployer:
    """Deploys triggers as `headrace deploy` does: starts recorded first, done once all routers have confirmed.

    Its record is modelled, for the command needs Kafka's admin client; production's stage tells who has confirmed.
    """

    def __init__(self, world: World) -> None:
        self._world, self._random = world, Random(world.seed + 3)

    def deploy(self, rule: Rule, wanted_ms: int | None) -> int:
        """Write a trigger's record; return its offset."""
        judge = self._world.judge
        old = judge.current.get(rule.name)
        judge.rules[(rule.name, rule.generation)] = judge.current[rule.name] = rule
        if old is None:
            judge.wanted_from[rule.name] = wanted_ms
        elif old.kept_by != rule.kept_by:
            judge.redefined.add(rule.name)
        entry = self._world.log.append(NAMES.triggers, 0, rule.name.encode(), orjson.dumps(rule.record()))
        self._world.trace("deployer", f"{rule}")
        return entry.offset

    async def change(self, until_s: float, fresh: Rule) -> None:
        """Change triggers now and then, and deploy one more amid events."""
        world, random = self._world, self._random
        await asyncio.sleep(random.uniform(5, until_s / 2))
        if not world.faults.healed and random.random() < 0.5:
            world.faults.note(Kind.DEPLOYED)
            await self._deploy_confirmed(fresh)
        while world.loop.now_s < until_s:
            await asyncio.sleep(random.uniform(3, 30))
            old = random.choice(sorted(world.judge.current.values(), key=lambda rule: rule.name))
            if world.loop.now_s >= until_s or random.random() < 0.3:
                continue
            change: dict[str, Any] = random.choice(
                [
                    {"window_s": random.choice([2, 5, 10, 20])},
                    {"match": random.choice(["latest", "each"])},
                    {"constants": (("tier", f"t{random.randint(0, 9)}"),)},
                    {"paused": not old.paused},
                ]
            )
            world.faults.note(Kind.PAUSED if change.get("paused") else Kind.REDEPLOYED)
            self.deploy(replace(old, generation=old.generation + 1, **change), None)

    def resume_all(self) -> None:
        """Let every paused trigger go on."""
        for rule in list(self._world.judge.current.values()):
            if rule.paused:
                self.deploy(replace(rule, paused=False, generation=rule.generation + 1), None)

    async def _deploy_confirmed(self, rule: Rule) -> None:
        world = self._world
        topics = {need.topic for need in rule.needs}
        ends = {topic: {str(p): world.log.end(topic, p) for _, p in world.log.partitions(topic)} for topic in topics}
        partitions = {at for topic in topics for at in world.log.partitions(topic)}
        heard, progress = world.log.end(NAMES.progress, 0), Progress()
        applied = self.deploy(replace(rule, starts=ends), None)
        while partitions - progress.confirmed(partitions, applied):
            await asyncio.sleep(0.2)
            for entry in world.log.of(NAMES.progress, 0)[heard:]:
                heard += 1
                progress.take(decode_report(orjson.loads(entry.value or b"")))
        world.judge.wanted_from[rule.name] = world.now_ms()
        world.trace("deployer", f"{rule.name} is confirmed")


def scenario_rules(world: World) -> tuple[list[Rule], Rule]:
    """Return the triggers that are there from the beginning, and one that comes amid events."""
    rules = random_rules(Random(world.seed + 4))
    return rules[:-1], rules[-1]
