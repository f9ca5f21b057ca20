"""A copy of all Kubernetes objects of one kind, kept up to date by listing them once and watching them since."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import orjson

from headrace.edges.kube.api import ApiUnreachable, KubeApi, RequestRefused
from headrace.edges.kube.pages import pages
from headrace.model.errors import HeadraceError

# A watch ends and is resumed this often, so that a connection that died silently is noticed soon.
_WATCH_S = 60
_SILENCE_MAX_S = _WATCH_S + 15.0
# A copy that heard nothing for longer may be out of date, and is not to be answered from.
_FRESH_S = 120.0
# Templates may have hundreds of kilobytes each; a page of them has to arrive within one request's time.
_PAGE_OBJECTS = 50
_DELAY_MIN_S, _DELAY_MAX_S = 0.2, 30.0
# Rights may be granted while we run.
_FORBIDDEN_DELAY_S = 60.0
_FORBIDDEN = 403
_BUSY = 429

_log = logging.getLogger(__name__)

T = TypeVar("T")
Key = tuple[str, str]
"""Namespace, empty where the kind has none, and name."""


class _Ended(HeadraceError):
    """The server ended a watch with an error: mostly because it no longer has the changes since our last one."""


class Mirror(Generic[T]):
    """Holds what `read` makes of each object at `path`; `start` begins, and `close` ends, the keeping up to date.

    It survives disconnections, restarts of the server and expired resource versions. While the server does not let us
    list or watch the objects it stays empty, and asks again every minute.
    """

    def __init__(self, api: KubeApi, path: str, read: Callable[[dict[str, Any]], T], labels: str = "") -> None:
        """Prepare a copy of the collection at `path`, such as `/apis/argoproj.io/v1alpha1/workflowtemplates`.

        Args:
            read: makes what is kept of an object, given as its JSON; it must not raise.
            labels: a label selector; only objects that it picks are kept.
        """
        self._api = api
        self._path = path
        self._read = read
        self._selected = {"labelSelector": labels} if labels else {}
        self.version = 0
        """Counts the changes, so that whoever works from the copy knows when to look again."""
        self._objects: dict[Key, T] = {}
        self._resource_version: str | None = None
        self._heard_s: float | None = None
        self._permitted = True
        self._forbidden: str | None = None
        self._problem: str | None = f"{path} has not been listed yet"
        self._task: asyncio.Task[None] | None = None

    @property
    def objects(self) -> Mapping[Key, T]:
        """What is known now; only to be trusted while `fresh`."""
        return self._objects

    @property
    def fresh(self) -> bool:
        """Whether the copy is complete and the server was heard within the last two minutes."""
        return self._heard_s is not None and asyncio.get_running_loop().time() - self._heard_s < _FRESH_S

    @property
    def permitted(self) -> bool:
        """Whether we may list and watch the objects, as far as known."""
        return self._permitted

    @property
    def problem(self) -> str | None:
        """Why the copy is not being kept up to date now, in a sentence; None while it is."""
        return self._problem

    def start(self) -> None:
        """Begin to list and watch, in a task of its own."""
        assert self._task is None, "a mirror is started once"
        self._task = asyncio.create_task(self._run(), name=f"mirror of {self._path}")

    async def close(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        delay_s = _DELAY_MIN_S
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            wait_s = 0.0
            try:
                await self._list_and_watch()
            except RequestRefused as refused:
                wait_s = self._refused(refused)
            except (ApiUnreachable, _Ended) as error:
                self._fail(str(error))
            except Exception:
                # An answer that is no JSON, or not of Kubernetes' shape: some gateway's, so it may pass.
                _log.exception("the answer to %s was not understood", self._path)
                self._fail(f"the answer to {self._path} was not understood")
            if loop.time() - began_s >= 1.0:
                delay_s = _DELAY_MIN_S
            # Even a watch that ends in good order may not be reopened in a tight loop.
            elif wait_s == 0.0:
                delay_s = min(2 * delay_s, _DELAY_MAX_S)
            await asyncio.sleep(max(wait_s, delay_s * random.uniform(0.5, 1.0)))

    async def _list_and_watch(self) -> None:
        if self._resource_version is None:
            self._resource_version = await self._list()
        try:
            await self._watch()
        except RequestRefused as refused:
            # Whatever the server has against this version, expired or from before a restored backup, a new list
            # mends it; only a busy server is to be spared one.
            if refused.reply.status != _BUSY:
                self._resource_version = None
            raise
        except _Ended:
            self._resource_version = None
            raise

    async def _list(self) -> str:
        """Replace the copy by what the server has now; return the version from which to watch."""
        found: dict[Key, T] = {}
        version = ""
        async with aclosing(pages(self._api, self._path, self._selected, _PAGE_OBJECTS)) as parts:
            async for listed in parts:
                found.update((_key(item), self._read(item)) for item in listed["items"])
                version = str(listed["metadata"]["resourceVersion"])
        self._objects = found
        self.version += 1
        self._hear()
        return version

    async def _watch(self) -> None:
        query = {
            **self._selected,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": _WATCH_S,
            "resourceVersion": self._resource_version,
        }
        async with aclosing(self._api.watch(f"{self._path}?{urlencode(query)}", _SILENCE_MAX_S)) as lines:
            async for line in lines:
                self._hear()
                if line:
                    self._take(orjson.loads(line))
        # The server ended it at the time that we asked for: it is there, and had nothing more to say.
        self._hear()

    def _take(self, event: dict[str, Any]) -> None:
        kind, item = event["type"], event["object"]
        if kind == "ERROR":
            raise _Ended(f"the watch of {self._path} ended, so all is listed again: {item.get('message')}")
        if kind == "DELETED":
            self._objects.pop(_key(item), None)
        elif kind != "BOOKMARK":
            self._objects[_key(item)] = self._read(item)
        self._resource_version = item["metadata"]["resourceVersion"]
        self.version += kind != "BOOKMARK"

    def _hear(self) -> None:
        self._heard_s = asyncio.get_running_loop().time()
        self._permitted = True
        self._problem = None

    def _refused(self, refused: RequestRefused) -> float:
        """Note a refusal, and return for how long to stay away, seconds."""
        if refused.reply.status == _FORBIDDEN:
            self._permitted = False
            self._problem = str(refused)
            # Once: where only the watch is refused, the list goes well each minute before it.
            if self._forbidden != self._problem:
                _log.warning("%s; each object is read when it is needed instead", refused)
            self._forbidden = self._problem
            # What we are no longer allowed to see may change unseen.
            self._objects, self._resource_version, self._heard_s = {}, None, None
            self.version += 1
            return _FORBIDDEN_DELAY_S
        self._fail(str(refused))
        return refused.reply.retry_after_s or 0.0

    def _fail(self, problem: str) -> None:
        if problem != self._problem:
            _log.warning("%s", problem)
        self._problem = problem


def _key(item: dict[str, Any]) -> Key:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
