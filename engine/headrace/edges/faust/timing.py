"""The join's time limits, all derived from the consumer group's, so that they fit together whatever is configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.model.errors import SettingsError

_SESSION_MS = 45_000
_HEARTBEAT_MS = 3_000
_MAX_POLL_MS = 300_000
_FENCE_S_MAX = 30.0
_DELIVERY_S_MAX = 15.0
# A rebalance must leave a drain, a fence and a delivery enough time to end before the group goes on without us.
_REBALANCE_S_MIN = 60.0
_DRAIN_S_MAX = 15.0


@dataclass(frozen=True)
class Timing:
    """Time limits in seconds.

    A member is forgotten `session_s` after its last sign of life, of which every commit is one. It starts no write
    later than `fence_s` after its last commit, and a write is given up `delivery_s` after it was started; the two
    together are no longer than the session, so that nothing of a lost member is written beside its successor.
    """

    session_s: float
    heartbeat_s: float
    # How long the group waits in a rebalance for a member that still sends heartbeats.
    rebalance_s: float
    # How long frames may go unread before the member is taken for stuck.
    max_poll_s: float
    fence_s: float
    delivery_s: float
    # How long giving partitions back may take.
    drain_s: float

    @classmethod
    def of(cls, properties: Mapping[str, str]) -> Timing:
        """Derive the limits from librdkafka's consumer properties.

        Raises:
            SettingsError: a value is no number, or the limits contradict each other.
        """
        session_s = _seconds(properties, "session.timeout.ms", _SESSION_MS)
        heartbeat_s = _seconds(properties, "heartbeat.interval.ms", min(_HEARTBEAT_MS, round(session_s * 1000 / 3)))
        max_poll_s = _seconds(properties, "max.poll.interval.ms", max(_MAX_POLL_MS, round(session_s * 1000)))
        if heartbeat_s * 2 > session_s:
            raise SettingsError(
                f"heartbeat.interval.ms ({heartbeat_s * 1000:g}) must be at most half of session.timeout.ms "
                f"({session_s * 1000:g}): set one of them."
            )
        delivery_s = min(_DELIVERY_S_MAX, session_s / 3)
        return cls(
            session_s=session_s,
            heartbeat_s=heartbeat_s,
            rebalance_s=max(_REBALANCE_S_MIN, session_s),
            max_poll_s=max_poll_s,
            fence_s=min(_FENCE_S_MAX, session_s - delivery_s),
            delivery_s=delivery_s,
            drain_s=min(_DRAIN_S_MAX, session_s / 3),
        )


def _seconds(properties: Mapping[str, str], name: str, default_ms: int) -> float:
    text = properties.get(name, str(default_ms))
    try:
        milliseconds = int(text)
    except ValueError:
        raise SettingsError(f"{name} must be a whole number of milliseconds, but is {text!r}: set it.") from None
    if milliseconds <= 0:
        raise SettingsError(f"{name} must be greater than 0, but is {text}: set it.")
    return milliseconds / 1000
