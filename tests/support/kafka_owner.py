"""A process that owns an embedded Kafka, to be killed: `python -m tests.support.kafka_owner STATE_DIRECTORY`.

It prints one line, the JVM's pid and the broker's address, once Kafka is ready. It survives Ctrl-C, as
`headrace up` does while it stops its roles, and answers it with a line of its own. It ends when its standard
input does.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

from headrace.edges.kafka.embedded import EmbeddedKafka


def _report_interrupt(_signal: int, _frame: FrameType | None) -> None:
    print("interrupted", flush=True)


def main() -> None:
    """Start Kafka, report, and wait for the end of standard input."""
    broker = EmbeddedKafka(Path(sys.argv[1]))
    broker.start()
    signal.signal(signal.SIGINT, _report_interrupt)
    print(broker.pid, broker.bootstrap_servers, flush=True)
    sys.stdin.read()
    broker.stop()


if __name__ == "__main__":
    main()
