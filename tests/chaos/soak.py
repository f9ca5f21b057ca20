"""Soak: `python -m tests.chaos.soak`, or `make soak HOURS=n`. A steady load, faults now and then, and nothing may grow.

The first quarter kills and replaces processes. From then on faults are such that a process ought to survive them, since
only one that lives long can show what it hoards. Windows are a minute long, so that what a window holds is full soon.

Ends with 0 where every run was exact and nothing grew, else with 1.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from confluent_kafka import KafkaException
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from tests.chaos.command import end_cleanly_when_told, provenance
from tests.chaos.faults import Scene
from tests.chaos.load import Load
from tests.chaos.plan import OF_JOIN, Kind, Planned
from tests.chaos.run import SETTLE_S, Breaking, see_through
from tests.chaos.samples import Growth, Sample, growths, take
from tests.chaos.sets import draw
from tests.chaos.table import columns, complaints, faults_table, verdicts_table
from tests.chaos.verdict import Verdict
from tests.chaos.world import World, world
from tests.support.engine import ROLES
from tests.support.kube import request_json

WINDOW = "1m"
SPREAD_S = 20.0
SAMPLE_S = 5.0
WORKFLOW_LIVES_S = 120.0
FAULTS_EVERY_S = 150.0
QUARTER_FAULTS_MIN = 2
REPLACING = (Kind.KILLED, Kind.TERMINATED, Kind.FROZEN, Kind.KILLED_IN_RECOVERY, Kind.WIPED)
SURVIVABLE = (
    Kind.API_CUT,
    Kind.API_SLOW,
    Kind.API_BUSY,
    Kind.API_BROKEN,
    Kind.API_FORBIDS,
    Kind.API_LOSES,
    Kind.POISONED,
    Kind.DUPLICATED,
    Kind.BROKER_RESTARTED,
)
# So that the changelog is compacted often enough for a soak of minutes to see it.
CLEANED_OFTEN = {"segment.ms": "60000", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "10000"}
CLEANER = {"log.cleaner.backoff.ms": "5000"}


def schedule(seconds: float, chance: random.Random) -> Iterator[tuple[float, Planned]]:
    """Yield faults with the seconds after which they come."""
    every_s = min(FAULTS_EVERY_S, seconds / 4 / QUARTER_FAULTS_MIN)
    count = int(seconds / every_s) - 1
    decks: dict[bool, list[Kind]] = {True: [], False: []}
    for index in range(count):
        at_s = (index + 0.5) * every_s
        is_early = at_s < seconds / 4
        deck = decks[is_early]
        if not deck:
            deck += REPLACING if is_early else SURVIVABLE
            chance.shuffle(deck)
        kind = deck.pop()
        role = "join" if kind in OF_JOIN else chance.choice(ROLES) if kind in REPLACING else None
        yield at_s, Planned(kind, role, at_s / seconds)


class Soak:
    """One soak in a world."""

    def __init__(self, made: World, load: Load, breaking: Breaking) -> None:
        """Begin now."""
        self._made, self._load, self._breaking = made, load, breaking
        self._deleted: set[str] = set()
        self.samples: list[Sample] = []

    def work(self, seconds: float, faults: Iterator[tuple[float, Planned]]) -> None:
        """Load, break, measure and tidy up until the time is over."""
        next_fault = next(faults, None)
        while (now_s := self._breaking.now_s) < seconds:
            self.samples.append(take(self._made, now_s))
            self._delete_old()
            if next_fault is not None and now_s >= next_fault[0]:
                self._breaking.inject(next_fault[1])
                next_fault = next(faults, None)
            time.sleep(max(0.0, now_s + SAMPLE_S - self._breaking.now_s))
        self._load.finish(SETTLE_S)

    def _delete_old(self) -> None:
        """Delete Workflows as their TTL would."""
        watch, before_s = self._made.watch, time.monotonic() - WORKFLOW_LIVES_S
        found = [(uid, at_s) for uids in list(watch.found.values()) for uid, at_s in list(uids.items())]
        for uid in [uid for uid, at_s in found if at_s < before_s and uid not in self._deleted]:
            name, namespace = watch.name_of(uid), self._made.tenant.namespace
            try:
                request_json(
                    self._made.kube, "DELETE", f"/apis/argoproj.io/v1alpha1/namespaces/{namespace}/workflows/{name}"
                )
            except (ApiException, HTTPError):
                # The next round tries again.
                return
            self._deleted.add(uid)


def soak(hours: float, seed: int, sets_per_s: float, directory: Path) -> tuple[Verdict, list[Growth], list[Sample]]:
    """Run a soak and return what it has shown."""
    seconds = hours * 3600
    sets = draw(seed, round(seconds * sets_per_s), spread=SPREAD_S * sets_per_s)
    verdict = Verdict(seed, len(sets.expected), len(sets.records))
    chance, began_s, samples = random.Random(f"soak {seed}"), time.monotonic(), list[Sample]()
    try:
        with world(directory, CLEANER) as made:
            made.start_roles()
            made.deploy(WINDOW)
            made.configure(f"{made.engine.prefix}joins", CLEANED_OFTEN)
            load = Load(sets, made.tenant.event, made.client, len(sets.records) / seconds)
            breaking = Breaking(Scene(made, load, chance), verdict, lambda line: print(line, flush=True))
            work = Soak(made, load, breaking)
            samples = work.samples
            load.allow(len(sets.records))
            see_through(made, load, breaking, verdict, lambda: work.work(seconds, schedule(seconds, chance)))
    except (AssertionError, RuntimeError, OSError, KafkaException) as error:
        verdict.broke_off(error)
    verdict.seconds = time.monotonic() - began_s
    return verdict, growths(samples), samples


def growth_table(found: Sequence[Growth], samples: Sequence[Sample]) -> str:
    """Show what was measured in the second and the last quarter."""

    def shown(value: float, unit: str) -> str:
        return f"{value / 1e6:.1f} MB" if unit == "bytes" else f"{value:.0f}"

    rows = [
        (
            growth.measure,
            shown(growth.second, growth.unit),
            shown(growth.last, growth.unit),
            "kept for its time" if growth.most is None else f"at most {shown(growth.most, growth.unit)}",
            "GREW" if growth.has_grown else "",
        )
        for growth in found
    ]
    late = [sample for sample in samples if sample.at_s >= samples[-1].at_s / 4]
    pids = {role: len({pid for sample in late for pid in sample.pids[role]}) for role in ROLES}
    lived = ", ".join(f"{count} of {role}" for role, count in pids.items())
    table = columns(("medians of", "second quarter", "last quarter", "allowed", ""), rows)
    return f"{table}\n\nprocesses from the second quarter on: {lived}"


def main() -> int:
    """Soak, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=10.0, help="sets a second")
    parser.add_argument("--directory", type=Path, default=Path(".chaos"), help="for the result and the logs")
    arguments = parser.parse_args()
    end_cleanly_when_told()
    directory: Path = arguments.directory.absolute()
    logs = directory / "soak"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    source = provenance()
    verdict, found, samples = soak(arguments.hours, arguments.seed, arguments.rate, logs)
    grown = [growth.measure for growth in found if growth.has_grown]
    print(f"\n{faults_table(verdict)}\n\n{growth_table(found, samples)}\n\n{verdicts_table([verdict])}\n")
    result = {
        **source,
        "hours": arguments.hours,
        "run": verdict.as_json(),
        "growth": [growth.as_json() for growth in found],
        "samples": [asdict(sample) for sample in samples],
    }
    (directory / "soak.json").write_text(json.dumps(result, indent=1, default=str))
    for line in complaints(verdict) + [f"grew: {measure}" for measure in grown]:
        print(line)
    if verdict.is_exact and not grown:
        shutil.rmtree(logs)
        print(f"nothing grew, and every run was exact; written to {directory / 'soak.json'}")
        return 0
    print(f"not as it should be: written to {directory / 'soak.json'}, logs in {logs}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
