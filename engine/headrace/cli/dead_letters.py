"""Commands for dead letters: list, show, retry."""

from __future__ import annotations

import base64
from typing import Annotated

import orjson
import typer

from headrace.cli.options import Json, connected
from headrace.cli.output import clock, console, print_json, print_table

commands = typer.Typer(help="What was set aside, with its reason: list, show, retry.", invoke_without_command=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="deadletters")


@commands.callback()
def _default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_letters()


@commands.command("list")
def list_letters(as_json: Json = False) -> None:
    """List the dead letters."""
    from headrace.operations.listing import dead_letters

    letters = list(dead_letters(connected()).values())
    if as_json:
        for letter in letters:
            print_json(orjson.Fragment(letter.encode()))
        return
    print_table(
        ["ID", "TIME", "KIND", "REASON", "RECORD", "TRIGGER", "MESSAGE"],
        [
            (
                x.id,
                clock(x.time_ms),
                x.kind,
                x.reason,
                f"{x.topic}:{x.partition}:{x.offset}",
                x.trigger or "-",
                x.message,
            )
            for x in letters
        ],
        "no dead letters",
    )


@commands.command("show")
def show(letter_id: Annotated[str, typer.Argument(metavar="ID")], as_json: Json = False) -> None:
    """Show one dead letter whole, its original bytes included."""
    from headrace.operations.retry import find

    letter = find(connected(), letter_id)
    if as_json:
        print_json(orjson.Fragment(letter.encode()))
        return
    for name, value in letter.model_dump(exclude={"value", "headers", "key", "version"}, exclude_none=True).items():
        console.print(f"{name:<10} {value}", markup=False, soft_wrap=True)
    for name, text in letter.headers:
        console.print(f"header     {name}: {base64.b64decode(text).decode('utf-8', 'replace')}", markup=False)
    if letter.value is None:
        console.print("value      too large to keep; it is where `topic`, `partition` and `offset` say")
    else:
        value = base64.b64decode(letter.value).decode("utf-8", "backslashreplace")
        console.print(f"value      {value}", markup=False, soft_wrap=True)


@commands.command("retry")
def retry(
    letter_ids: Annotated[list[str] | None, typer.Argument(metavar="ID…")] = None,
    every: Annotated[bool, typer.Option("--all", help="Retry every dead letter that holds its bytes.")] = False,
) -> None:
    """Send dead letters back to where they came from."""
    from headrace.operations.listing import dead_letters
    from headrace.operations.retry import find
    from headrace.operations.retry import retry as send

    if not letter_ids and not every:
        raise typer.BadParameter("name the dead letters, or say --all")
    settings = connected()
    found = list(dead_letters(settings).values()) if every else [find(settings, i) for i in letter_ids or []]
    for letter in found:
        if every and letter.value is None:
            continue
        console.print(f"{letter.id} sent to {send(settings, letter)}")
