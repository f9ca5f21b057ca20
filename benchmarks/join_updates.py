"""Join updates with a durable changelog in one process, beside Kafka Streams' windowed join on one thread."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.join_run import join_rate, routed_frames
from benchmarks.kafka_streams import KafkaStreams, no_streams_because
from benchmarks.parts import Parts
from headrace.bench.figures import Aim, Figure, Sample, Skipped


def measure(parts: Parts) -> Sequence[Figure | Skipped]:
    """Measure the row."""
    pairs = parts.size(100_000, 20_000)
    why_not = no_streams_because()
    streams = None if why_not else KafkaStreams(parts.kafka, parts.scratch / "streams", pairs)
    frames = routed_frames(parts.settings(), pairs)
    samples = []
    for _ in range(parts.repetitions):
        baseline = streams.rate() if streams is not None else None
        samples.append(Sample(join_rate(parts.settings(), frames, pairs), baseline))
    figure = Figure(
        "join-updates",
        "join updates, changelog complete, one process",
        "events/s",
        tuple(samples),
        "" if streams is None else "Kafka Streams windowed join, one thread, changelog, in-memory stores",
        None if streams is None else Aim(1.0, 0.7),
        {"pairs": pairs, "frames": len(frames), "changelog": "one head for each pair, counted"},
    )
    return (
        [figure] if why_not is None else [figure, Skipped("join-updates", f"no baseline by Kafka Streams: {why_not}")]
    )
