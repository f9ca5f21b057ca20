"""Commands that run Headrace: up, run, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("up")(up)
    app.command("run")(run)
    app.command("demo")(demo)


def up(
    state: Annotated[Path | None, typer.Option(help="State directory; default ./.headrace.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the embedded Kafka; default 9092.")] = None,
) -> None:
    """Run everything in this terminal: an embedded Kafka (unless one is configured) and all roles."""
    from headrace.cli.supervisor import supervise

    raise typer.Exit(supervise(state, port))


def run(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="route, join, submit, ingress or sync")],
    if_wanted: Annotated[bool, typer.Option("--if-wanted", hidden=True)] = False,
) -> None:
    """Run one role until it is told to stop."""
    from headrace.cli.options import connected
    from headrace.roles.start import ROLES, configure_logging, start_role

    if role not in ROLES:
        raise typer.BadParameter(f"there is no role {role}; there are {', '.join(ROLES)}", param_hint="ROLE")
    configure_logging(role)
    start_role(role, connected(), if_wanted=if_wanted)


def demo(
    once: Annotated[bool, typer.Option("--once", help="End by itself: 0 if every expected run succeeded.")] = False,
    state: Annotated[Path | None, typer.Option(help="Directory to work in and keep; default a temporary one.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the demo's own Kafka; default a free one.")] = None,
) -> None:
    """Show it all: a Kafka of its own, two Metaflow flows, a stream of events, and the runs that come of it."""
    from headrace.cli.demo.command import demonstrate

    raise typer.Exit(demonstrate(once, state, port))
