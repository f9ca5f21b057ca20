"""`headrace demo`: everything in one terminal, and in a directory and a Kafka of its own."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import headrace
from headrace.cli.demo.flow_runs import metaflow_environment, require_metaflow
from headrace.cli.demo.plan import FLOWS
from headrace.cli.demo.screen import Display, Lines, Screen
from headrace.cli.demo.session import Session, SessionStalled
from headrace.cli.demo.summary import print_findings, print_logs, print_tail, print_times
from headrace.cli.demo.verdict import findings, other_problems
from headrace.cli.interruption import interruptible
from headrace.cli.options import quiet
from headrace.cli.output import console, say
from headrace.cli.supervisor import everything
from headrace.cli.triggers import trigger_sentence
from headrace.edges.kafka.trigger_feed import read_triggers
from headrace.edges.trigger_file import load_triggers
from headrace.model.errors import HeadraceError
from headrace.model.trigger import TriggerRecord
from headrace.operations import deploy as operation
from headrace.settings import Settings

EXAMPLES = Path(headrace.__file__).parent / "examples"
TRIGGER_FILES = ("model_refresh.yaml", "daily_margin.yaml")
FINDINGS_SHOWN_MAX = 30
ROLES_LOG = "roles.log"
DEPLOY_TIMEOUT_S = 90.0
"""The routers start while the triggers are deployed."""
_FOREIGN = ("HEADRACE_", "METAFLOW_", "KUBE")


def demonstrate(once: bool, state: Path | None, port: int | None) -> int:
    """Run the demo and return the exit code.

    Raises:
        HeadraceError: Metaflow is missing, or Headrace could not be started.
    """
    require_metaflow()
    directory = state.resolve() if state is not None else Path(tempfile.mkdtemp(prefix="headrace-demo-"))
    directory.mkdir(parents=True, exist_ok=True)
    keep_to_itself(directory)
    code = 1
    try:
        code = _demonstrate(once, directory, port)
    except HeadraceError:
        roles_log = directory / ROLES_LOG
        if roles_log.exists() and roles_log.stat().st_size:
            print_tail(console, roles_log)
        raise
    finally:
        if state is None and code == 0:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            say(f"what it left is in {directory}")
    return code


def keep_to_itself(directory: Path) -> None:
    """Make this process, and all that it starts, work in `directory` alone, whatever a person's settings are.

    The demo publishes events whose names may well exist, so it must never meet a Kafka, a cluster or a Metaflow
    datastore that is in use.
    """
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]
    os.environ.update(metaflow_environment(directory))
    os.environ.update(
        {
            "HEADRACE_STATE": str(directory),
            "HEADRACE_LOCAL_RUNS": str(_processors()),
            # Nothing comes by HTTP here, and the usual port may be taken.
            "HEADRACE_INGRESS_ADDRESS": "127.0.0.1:0",
            # It is no file, so there are no credentials, and the default file is not looked for.
            "KUBECONFIG": os.devnull,
        }
    )


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 2


def _demonstrate(once: bool, directory: Path, port: int | None) -> int:
    session: Session | None = None
    stalled: SessionStalled | None = None
    with interruptible() as interruption, (directory / ROLES_LOG).open("a") as log:
        with suppress(KeyboardInterrupt), everything(dict(os.environ), port, log) as settings:
            settings = quiet(settings)
            triggers = deploy_examples(settings)
            session = Session(settings, triggers, endlessly=not once)
            hint = _hint(directory, once)
            console.print(f"\n{hint}\n", markup=False, soft_wrap=True)
            display: Display = Screen(console, hint) if sys.stdout.isatty() else Lines(console)
            try:
                with session, display:
                    session.run(display)
            except SessionStalled as error:
                stalled = error
            interruption.disarm()
        interrupted = interruption.came
    if session is None:
        say("the demo was interrupted before it began")
        return 1 if once else 0
    session.read_back_all()
    if once and not interrupted:
        return _conclude(session, stalled, directory / ROLES_LOG)
    return _conclude_interrupted(session, once)


def deploy_examples(settings: Settings) -> list[TriggerRecord]:
    """Deploy the examples, as `headrace deploy` does, and say what will start them.

    Raises:
        HeadraceError: the routers did not confirm in time.
    """
    say("deploying the examples")
    paths = [EXAMPLES / name for name in TRIGGER_FILES]
    loaded = [trigger for path in paths for trigger in load_triggers(path.read_text(), str(path), path.parent)]
    # In a state directory that was used before, something may wait still; deployed anew, they begin with nothing.
    for name in read_triggers(settings).keys() & FLOWS.keys():
        operation.delete(settings, name)
    records = operation.deploy(settings, loaded, "demo", DEPLOY_TIMEOUT_S)
    console.print("What will trigger execution:")
    for record in records:
        console.print(f"    {trigger_sentence(record, settings)}", markup=False, soft_wrap=True)
    return records


def _hint(directory: Path, once: bool) -> str:
    command = _command()
    first = "" if once else "Ctrl-C ends it. "
    return (
        f"{first}In a second terminal, `export HEADRACE_STATE={directory}`, and then\n"
        f"    {command} runs --follow\n"
        f"    {command} publish data_updated -p table=sales -p region=north -p rows=5000 -p days=14"
    )


def _command() -> str:
    """Return how a second terminal in the same directory starts this very command."""
    here = Path(sys.argv[0])
    found = shutil.which(here.name)
    if found is not None and here.exists() and Path(found).samefile(here):
        return here.name
    if here.name != "headrace":
        return f"{sys.executable} -m headrace"
    relative = os.path.relpath(here)
    return str(here) if relative.startswith("..") else relative


def _conclude(session: Session, stalled: SessionStalled | None, roles_log: Path) -> int:
    found = findings(session.expectations, session.board)
    problems = [] if stalled is None else [str(stalled)]
    problems.extend(other_problems(session.expectations, session.board))
    print_findings(console, found)
    print_times(console, found)
    right = sum(finding.problem is None for finding in found)
    joined = sum(finding.problem is None and len(finding.labels) > 1 for finding in found)
    board, expected = session.board, len(session.expectations.runs)
    aside = len(session.expectations.set_aside)
    waiting = len(session.expectations.waiting)
    console.print(
        f"Published: {session.published} events, {session.repeated} of them for the second time. Expected: {expected} "
        f"runs, {aside} dead letter, {waiting} events that wait for a partner. Seen: {len(board.runs)} runs, {right} "
        f"succeeded with the right parameters, {joined} of those from two events.",
    )
    if right == expected == len(found) and not problems:
        console.print("[bold green]Everything is as expected.[/bold green]")
        return 0
    for problem in problems:
        console.print(f"Problem: {problem}", markup=False)
    print_logs(console, found, roles_log)
    wrong = len(found) - right
    console.print(f"\n[bold red]Not as expected: {wrong} runs, {len(problems)} other things.[/bold red]")
    return 1


def _conclude_interrupted(session: Session, once: bool) -> int:
    every = findings(session.expectations, session.board)
    ended = [finding for finding in every if finding.seen is not None and finding.seen.run.ended]
    expected = [finding for finding in ended if finding.expected]
    print_findings(console, expected[-FINDINGS_SHOWN_MAX:])
    print_times(console, ended)
    wrong = [finding for finding in expected if finding.problem is not None]
    others = len(ended) - len(expected)
    console.print(
        f"Interrupted after {session.published} events. Of the runs expected, {len(expected)} had ended, "
        f"{len(expected) - len(wrong)} of them with the right parameters; {others} more came of other events.",
    )
    if once:
        console.print("[bold red]Not all that was expected could be seen.[/bold red]")
    return 1 if once or wrong else 0
