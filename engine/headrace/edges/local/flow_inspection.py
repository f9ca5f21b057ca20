"""What a flow file declares, as Metaflow itself reads it, remembered until the file changes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from headrace.edges.local import flow_inspector
from headrace.edges.local.flow_user import environment_with_user
from headrace.model.errors import TargetError

# Importing a flow imports what it needs, and that may be a deep-learning framework on a cold disk.
INSPECTION_TIMEOUT_S = 120.0
_REMEMBERED_MAX = 256
_ERROR_BYTES_SHOWN = 500


@dataclass(frozen=True, slots=True)
class FlowInspection:
    """What a flow declares."""

    name: str
    """The flow's name, which is its class's."""
    parameters: frozenset[str]
    """Names of its parameters, as its command line has them."""
    triggers: tuple[dict[str, Any], ...]
    """Its @trigger and @trigger_on_finish, each with `decorator`, the name without '@', and `triggers`, the list that
    Metaflow makes of its attributes when it deploys the flow; or with `error` in place of that list. Where the
    decorator has options, `options` lists their names."""
    project: str | None = None
    """Its @project's name."""
    branch: str | None = None
    """The branch of its project where no branch is asked for, such as `user.alice`."""
    namespace: str = "default"
    """The Kubernetes namespace in which Metaflow, as it is configured, deploys flows."""
    line: int | None = field(default=None, compare=False)
    """The line of its file where its class begins, decorators included, if known."""


class _Version(NamedTuple):
    """One state of one file, as one interpreter reads it."""

    python: str
    path: Path
    modified_ns: int
    size_bytes: int


_remembered: dict[_Version, FlowInspection] = {}
_under_way: dict[_Version, asyncio.Task[FlowInspection]] = {}


async def inspect_flow(path: Path, python: str = sys.executable) -> FlowInspection:
    """Return what the flow in file `path` declares; the file's code is run, as an import, in a process of its own.

    Args:
        python: the interpreter that has Metaflow, as a path or a command's name.

    Raises:
        TargetError: there is no such file, it holds no flow, or it cannot be imported.
    """
    version = _version(path, python)
    known = _remembered.get(version)
    if known is not None:
        return known
    # Many firings may ask for one flow at once; they share one process, and none of them can cancel it.
    task = _under_way.get(version)
    if task is None:
        task = asyncio.create_task(_inspect(version.path, python), name=f"inspection of {path}")
        _under_way[version] = task
        task.add_done_callback(lambda _: _under_way.pop(version, None))
    inspection = await asyncio.shield(task)
    while len(_remembered) >= _REMEMBERED_MAX:
        del _remembered[next(iter(_remembered))]
    _remembered[version] = inspection
    return inspection


def _version(path: Path, python: str) -> _Version:
    path = path.absolute()
    try:
        status = path.stat()
    except OSError as error:
        raise TargetError(f"the flow {path} cannot be read: {error.strerror}; correct run.flow") from None
    if not path.is_file():
        raise TargetError(f"the flow {path} is not a file: run.flow has to name a flow's Python file")
    return _Version(python, path, status.st_mtime_ns, status.st_size)


async def _inspect(path: Path, python: str) -> FlowInspection:
    interpreter = shutil.which(python)
    if interpreter is None:
        raise TargetError(f"the Python for local flows, {python}, does not exist: name one that has Metaflow")
    # Files, since a pipe would last until every process that the flow's import starts has let go of it.
    with tempfile.TemporaryFile() as output_file, tempfile.TemporaryFile() as error_file:
        process = await asyncio.create_subprocess_exec(
            *(interpreter, flow_inspector.__file__, str(path)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output_file,
            stderr=error_file,
            env=environment_with_user(),
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(INSPECTION_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            raise TargetError(
                f"the flow {path} was not imported within {INSPECTION_TIMEOUT_S:g} s: see what its module waits for"
            ) from None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        output_file.seek(0)
        error_file.seek(max(0, error_file.seek(0, os.SEEK_END) - _ERROR_BYTES_SHOWN))
        output, errors = output_file.read(), error_file.read()
    try:
        answer = orjson.loads(output)
    except orjson.JSONDecodeError:
        last_words = errors.decode("utf-8", "replace").strip()
        raise TargetError(
            f"the flow {path} ended {interpreter} with code {process.returncode} when imported: {last_words}"
        ) from None
    if "error" in answer:
        raise TargetError(answer["error"])
    return FlowInspection(
        answer["name"],
        frozenset(answer["parameters"]),
        tuple(answer["triggers"]),
        answer["project"],
        answer["branch"],
        answer["namespace"],
        answer["line"],
    )
