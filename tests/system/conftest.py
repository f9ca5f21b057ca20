"""The fixtures of all system tests: a real Kafka, a real Kubernetes API server, and the engine between them."""

from tests.system.engine_fixtures import engine, idle_engine, mortal_engine, tenant
from tests.system.ingress_fixtures import open_ingress, topic
from tests.system.kafka_fixtures import kafka, secure_kafka, topic_prefix
from tests.system.kube_fixtures import kube, kube_namespace
from tests.system.metaflow_fixtures import metaflow_engine, store, team

__all__ = [
    "engine",
    "idle_engine",
    "kafka",
    "kube",
    "kube_namespace",
    "metaflow_engine",
    "mortal_engine",
    "open_ingress",
    "secure_kafka",
    "store",
    "team",
    "tenant",
    "topic",
    "topic_prefix",
]
