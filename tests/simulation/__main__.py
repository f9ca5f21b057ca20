"""Run seeds: `python -m tests.simulation --seeds 1000`, or one, told in full: `--seed 7 --verbose`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.faults import Kind
from tests.simulation.simulate import Result, simulate

_CHUNK_SEEDS = 10
_FAILURES_SHOWN_MAX = 10
_FACTS = ("events", "complete sets", "joined sets", "workflows", "refused", "match late", "expired", "match lone sets")
_SEEDS_FOR_EVERY_FAULT = 500
"""A smaller batch need not have met every kind of fault."""


def main() -> int:
    """Run what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run only this one")
    parser.add_argument("--verbose", action="store_true", help="with --seed: tell everything that happens")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed of a batch")
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--stop-at-first", action="store_true", help="end with the first failure")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return _one(arguments.seed, arguments.verbose)
    return _batch(range(arguments.first, arguments.first + arguments.seeds), arguments.jobs, arguments.stop_at_first)


def _one(seed: int, verbose: bool) -> int:
    result = simulate(seed, verbose)
    print(_line(result.counts))
    print(f"seed {seed}: {result.violation or 'nothing was lost, nothing doubled'} (trace {result.digest:08x})")
    return 0 if result.violation is None else 1


def _batch(seeds: range, jobs: int, stop_at_first: bool) -> int:
    began_s = time.monotonic()
    totals: Counter[str] = Counter()
    failures: list[Result] = []
    for result in _run(seeds, jobs, 1 if stop_at_first else _CHUNK_SEEDS):
        totals.update(result.counts)
        if result.violation is not None:
            failures.append(result)
            if len(failures) <= _FAILURES_SHOWN_MAX:
                print(f"seed {result.seed} FAILED: {result.violation}", flush=True)
                print(f"  again: .venv/bin/python -m tests.simulation --seed {result.seed} --verbose", flush=True)
            if stop_at_first:
                return 1
    missing = [kind for kind in Kind if not totals[kind]] if len(seeds) >= _SEEDS_FOR_EVERY_FAULT else []
    for kind in missing:
        print(f"FAILED: this never happened, so nothing is proven about it: {kind}")
    print(_line(totals))
    verdict = f"{len(failures)} failed" if failures else "nothing was lost, nothing doubled"
    print(f"{len(seeds)} seeds from {seeds.start} in {time.monotonic() - began_s:.0f} s: {verdict}")
    return 1 if failures or missing else 0


def _run(seeds: range, jobs: int, chunk_seeds: int) -> Iterator[Result]:
    if jobs == 1:
        yield from map(simulate, seeds)
        return
    pool = ProcessPoolExecutor(jobs)
    try:
        yield from pool.map(simulate, seeds, chunksize=chunk_seeds)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _line(counts: Counter[str]) -> str:
    facts = ", ".join(f"{counts[fact]} {fact.removeprefix('match ')}" for fact in _FACTS)
    faults = ", ".join(f"{counts[kind]} {kind}" for kind in Kind)
    return f"{facts}\nfaults: {faults}"


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets of texts follows from it; a seed must mean the same in every process.
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    sys.exit(main())
