"""Children: measured loops run in processes of their own, as roles do, so that they share no interpreter lock."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from headrace.model.errors import HeadraceError

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


class ChildFailed(HeadraceError):
    """A process of the bench ended, or did not answer in time."""


class Child:
    """One process that runs `work(connection, *arguments)`; what it needs to say, it sends."""

    def __init__(self, work: Callable[..., None], *arguments: Any) -> None:
        """Start nothing yet; `work` is a module's function, and the arguments can be pickled."""
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._there: Connection | None = there
        self.process = context.Process(target=_run, args=(work, there, arguments), daemon=True)

    def __enter__(self) -> Self:
        self.process.start()
        if self._there is not None:
            self._there.close()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._here.close()
        self.process.join(STOP_TIMEOUT_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def hear(self, timeout_s: float = START_TIMEOUT_S) -> Any:
        """Return the next thing that the child says.

        Raises:
            ChildFailed: it failed, ended, or said nothing in time.
        """
        try:
            if not self._here.poll(timeout_s):
                raise ChildFailed(f"a process of the bench said nothing for {timeout_s:g} s")
            said = self._here.recv()
        except EOFError:
            raise ChildFailed("a process of the bench ended without a word; see what it wrote to stderr") from None
        if isinstance(said, _Failure):
            raise ChildFailed(f"a process of the bench failed:\n{said.trace}")
        return said

    def say(self, what: Any = None) -> None:
        """Tell the child something; what that means is between the two."""
        self._here.send(what)


class _Failure:
    def __init__(self, trace: str) -> None:
        self.trace = trace


def _run(work: Callable[..., None], connection: Connection, arguments: tuple[Any, ...]) -> None:
    try:
        work(connection, *arguments)
    except (EOFError, KeyboardInterrupt):
        return  # The parent has gone, and wants no more.
    except BaseException:
        connection.send(_Failure(traceback.format_exc()))


def result_of(work: Callable[..., None], *arguments: Any, timeout_s: float = 600.0) -> Any:
    """Run `work` in a process of its own and return the one thing that it says."""
    with Child(work, *arguments) as child:
        return child.hear(timeout_s)


def wait_for(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return once `condition` holds.

    Raises:
        ChildFailed: it does not within `timeout_s` seconds.
    """
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise ChildFailed(f"{what} did not happen within {timeout_s:g} s")
        time.sleep(0.02)
