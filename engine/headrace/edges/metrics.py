"""Every metric, declared once, with its meaning."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter("headrace_events", "Records read from event topics.", ["event"])
EVENTS_UNREADABLE = Counter("headrace_events_unreadable", "Records that are no event, by reason.", ["reason"])
FILTERED = Counter(
    "headrace_filtered",
    "Events that a filter did not let pass; failed: it could not be evaluated; missing_field: what it must have.",
    ["how"],
)
MATCHES = Counter("headrace_matches", "Matches written to the join.")
FRAMES = Counter("headrace_frames", "Frames written to the join.")
FIRINGS = Counter("headrace_firings", "Firings written, by the role that decided them.", ["role"])
DEAD_LETTERS = Counter("headrace_dead_letters", "Dead letters written, by role and reason.", ["role", "reason"])
JOIN_DECISIONS = Counter(
    "headrace_join_decisions",
    "What the join decided of matches: waiting, fired, duplicate, expired, superseded, late, replayed.",
    ["decision"],
)
JOIN_KEYS = Gauge("headrace_join_keys", "Keys held by this join, by partition.", ["partition"])
JOIN_TIME = Gauge("headrace_join_time_seconds", "Join time, seconds since 1970, by partition.", ["partition"])
TICKS = Counter("headrace_ticks", "Ticks of join time written.")
STALLED = Gauge("headrace_event_partitions_stalled", "Event partitions left out of join time, since they do not move.")
STOPPED = Gauge("headrace_event_partitions_stopped", "Event partitions that stopped, since their offsets are lost.")
SENSORS = Gauge("headrace_sensors", "Sensors that this process keeps triggers for, by what became of them.", ["state"])
SUBMISSIONS = Counter("headrace_submissions", "What became of firings at the target, by outcome.", ["outcome"])
SUBMIT_SECONDS = Histogram(
    "headrace_submit_seconds",
    "Time of one creation at the API server.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
FIRING_TO_RUN_SECONDS = Histogram(
    "headrace_event_to_run_seconds",
    "Time from a firing's newest event to its run's start.",
    buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300, 3600),
)
QUEUED = Gauge("headrace_runs_queued", "Firings that this submitter holds back (retries, pauses, busy slots).")
IN_FLIGHT = Gauge("headrace_submissions_in_flight", "Requests open at the API server.")
TRIGGERS = Gauge("headrace_triggers", "Triggers that this role knows.")
INGRESS_REQUESTS = Counter(
    "headrace_ingress_requests",
    "Requests at the ingress, by outcome: written, no-topic (nothing was written), or why it was refused.",
    ["outcome"],
)
INGRESS_EVENTS = Counter(
    "headrace_ingress_events", "Events that the ingress took: written, or no-topic (dropped).", ["outcome"]
)
INGRESS_IN_FLIGHT = Gauge("headrace_ingress_in_flight", "Requests that this ingress has taken and not yet answered.")
INGRESS_SECONDS = Histogram(
    "headrace_ingress_seconds",
    "Time from a request's headers to its answer.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
)
