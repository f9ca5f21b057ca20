"""The command `headrace`."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from headrace.cli import benching, dead_letters, listings, running, triggers
from headrace.cli.output import say
from headrace.model.errors import HeadraceError

app = typer.Typer(
    name="headrace",
    help="Events from Kafka start workflows. Each complete set of events starts one run, exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for part in (running, triggers, listings, dead_letters, benching):
    part.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("headrace"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Options of the command itself; the subcommands do the work."""


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 it could not be done, 2 wrong usage."""
    try:
        app()
    except HeadraceError as error:
        logging.getLogger(__name__).debug("the command failed", exc_info=True)
        say(f"headrace: {error}")
        sys.exit(1)
