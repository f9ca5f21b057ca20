"""The command `headrace`."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import click
import typer

from headrace.cli import dead_letters, listings, running, triggers
from headrace.cli.output import say
from headrace.model.errors import HeadraceError

app = typer.Typer(
    name="headrace",
    help="Events from Kafka start workflows. Each complete set of events starts one run, exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for part in (running, triggers, listings, dead_letters):
    part.register(app)


@app.callback()
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False) -> None:
    if version:
        from importlib.metadata import version as version_of

        print(version_of("headrace"))
        raise typer.Exit


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 it could not be done, 2 wrong usage."""
    try:
        app(standalone_mode=False)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except click.ClickException as wrong:
        wrong.show()
        sys.exit(wrong.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        # The reader has seen enough, as in `headrace events x | head`.
        sys.stderr.close()
        sys.exit(0)
    except HeadraceError as error:
        logging.getLogger(__name__).debug("the command failed", exc_info=True)
        say(f"headrace: {error}")
        sys.exit(1)
