"""Commands that show what is going on: status, events, runs, lag."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from headrace.cli.options import Follow, Json, connected
from headrace.cli.output import clock, console, pairs, print_json, print_table, say
from headrace.edges.kube.namespace import default_namespace
from headrace.model.names import check_event_name, trigger_name
from headrace.model.run import Run


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("status")(status)
    app.command("events")(events)
    app.command("runs")(runs)
    app.command("lag")(lag)


def status(as_json: Json = False) -> None:
    """Show the roles that run, and why one is not ready; exit code 1 where none of its kind is."""
    from headrace.operations.listing import role_statuses
    from headrace.roles.start import OPTIONAL_ROLES, ROLES

    roles = role_statuses(connected())
    rows = [{k: role[k] for k in ("role", "pid", "host", "http", "ready", "why")} for role in roles]
    if as_json:
        for row in rows:
            print_json(row)
    else:
        print_table(
            ["ROLE", "PID", "HOST", "HTTP", "READY", "WHY NOT"],
            [(r["role"], r["pid"], r["host"], r["http"], "yes" if r["ready"] else "no", r["why"] or "") for r in rows],
            "no role runs: start them with `headrace up`, or each with `headrace run ROLE`",
        )
    ready = {role["role"] for role in roles if role["ready"]}
    wanted = [role for role in ROLES if role not in OPTIONAL_ROLES or any(one["role"] == role for one in roles)]
    missing = [role for role in wanted if role not in ready]
    if missing:
        say(f"not ready: {', '.join(missing)}")
        raise typer.Exit(1)


def events(
    event: Annotated[str, typer.Argument(metavar="EVENT")],
    follow: Follow = False,
    last: Annotated[int, typer.Option(help="Begin with the newest N of each partition.", min=0)] = 20,
    as_json: Json = False,
) -> None:
    """Show the events of a topic as the router reads them."""
    from headrace.operations import listing

    check_event_name(event)
    rows = listing.event_rows(listing.follow(connected(), event, follow=follow, last=last))
    shown = 0
    for row in rows:
        shown += 1
        if as_json:
            print_json(row)
        elif "unreadable" in row:
            place = f"{row['partition']}:{row['offset']}"
            console.print(f"{place:>8}  unreadable: {row['message']}", markup=False, soft_wrap=True)
        else:
            payload = bytes(row["payload"]).decode() if isinstance(row["payload"], bytes) else _text(row["payload"])
            console.print(f"{clock(row['time_ms'])}  {row['id']}  {payload}", markup=False, soft_wrap=True)
    if not shown:
        say(f"no events are in {event}")


def _text(fragment: Any) -> str:
    import orjson

    return orjson.dumps(fragment).decode()


def runs(
    trigger: Annotated[str | None, typer.Option(metavar="NAME", help="Only this trigger's.")] = None,
    follow: Follow = False,
    as_json: Json = False,
) -> None:
    """Show the runs, newest state each; with --follow every change as it comes."""
    from headrace.operations import listing
    from headrace.operations.deploy import require_trigger

    settings = connected()
    name = None
    if trigger is not None:
        name = trigger_name(trigger, default_namespace())
    found = listing.newest_runs(settings, name)
    if name is not None and not found:
        require_trigger(settings, name)
    if not follow:
        if as_json:
            for run in found:
                print_json(run.listing())
            return
        print_table(
            ["FIRED", "TRIGGER", "STATE", "RUN", "PARAMETERS", "WHY"],
            [(clock(r.fired_ms), r.trigger, r.state, r.run or "-", pairs(r.parameters), _why(r)) for r in found],
            "no runs yet",
        )
        return
    for run in listing.runs(listing.follow(settings, settings.topics.runs, follow=True)):
        if name is not None and run.trigger != name:
            continue
        if as_json:
            print_json(run.listing())
        else:
            line = f"{clock(run.time_ms)}  {run.trigger}  {run.state:<9} {run.run or '-'}  {pairs(run.parameters)}"
            console.print(f"{line}  {_why(run)}".rstrip(), markup=False, soft_wrap=True)


def _why(run: Run) -> str:
    return "" if run.reason is None else f"{run.reason}: {run.message}"


def lag(as_json: Json = False) -> None:
    """Show how many records each role has yet to read, by topic."""
    from dataclasses import asdict

    from headrace.operations.listing import lags

    found = lags(connected())
    if as_json:
        for row in found:
            print_json(asdict(row))
        return
    print_table(["ROLE", "TOPIC", "RECORDS"], [(row.role, row.topic, row.records) for row in found], "nothing is read")
