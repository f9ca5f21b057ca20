"""Tells what a Metaflow flow declares: `python flow_inspector.py FLOW` prints one JSON object.

It runs in a process of its own, under the Python that has Metaflow, so it imports nothing of ours. The flow is started
as `python FLOW` would start it, with one more command on Metaflow's own command line, which answers. So configurations,
mutators and decorators have done their work by then, exactly as before a run. The answer has the keys name, parameters,
triggers, project, branch, namespace and line (see `flow_inspection`), or only the key error.
"""

from __future__ import annotations

import functools
import importlib
import inspect
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
            answer = _add_command()
        except ImportError as error:
            return {"error": f"{sys.executable} has no Metaflow ({error}): install it there, or set another Python"}
        sys.argv = [flow_file, _COMMAND]
        return _run(flow_file, answer)


def _add_command() -> dict[str, Any]:
    """Add our command to the command line of the flow that starts next; return the object that it will fill in."""
    flow_spec: Any = importlib.import_module("metaflow").FlowSpec
    flow_context = importlib.import_module("metaflow.parameters").flow_context
    answer: dict[str, Any] = {}
    start_flow = flow_spec.__init__

    def start_flow_with_our_command(flow: Any, use_cli: bool = True) -> None:
        if use_cli:
            # Its module reads the flow's configurations when it is first imported, so it must know the flow by then.
            with flow_context(type(flow)):
                command_line = importlib.import_module("metaflow.cli")
            _extend(command_line, answer)
        start_flow(flow, use_cli)

    flow_spec.__init__ = start_flow_with_our_command
    return answer


def _extend(command_line: Any, answer: dict[str, Any]) -> None:
    @command_line.cli.command(name=_COMMAND)  # type: ignore[untyped-decorator]
    @command_line.click.pass_obj  # type: ignore[untyped-decorator]
    def describe(state: Any) -> None:
        answer.update(_description(state.flow))

    # Metaflow prints what a flow's author did wrong, and exits; we have to tell it ourselves.
    command_line.main = functools.partial(command_line.main, handle_exceptions=False)


def _run(flow_file: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Run the flow's file, and return the answer or what kept it from being given."""
    code: object = None
    try:
        runpy.run_path(flow_file, run_name="__main__")
    except SystemExit as end:
        code = end.code
    except BaseException as error:
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
    current = importlib.import_module("metaflow").current
    return {
        "name": flow.name,
        "parameters": [parameter.name for parameter in parameters if not parameter.IS_CONFIG_PARAMETER],
        "triggers": [_trigger(name, found) for name in _TRIGGER_DECORATORS for found in decorators.get(name, [])],
        "project": current.get("project_name"),
        "branch": current.get("branch_name"),
        "namespace": importlib.import_module("metaflow.metaflow_config").KUBERNETES_NAMESPACE,
        "line": _line(type(flow)),
    }


def _line(flow_class: type) -> int | None:
    """Return the line where the flow's class begins, its decorators included; None where Python cannot tell."""
    try:
        return inspect.getsourcelines(flow_class)[1]
    except (OSError, TypeError):
        return None


def _trigger(name: str, decorator: Any) -> dict[str, Any]:
    try:
        # Runs the functions that give an event's name or parameters only when the flow is deployed.
        decorator.format_deploytime_value()
        triggers = json.loads(json.dumps(decorator.triggers))
    except Exception as error:
        return {"decorator": name, "error": f"@{name} cannot be evaluated: {error}"}
    options = sorted(decorator.attributes.get("options") or {})
    return {"decorator": name, "triggers": triggers, **({"options": options} if options else {})}


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
