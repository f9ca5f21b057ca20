"""Every bound, declared once. What exceeds one becomes a dead letter that names it, never silence."""

KIB = 1024
MIB = 1024 * KIB

EVENT_ID_CHARACTERS_MAX = 1024
"""Longest event id. Ids live in state for a trigger's horizon, so a huge one would cost memory there."""

EVENT_NAME_CHARACTERS_MAX = 249
"""Kafka's own limit for a topic's name."""

PAYLOAD_BYTES_MAX = 512 * KIB
"""Largest payload of an event, as JSON text. Two of them still fit a Workflow of 1 MB."""

WORKFLOW_BYTES_MAX = 1_000_000
"""Largest Workflow body. Argo wants a Workflow below 1 MB including the status that it adds."""

INTERNAL_RECORD_BYTES_MAX = 8 * MIB
"""`max.message.bytes` of the internal topics: a firing of several large events must fit."""

FRAME_BYTES_MAX = 1 * MIB
"""A frame is cut once its events reach this size; a single event may still exceed it."""

FIRING_BYTES_MAX = 6 * MIB
"""Largest firing record."""

PENDING_EVENTS_PER_KEY_MAX = 1000
"""Events that may wait under one (trigger, key)."""

KEYS_PER_PARTITION_MAX = 2_000_000
"""Keys of all triggers that one partition of the join may hold."""

KEY_BYTES_MAX = 4 * KIB
"""Longest canonical JSON text of a key."""

USED_IDS_PER_KEY_MAX = 200_000
"""Ids that one (trigger, key) remembers within its horizon to recognise duplicates."""

DEPENDENCIES_PER_TRIGGER_MAX = 32
"""Events that one trigger may wait for."""

MATCHES_PER_EVENT_MAX = 20_000
"""Triggers that one event may match (the fan-out)."""

FUTURE_MS_MAX = 5 * 60 * 1000
"""How far ahead of the router's clock an event's time may lie."""

DEAD_LETTER_BYTES_MAX = 900 * KIB
"""Original bytes kept in a dead letter; larger ones are kept by reference."""

QUEUED_FIRINGS_MAX = 10_000
"""Firings that one submitter holds back (retries, pauses, busy local slots) before it stops reading."""

SUBMIT_IN_FLIGHT_MAX = 64
"""Requests that one submitter has open at the API server."""

LEDGER_FIRINGS_MAX = 2_000_000
"""Firings that one submitter remembers in order not to start them twice."""

INGRESS_BODY_BYTES_MAX = 1 * MIB
"""Largest body that the ingress takes; more is not even read."""

INGRESS_REQUESTS_MAX = 2_000
"""Requests that one ingress has in flight; more are refused until some are answered."""

INGRESS_BYTES_MAX = 64 * MIB
"""Bodies of all requests that one ingress has in flight."""
