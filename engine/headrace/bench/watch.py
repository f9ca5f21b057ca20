"""Watch: when each Workflow of a bench came to be, as somebody sees it who has nothing to do with making it."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import orjson

from headrace.edges.kube.api import KubeApi, argo_path
from headrace.model.errors import HeadraceError

OPEN_TIMEOUT_S = 30.0
_STREAM_S = 4 * 3600


class WatchBroke(HeadraceError):
    """The watch of the Workflows ended, so that it may have missed some; the figures would not be true."""


class NotSeen(HeadraceError):
    """Workflows that should have come did not."""


class CreatedWorkflows:
    """The creations of Workflows with one label, in a thread of its own; bare and measured ones are seen alike."""

    def __init__(self, namespace: str, selector: str) -> None:
        """Watch `namespace` for Workflows that the label selector takes."""
        query = f"watch=true&timeoutSeconds={_STREAM_S}&labelSelector={quote(selector)}"
        self._path = f"{argo_path('workflows', namespace)}?{query}"
        self._changed = threading.Condition()
        self._seen: dict[str, list[tuple[str, float]]] = {}
        self._count = 0
        self._wanted = 0
        self._failure: BaseException | None = None
        self._is_open = False
        self._version = ""
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._is_open or self._failure is not None, OPEN_TIMEOUT_S)
            self._check()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with suppress(RuntimeError):  # A watch that broke has closed its loop.
            if self._is_open:
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)

    def wait_for_all(self, words: list[str], silence_max_s: float) -> None:
        """Return once every one of `words` has a Workflow.

        Raises:
            NotSeen: some have none, and no Workflow came for `silence_max_s` seconds.
            WatchBroke: the watch ended.
        """
        missing = set(words)
        with self._changed:
            while missing := missing - self._seen.keys():
                before = self._count
                # Woken for each Workflow, so let a good part of them come before looking again.
                self._wanted = before + max(1, len(missing) // 2)
                self._changed.wait_for(lambda: self._failure is not None or self._count >= self._wanted, silence_max_s)
                self._check()
                if self._count == before:
                    raise NotSeen(f"{len(missing)} of {len(words)} Workflows did not come, and none did for a while")

    def creations(self, word: str) -> list[tuple[str, float]]:
        """Return uid and moment (`time.monotonic`) of every Workflow whose parameter `set` is `word`."""
        return self._seen.get(word, [])

    def _check(self) -> None:
        if self._failure is not None or not self._is_open:
            raise WatchBroke(f"the watch of {self._path.partition('?')[0]} broke: {self._failure}") from self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._follow())
        except asyncio.CancelledError:
            return
        except BaseException as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    async def _follow(self) -> None:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[Any] = task
        api = await KubeApi.connect()
        try:
            while True:
                # The server drops a watcher that reads too slowly for a moment; where it left off, it goes on.
                since = f"&resourceVersion={self._version}" if self._version else ""
                async for line in api.watch(self._path + since, _STREAM_S):
                    self._take(line)
        finally:
            await api.close()

    def _take(self, line: bytes) -> None:
        now_s = time.monotonic()
        if not line:
            with self._changed:
                self._is_open = True
                self._changed.notify_all()
            return
        event = orjson.loads(line)
        if event["type"] == "ERROR":
            raise WatchBroke(str(event["object"].get("message")))
        workflow = event["object"]
        self._version = workflow["metadata"]["resourceVersion"]
        if event["type"] != "ADDED":
            return
        for parameter in workflow["spec"]["arguments"]["parameters"]:
            if parameter["name"] == "set":
                with self._changed:
                    self._seen.setdefault(parameter["value"], []).append((workflow["metadata"]["uid"], now_s))
                    self._count += 1
                    if self._count >= self._wanted:
                        self._changed.notify_all()
