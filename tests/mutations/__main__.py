"""Put each fault back, one at a time, and see its check find it: `python -m tests.mutations [--real-parts] [NAME]`."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutations.catalogue import MUTATIONS
from tests.mutations.mutation import ROOT, Mutation

_COPIED = ("engine", "publisher", "tests", "pyproject.toml", "schemas", "examples")


def main() -> int:
    """Run what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("name", nargs="?", default="", help="only mutations whose names hold this")
    parser.add_argument("--real-parts", action="store_true", help="also those that only tests on real parts find")
    arguments = parser.parse_args()
    chosen = [
        mutation
        for mutation in MUTATIONS
        if arguments.name in mutation.name and (arguments.real_parts or not mutation.is_on_real_parts)
    ]
    began_s = time.monotonic()
    caught = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutation, (found, seconds) in zip(chosen, pool.map(_run, chosen), strict=True):
            caught += found is not None
            verdict = "NOT caught" if found is None else "caught"
            print(f"| {mutation.rule} | {mutation.name} | {mutation.check} | {verdict} | {seconds:.0f} s |")
            print(f"    {found or 'nothing was found'}"[:180], flush=True)
    left_out = len(MUTATIONS) - len(chosen)
    print(f"{caught} of {len(chosen)} were caught in {time.monotonic() - began_s:.0f} s; {left_out} were left out")
    return 0 if caught == len(chosen) else 1


def _run(mutation: Mutation) -> tuple[str | None, float]:
    """Run one mutation's check; return what it found, if anything, and how long that took, seconds."""
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="headrace-mutation-") as directory:
        root = Path(directory)
        _copy(root)
        mutation.apply(root)
        ended = subprocess.run(
            [sys.executable, *mutation.check.arguments],
            cwd=root,
            env=_environment(root),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    output = ended.stdout
    found = mutation.check.found(output)
    if found is None and ended.returncode != 0:
        # Neither found nor passed: the mutated tree does not even run.
        print(output[-1000:], file=sys.stderr)
    return found, time.monotonic() - began_s


def _copy(root: Path) -> None:
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, root / name, symlinks=True)
        else:
            shutil.copy(source, root / name, follow_symlinks=False)


def _environment(root: Path) -> dict[str, str]:
    """The copy's packages come before the installed ones."""
    paths = (root / "engine", root / "publisher", root)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}


if __name__ == "__main__":
    sys.exit(main())
