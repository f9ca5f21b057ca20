"""Chaos: `python -m tests.chaos`, or `make chaos`. Real parts under load, a seeded plan of faults, and a count.

Ends with 0 where every run was exact, 1 where one was not, and 3 where one proves nothing because its load was finished
before its faults came.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from tests.chaos.command import end_cleanly_when_told, provenance
from tests.chaos.run import Order, run
from tests.chaos.table import complaints, faults_table, verdicts_table
from tests.chaos.verdict import Verdict

EXIT_FAILED = 1
EXIT_INVALID = 3


def main() -> int:
    """Run all seeds; print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=10_000, help="complete sets of each run: Workflows")
    parser.add_argument("--faults", type=int, default=20, help="20 hold every kind once")
    parser.add_argument("--seeds", type=int, default=3, help="how many runs")
    parser.add_argument("--seed", type=int, default=1, help="the first run's; each further one's is higher by one")
    parser.add_argument("--rate", type=float, default=30.0, help="sets a second")
    parser.add_argument("--directory", type=Path, default=Path(".chaos"), help="for the result and the logs")
    arguments = parser.parse_args()
    end_cleanly_when_told()
    directory: Path = arguments.directory.absolute()
    verdicts: list[Verdict] = []
    source = provenance()
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        logs = directory / f"seed-{seed}"
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir(parents=True)
        order = Order(seed, arguments.sets, arguments.faults, arguments.rate, logs)
        verdict = run(order, lambda line: print(line, flush=True))
        verdicts.append(verdict)
        print(f"\n{faults_table(verdict)}\n")
        for line in complaints(verdict):
            print(line)
        if verdict.word == "exact":
            shutil.rmtree(logs)
        else:
            print(f"seed {seed} is not exact; its logs are in {logs}; to see it again: {again(order)}")
        write(directory / "chaos.json", source, verdicts)
    print(f"\n{verdicts_table(verdicts)}\n\nwritten to {directory / 'chaos.json'}")
    if any(not verdict.is_exact for verdict in verdicts):
        return EXIT_FAILED
    return EXIT_INVALID if any(verdict.invalid for verdict in verdicts) else 0


def again(order: Order) -> str:
    """The command that repeats a run."""
    return f"make chaos SEEDS=1 SEED={order.seed} SETS={order.sets} FAULTS={order.faults} RATE={order.sets_per_s:g}"


def write(path: Path, source: dict[str, Any], verdicts: list[Verdict]) -> None:
    """Write the results so far as JSON."""
    result = {**source, "runs": [verdict.as_json() for verdict in verdicts]}
    path.write_text(json.dumps(result, indent=1, default=str))


if __name__ == "__main__":
    sys.exit(main())
