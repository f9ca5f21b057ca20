"""Parts: the real Kafka, API server and roles of a run, started when a row first asks for them."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from headrace.bench.ground import Ground
from headrace.settings import Settings, load
from tests.support.engine import Engine
from tests.support.kafka import embedded_kafka
from tests.support.kube import KubeServer, create_namespace, install_crds, start_kube_server

NAMESPACE = "bench"


@dataclass
class Parts:
    """What the rows of one run share. Everything ends with the block that `parts` opens."""

    quick: bool
    """Small sizes and few repetitions: to see that it works, not to quote."""
    million: bool
    """Whether the rows that can do it also take a million keys."""
    scratch: Path
    _ending: ExitStack
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def repetitions(self) -> int:
        """How often each thing is measured, in turn with its baseline."""
        return 3 if self.quick else 5

    def size(self, full: int, quick: int) -> int:
        """Return the size for this run."""
        return quick if self.quick else full

    @cached_property
    def kafka(self) -> str:
        """Brokers of a Kafka for this run alone."""
        return self._ending.enter_context(embedded_kafka(self.scratch / "kafka")).bootstrap_servers

    @cached_property
    def kube(self) -> KubeServer:
        """An API server with Argo's kinds and a namespace for the bench."""
        server = start_kube_server()
        self._ending.callback(server.stop)
        install_crds(server)
        create_namespace(server, NAMESPACE)
        return server

    def settings(self, **environment: str) -> Settings:
        """Return settings with internal topics that nobody has used before."""
        return load(
            {
                "HEADRACE_BOOTSTRAP_SERVERS": self.kafka,
                "HEADRACE_REPLICATION": "1",
                "HEADRACE_TOPIC_PREFIX": f"bench{next(self._numbers)}.",
                "HEADRACE_STATE": str(self.scratch / "state"),
                **environment,
            }
        )

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """Run the roles, each as a process, until the block ends."""
        number = next(self._numbers)
        environment = {
            "HEADRACE_BOOTSTRAP_SERVERS": self.kafka,
            "HEADRACE_TOPIC_PREFIX": f"bench{number}.",
            "HEADRACE_NAMESPACES": NAMESPACE,
            "KUBECONFIG": str(self.kube.kubeconfig_path),
        }
        engine = Engine(environment, self.scratch / f"engine-{number}")
        # The bench itself is a client of the same cluster.
        os.environ["KUBECONFIG"] = environment["KUBECONFIG"]
        try:
            engine.start_and_wait()
            yield engine
        finally:
            engine.stop()

    @contextmanager
    def ground(self) -> Iterator[Ground]:
        """Run the roles, with the triggers that `headrace bench` uses deployed."""
        with self.engine() as engine, Ground(load(engine.environment), NAMESPACE) as ground:
            yield ground


@contextmanager
def parts(quick: bool, million: bool) -> Iterator[Parts]:
    """Give what rows run on, and end it."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as scratch, ExitStack() as ending:
        yield Parts(quick, million, Path(scratch), ending)
