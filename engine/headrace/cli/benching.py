"""The command that measures Headrace on the cluster it runs on: bench."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.output import console, say
from headrace.model.errors import HeadraceError

if TYPE_CHECKING:
    from headrace.bench.figures import Figure
    from headrace.bench.ground import Ground
    from headrace.settings import Settings


class Row(StrEnum):
    """What can be measured on anybody's cluster; the repository's benchmarks have more."""

    SINGLES = "singles"
    PAIRS = "pairs"
    LATENCY = "latency"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench)


def bench(
    rows: Annotated[list[Row] | None, typer.Argument(metavar="[ROW]…", help="singles, pairs, latency; or all.")] = None,
    namespace: Annotated[
        str | None, typer.Option(help="Where Workflows are created; default the kubeconfig context's.")
    ] = None,
    sets: Annotated[int, typer.Option(help="Sets of events for each repetition.", min=10)] = 1000,
    repetitions: Annotated[int, typer.Option(help="How often, in turn with the baseline.", min=1)] = 3,
    yes: Annotated[bool, typer.Option("--yes", help="Create what is listed without asking.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file, too.")] = None,
) -> None:
    """Measure the roles that run here, beside bare Kafka and bare API calls; what it creates, it removes."""
    from headrace.bench.durability import durability
    from headrace.bench.ground import Ground
    from headrace.bench.report import DURABILITY, document, machine, table
    from headrace.cli.options import connected
    from headrace.edges.kube.credentials import configured
    from headrace.edges.kube.namespace import default_namespace
    from headrace.model.errors import TargetError

    settings = connected()
    if not configured():
        raise TargetError("no Kubernetes is configured, and a bench creates Workflows: set KUBECONFIG")
    _check_roles(settings)
    ground = Ground(settings, namespace or default_namespace())
    chosen = list(dict.fromkeys(rows or Row))
    console.print(f"On {settings.bootstrap_servers} and the cluster of the kubeconfig this will create, and remove:")
    for line in (*ground.what_it_makes(), _load(chosen, sets, repetitions)):
        console.print(f"    {line}", markup=False, soft_wrap=True)
    console.print("What stays: its records in the internal topics, until their retention ends.")
    if not yes and not sys.stdin.isatty():
        raise HeadraceError("nothing was created: say --yes to agree to the list above")
    if not yes:
        typer.confirm("Go on?", abort=True)
    checked = durability(settings)
    with ground:
        results = [figure for row in chosen for figure in _measure(row, ground, sets, repetitions)]
    console.print(f"{machine()}\n{DURABILITY} {checked}\n", markup=False, highlight=False, soft_wrap=True)
    console.print(table(results), markup=False, highlight=False, soft_wrap=True)
    if json_file is not None:
        json_file.write_bytes(document(results, None, checked))
        say(f"all of it, as JSON: {json_file}")


def _check_roles(settings: Settings) -> None:
    from headrace.operations.listing import role_statuses
    from headrace.roles.start import OPTIONAL_ROLES, ROLES

    ready = {status["role"] for status in role_statuses(settings) if status["ready"]}
    missing = [role for role in ROLES if role not in ready and role not in OPTIONAL_ROLES]
    if missing:
        raise HeadraceError(
            f"there is no {missing[0]} that is ready, and a bench measures what runs: `headrace status`"
        )


def _load(rows: list[Row], sets: int, repetitions: int) -> str:
    from headrace.bench.latency import ARRIVALS

    # Each row but latency, in which sets arrive in several ways, makes the sets once bare and once by Headrace.
    kinds = sum(len(ARRIVALS) if row is Row.LATENCY else 1 for row in rows)
    return f"some {2 * sets * repetitions * kinds:,} Workflows in all, and twice as many events"


def _measure(row: Row, ground: Ground, sets: int, repetitions: int) -> list[Figure]:
    from headrace.bench.ground import PAIR, SINGLE
    from headrace.bench.latency import ARRIVALS, latency
    from headrace.bench.sustained import sustained

    match row:
        case Row.SINGLES:
            return [sustained(ground, SINGLE, sets, repetitions)]
        case Row.PAIRS:
            return [sustained(ground, PAIR, sets, repetitions)]
        case Row.LATENCY:
            return [figure for arrival in ARRIVALS for figure in latency(ground, arrival, sets, repetitions)]
