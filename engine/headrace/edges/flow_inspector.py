"""Tells what a Metaflow flow declares: `python flow_inspector.py FLOW` prints one JSON object.

It runs in a process of its own, under the Python that has Metaflow, so it imports nothing of ours. The flow is started
as `python FLOW` would start it, with one more command on Metaflow's own command line, which answers. So configurations,
mutators and decorators have done their work by then, exactly as before a run. The answer has the keys name, parameters
and triggers (see `flow_inspection`), or only the key error.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import runpy
import sys
import tempfile
import traceback
from typing import Any

_COMMAND = "headrace-inspect"
_TRIGGER_DECORATORS = ("trigger", "trigger_on_finish")


def main(flow_file: str) -> dict[str, Any]:
    """Return the answer for one flow file, given by its absolute path."""
    # As Python does for the flow itself: its neighbours can be imported, ours cannot.
    if sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        sys.path[0] = os.path.dirname(flow_file)
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory() as directory:
        # Metaflow would create its local datastore in the working directory.
        os.environ.setdefault("METAFLOW_DATASTORE_SYSROOT_LOCAL", directory)
        try:
            metaflow_cli = importlib.import_module("metaflow.cli")
        except ImportError as error:
            return {"error": f"{sys.executable} has no Metaflow ({error}): install it there, or set another Python"}
        return _answer(flow_file, metaflow_cli)


def _answer(flow_file: str, metaflow_cli: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {}

    @metaflow_cli.cli.command(name=_COMMAND)  # type: ignore[untyped-decorator]
    @metaflow_cli.click.pass_obj  # type: ignore[untyped-decorator]
    def describe(state: Any) -> None:
        answer.update(_description(state.flow))

    # Metaflow prints what a flow's author did wrong, and exits; we have to tell it ourselves.
    metaflow_cli.main = functools.partial(metaflow_cli.main, handle_exceptions=False)
    sys.argv = [flow_file, _COMMAND]
    code: object = None
    try:
        runpy.run_path(flow_file, run_name="__main__")
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        traceback.print_exc()
        what = str(error) or type(error).__name__
        if type(error).__module__.startswith("metaflow."):
            return {"error": f"Metaflow refuses the flow {flow_file}: {what}{_place(error, flow_file)}"}
        return {"error": f"the flow {flow_file} fails: {type(error).__name__}: {what}{_place(error, flow_file)}"}
    if answer:
        return answer
    if code:
        return {"error": f"the flow {flow_file} exits before Metaflow can read it: {code}"}
    return {"error": f"{flow_file} starts no flow: it has to end in `if __name__ == '__main__':` and `YourFlow()`"}


def _description(flow: Any) -> dict[str, Any]:
    parameters = [parameter for _, parameter in flow._get_parameters()]
    decorators = flow._flow_decorators
    return {
        "name": flow.name,
        "parameters": [parameter.name for parameter in parameters if not parameter.IS_CONFIG_PARAMETER],
        "triggers": [_trigger(name, found) for name in _TRIGGER_DECORATORS for found in decorators.get(name, [])],
    }


def _trigger(name: str, decorator: Any) -> dict[str, Any]:
    try:
        # Runs the functions that give an event's name or parameters only when the flow is deployed.
        decorator.format_deploytime_value()
        triggers = json.loads(json.dumps(decorator.triggers))
    except Exception as error:
        return {"decorator": name, "error": f"@{name} cannot be evaluated: {error}"}
    return {"decorator": name, "triggers": triggers}


def _place(error: BaseException, flow_file: str) -> str:
    """Say where in the flow's own file the error came up."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == flow_file]
    return f" (line {lines[-1]})" if lines else ""


if __name__ == "__main__":
    # What the flow prints when it is imported must not get between: it goes to standard error.
    answer_fd = os.dup(1)
    os.dup2(2, 1)
    text = json.dumps(main(sys.argv[1]))
    with os.fdopen(answer_fd, "w", encoding="utf-8") as output:
        output.write(text)
    # Threads that the flow's imports started must not keep us.
    sys.stderr.flush()
    os._exit(0)
