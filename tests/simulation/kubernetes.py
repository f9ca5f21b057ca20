"""The Kubernetes API in memory, with faults: production's `KubeApi`, as far as submitting uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from headrace.edges.kube.api import ApiUnreachable, Reply
from headrace.model.run import RunState
from tests.simulation.faults import Kind
from tests.simulation.process import Process
from tests.simulation.world import NAMES, World

_TIMEOUT_S = 10.0
_LIFE_S_MIN = 30.0
"""Longer than a submitter is paused here, and its requests take."""


@dataclass
class Cluster:
    """The objects. A Workflow is deleted some time after its run was recorded, as by its TTL.

    Never before, and never while a submitter may still be paused amid an attempt: one that stays away, between deciding
    to create and recording, for longer than a Workflow lives, cannot know of it any more. That bound is the product's.
    """

    world: World
    templates: dict[str, tuple[str, ...]]
    """Name -> the parameters that it declares."""
    workflows: dict[str, dict[str, Any]] = field(default_factory=dict)

    def create(self, by: str, body: bytes) -> Reply:
        """Create a Workflow."""
        workflow = orjson.loads(body)
        name = workflow["metadata"]["name"]
        if name in self.workflows:
            return _status(409, "AlreadyExists", f"workflows {name!r} already exists")
        self.workflows[name] = workflow
        self.world.trace("cluster", f"creates {name} for {by}")
        self.world.judge.created(workflow)
        return Reply(201, body, None)

    async def collect(self) -> None:
        """Delete Workflows whose time has come."""
        while True:
            await asyncio.sleep(self.world.between(1.0, 6.0))
            for partition in range(self.world.log.counts[NAMES.runs]):
                for entry in self.world.log.of(NAMES.runs, partition):
                    run = orjson.loads(entry.value or b"{}")
                    if run["state"] != RunState.STARTED:
                        continue
                    name = run["run"].partition("/")[2]
                    old = self.world.now_ms() - entry.time_ms > _LIFE_S_MIN * 1000
                    if old and name in self.workflows and self.world.faults.strikes(Kind.TTL, 0.3):
                        del self.workflows[name]
                        self.world.trace("cluster", f"deletes {name}")


class SimApi:
    """One process's connection to the cluster."""

    server = "https://simulated"

    def __init__(self, process: Process, cluster: Cluster) -> None:
        self._process, self._world, self._cluster = process, process.world, cluster

    async def create_workflow(self, namespace: str, body: bytes) -> Reply:
        """Create a Workflow from its JSON."""
        return await self._ask(lambda: self._cluster.create(self._process.name, body), "creating a Workflow")

    async def get_workflow(self, namespace: str, name: str) -> Reply:
        """Read one Workflow."""

        def read() -> Reply:
            found = self._cluster.workflows.get(name)
            return _status(404, "NotFound", "not found") if found is None else Reply(200, orjson.dumps(found), None)

        return await self._ask(read, "reading a Workflow")

    async def get(self, path: str) -> Reply:
        """Read a template."""
        name = path.rpartition("/")[2]

        def read() -> Reply:
            declared = self._cluster.templates.get(name)
            if declared is None:
                return _status(404, "NotFound", "not found", name)
            parameters = [{"name": parameter} for parameter in declared]
            return Reply(200, orjson.dumps({"spec": {"arguments": {"parameters": parameters}}}), None)

        return await self._ask(read, "reading a template")

    async def _ask(self, act: Callable[[], Reply], what: str) -> Reply:
        faults, loop = self._world.faults, self._world.loop
        self._process.step(what)
        answered: asyncio.Future[Reply] = loop.create_future()
        way_s = self._world.between(0.001, 0.05)
        if faults.strikes(Kind.API_SLOW, 0.05):
            way_s = self._world.between(1.0, _TIMEOUT_S - 1.0)
        refusal = self._refusal()
        away = faults.strikes(Kind.API_AWAY, 0.04)
        silent = not away and refusal is None and faults.strikes(Kind.API_TIMEOUT, 0.05)

        def arrive() -> None:
            # On its way a request no longer depends on who sent it.
            reply = refusal or (None if away else act())
            if reply is not None and not silent:
                self._process.later(way_s / 2, partial(_answer, answered, reply))

        loop.call_later(way_s / 2, arrive)
        try:
            reply = await asyncio.wait_for(answered, _TIMEOUT_S)
        except TimeoutError:
            reply = None
        await self._process.gate()
        self._process.step(f"having the answer of {what}")
        if reply is None:
            raise ApiUnreachable(f"no answer for {what}")
        return reply

    def _refusal(self) -> Reply | None:
        faults = self._world.faults
        if faults.strikes(Kind.API_429, 0.03):
            return Reply(429, b"too many requests", 1.0)
        if faults.strikes(Kind.API_500, 0.03):
            return _status(500, "InternalError", "etcd has no leader")
        if faults.strikes(Kind.API_403, 0.03):
            return _status(403, "Forbidden", "exceeded quota")
        return None


def _status(code: int, reason: str, message: str, name: str = "") -> Reply:
    return Reply(code, orjson.dumps({"reason": reason, "message": message, "details": {"name": name}}), None)


def _answer(future: asyncio.Future[Reply], reply: Reply) -> None:
    if not future.done():
        future.set_result(reply)
