"""Commands for triggers: deploy, triggers, delete, resume, publish."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from headrace.cli.options import Json, connected
from headrace.cli.output import console, print_json, print_table, say
from headrace.edges.kube.namespace import default_namespace
from headrace.edges.trigger_file import LoadedTrigger, load_triggers
from headrace.model.errors import HeadraceError, TriggerError
from headrace.model.names import check_event_name, trigger_name
from headrace.model.times import duration_text
from headrace.model.trigger import TriggerRecord
from headrace.settings import Settings

if TYPE_CHECKING:
    from headrace.edges.kube.deployed_flow import DeployedFlow

DELIVERY_TIMEOUT_S = 35.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("deploy")(deploy)
    app.command("triggers")(list_triggers)
    app.command("delete")(delete)
    app.command("resume")(resume)
    app.command("publish")(publish)


def deploy(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE…", help="Trigger files (YAML), Metaflow files (.py), or - for standard input."),
    ],
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the routers.", min=0)] = 30.0,
    local: Annotated[
        bool, typer.Option("--local", help="Run Metaflow files on this machine, even where Kubernetes is configured.")
    ] = False,
    drop_held: Annotated[
        bool, typer.Option("--drop-held", help="Resume paused triggers without the firings that the pause held.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Deploy triggers and wait until the routers listen."""
    from headrace.operations import deploy as operation

    if local and not any(_is_flow(file) for file in files):
        raise typer.BadParameter(
            "it is for Metaflow files (.py); a trigger file names its own target", None, None, "--local"
        )
    loaded = [trigger for file in files for trigger in _load(file, local)]
    settings = connected()
    records = operation.deploy(settings, loaded, default_namespace(), timeout, drop_held=drop_held)
    for record in records:
        if as_json:
            print_json(orjson.Fragment(record.encode()))
        else:
            console.print(f"[bold]{record.name}[/bold] deployed (generation {record.generation})")
    if not as_json:
        console.print("What will trigger execution:")
        for record in records:
            console.print(f"    {trigger_sentence(record, settings)}", markup=False, soft_wrap=True)
    for trigger in loaded:
        if isinstance(trigger, LoadedTrigger) and trigger.note is not None:
            # A program reads records on standard output, and nothing else.
            if as_json:
                say(trigger.note)
            else:
                console.print(trigger.note, markup=False, soft_wrap=True)


def _is_flow(file: str) -> bool:
    return Path(file).suffix == ".py"


def _load(file: str, local: bool) -> Sequence[LoadedTrigger | DeployedFlow]:
    if file == "-":
        return load_triggers(sys.stdin.read(), "standard input", Path.cwd())
    path = Path(file)
    if _is_flow(file):
        return [_load_flow(file, local)]
    try:
        return load_triggers(path.read_text(), file, path.resolve().parent)
    except (OSError, UnicodeDecodeError) as error:
        raise TriggerError(f"{file} cannot be read: {error}") from None


def _load_flow(file: str, local: bool) -> LoadedTrigger | DeployedFlow:
    from headrace.edges.kube.credentials import configured
    from headrace.edges.kube.deployed_flow import find_deployed
    from headrace.edges.local.flow_file import inspect_file, load_flow

    if local or not configured():
        return load_flow(file)
    try:
        return asyncio.run(find_deployed(inspect_file(file)))
    except TriggerError as error:
        raise TriggerError(f"{file}: {error}") from None


def trigger_sentence(record: TriggerRecord, settings: Settings) -> str:
    """Say what a trigger starts, and when."""
    spec = record.spec
    names = [dependency.name for dependency in spec.events]
    events = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    held = " (paused: its runs are held)" if spec.paused else ""
    target = f"{spec.run.kind} {spec.run.target}"
    if len(names) == 1:
        return f"{record.name} starts {target} when the event {events} is published{held}."
    keys = [dependency.key for dependency in spec.events if dependency.key is not None]
    same = f" with the same {' = '.join(dict.fromkeys(keys))}" if keys else ""
    window = spec.window or duration_text(settings.window_ms)
    return f"{record.name} starts {target} when {events} are published within {window} of each other{same}{held}."


def list_triggers(as_json: Json = False) -> None:
    """List the deployed triggers."""
    from headrace.edges.kafka.trigger_feed import read_registry

    settings = connected()
    registry = [held for _, held in sorted(read_registry(settings).items())]
    if as_json:
        for record in registry:
            print_json(orjson.Fragment(record.encode()))
        return
    print_table(
        ["TRIGGER", "EVENTS", "WINDOW", "MATCH", "RUNS", "GENERATION", "STATE"],
        [
            _row(held, settings)
            if isinstance(held, TriggerRecord)
            else (held.name, "-", "-", "-", "-", "-", f"refused: {held.refused}")
            for held in registry
        ],
        "no trigger is deployed: `headrace deploy FILE` deploys one",
    )


def _row(record: TriggerRecord, settings: Settings) -> tuple[object, ...]:
    joins = len(record.spec.events) > 1
    return (
        record.name,
        " + ".join(dependency.name for dependency in record.spec.events),
        record.spec.window or duration_text(settings.window_ms) if joins else "-",
        record.spec.match if joins else "-",
        f"{record.spec.run.kind}:{record.spec.run.target}",
        record.generation,
        "paused" if record.spec.paused else "active",
    )


def delete(name: Annotated[str, typer.Argument(metavar="NAME", help="[namespace/]name")]) -> None:
    """Delete a trigger."""
    from headrace.operations import deploy as operation

    full = trigger_name(name, default_namespace())
    operation.delete(connected(), full)
    console.print(f"[bold]{full}[/bold] deleted; what it has fired already still runs")


def resume(event: Annotated[str, typer.Argument(metavar="EVENT")]) -> None:
    """Let an event topic that stopped, since its offsets were lost, go on with what is there."""
    from headrace.operations import deploy as operation

    operation.resume(connected(), event, console.print)


def publish(
    event: Annotated[str, typer.Argument(metavar="EVENT")],
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="A field; JSON if it parses.")
    ] = None,
    payload: Annotated[str | None, typer.Option(help="The payload: JSON, @FILE, or - for standard input.")] = None,
    key: Annotated[str | None, typer.Option(help="The Kafka record's key.")] = None,
    event_id: Annotated[str | None, typer.Option("--id", help="The event's id; default a new UUID.")] = None,
    time: Annotated[str | None, typer.Option(help="The event's time, RFC 3339; default now.")] = None,
) -> None:
    """Publish one event and wait until Kafka has it; prints its id."""
    from headrace_publisher import Delivery, Publisher
    from headrace_publisher.errors import HeadracePublisherError

    check_event_name(event)
    fields = _payload(payload)
    for text in parameter or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="-p")
        fields[name] = _json_or_text(value)
    settings = connected()
    try:
        with Publisher(settings.bootstrap_servers) as publisher:
            failures: list[Delivery] = []
            published = publisher.publish(
                event,
                fields,
                key=key,
                id=event_id,
                time=time,
                on_delivery=lambda delivery: failures.append(delivery) if delivery.error is not None else None,
            )
            left = publisher.flush(DELIVERY_TIMEOUT_S)
    except HeadracePublisherError as error:
        raise HeadraceError(str(error)) from None
    if failures:
        # The publisher has said on stderr which event was not delivered, and why: one sentence is enough.
        raise typer.Exit(1)
    if left:
        raise HeadraceError(f"the event {published} was not delivered within {DELIVERY_TIMEOUT_S:.0f} s")
    print(published)


def _payload(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    source = "--payload"
    if text == "-":
        text, source = sys.stdin.read(), "standard input"
    elif text.startswith("@"):
        source = text[1:]
        try:
            text = Path(source).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise HeadraceError(f"{source} cannot be read: {error}") from None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise HeadraceError(f"{source} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise HeadraceError(f"{source} is no JSON object: an event's payload is one")
    return value


def _json_or_text(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
