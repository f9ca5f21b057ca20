"""Run the benchmarks: `python -m benchmarks [ROW…] [--quick] [--million] [--json FILE]`."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path

from benchmarks.parts import Parts, parts
from benchmarks.rows import ROWS
from headrace.bench.durability import durability
from headrace.bench.figures import Figure, Skipped
from headrace.bench.report import DURABILITY, commit_of, document, machine, table

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Measure the rows asked for; 1 where one failed."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; without: all but many-flows")
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it works, not to quote")
    parser.add_argument("--million", action="store_true", help="pending-keys: also a million keys")
    parser.add_argument("--json", type=Path, help="where the results go as JSON", default=Path("bench.json"))
    arguments = parser.parse_args()
    unknown = [row for row in arguments.rows if row not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]}; there are {', '.join(ROWS)}")
    chosen = arguments.rows or [row for row in ROWS if row != "many-flows"]
    print(f"{machine()}\n{DURABILITY}", flush=True)
    with parts(arguments.quick, arguments.million) as shared:
        checked = durability(shared.settings())
        print(checked, flush=True)
        results, failed = _measure(chosen, shared)
    arguments.json.write_bytes(document(results, commit_of(ROOT), checked))
    print(f"\n{table(results)}\n\nAll of it, as JSON: {arguments.json}")
    return 1 if failed else 0


def _measure(chosen: list[str], shared: Parts) -> tuple[list[Figure | Skipped], bool]:
    results: list[Figure | Skipped] = []
    failed = False
    for row in chosen:
        began_s = time.monotonic()
        try:
            measured = ROWS[row](shared)
        except Exception as error:
            # The other rows' figures are worth having all the same.
            traceback.print_exc()
            measured, failed = [Skipped(row, f"failed: {str(error).splitlines()[0]}")], True
        results.extend(measured)
        print(f"\n{row}, {time.monotonic() - began_s:.0f} s\n{table(measured)}", flush=True)
    return results, failed


if __name__ == "__main__":
    sys.exit(main())
