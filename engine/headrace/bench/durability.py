"""Durability: what a figure must not be bought with, read from what the roles would use and the brokers have."""

from __future__ import annotations

from confluent_kafka.admin import ConfigResource, ResourceType

from headrace.edges.faust.fenced_producer import producer_properties
from headrace.edges.kafka.clients import REQUEST_TIMEOUT_S, admin_client
from headrace.edges.kafka.topics import ensure_internal_topics
from headrace.model.errors import HeadraceError
from headrace.settings import Settings

_PRODUCER = ("acks", "enable.idempotence")
_TOPIC = ("cleanup.policy", "min.insync.replicas", "unclean.leader.election.enable")


def durability(settings: Settings) -> dict[str, str]:
    """Return what producers and the join's changelog are set to.

    Raises:
        HeadraceError: a setting is weaker than in production.
        TopicError: an internal topic would lose data.
    """
    ensure_internal_topics(settings)
    properties = producer_properties(settings.client(), 30.0)
    found = {name: str(properties[name]) for name in _PRODUCER}
    if found != {"acks": "all", "enable.idempotence": "true"}:
        raise HeadraceError(f"producers are set to {found}: figures with less than acks=all mean nothing")
    asked = ConfigResource(ResourceType.TOPIC, settings.topics.joins)
    admin = admin_client(settings)
    config = admin.describe_configs([asked])[asked].result(REQUEST_TIMEOUT_S)
    return {**found, **{f"{settings.topics.joins} {name}": str(config[name].value) for name in _TOPIC}}
