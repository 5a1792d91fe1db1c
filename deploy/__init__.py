"""Running pipelines: Faust apps, workers, a Kafka for one machine, plain clients."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.agents.faust.app import GroupApp
    from penstock.agents.kafka.topics import TopicMissing
    from penstock.agents.kafka.unreachable import BrokerUnreachable
    from penstock.agents.security import Security
    from penstock.deploy.apps import faust_app
    from penstock.deploy.broker.process import BrokerServer
    from penstock.deploy.clients import (
        Consumer,
        Delivery,
        DeliveryFailed,
        Producer,
        SyncConsumer,
        SyncProducer,
        create_topics,
        read_topic,
    )
    from penstock.deploy.kafka import KafkaServer
    from penstock.deploy.supervisor import Slot, Supervisor, WorkerFailed
    from penstock.deploy.up import Run

_HOME = {
    "BrokerServer": "penstock.deploy.broker.process",
    "BrokerUnreachable": "penstock.agents.kafka.unreachable",
    "Consumer": "penstock.deploy.clients",
    "Delivery": "penstock.deploy.clients",
    "DeliveryFailed": "penstock.deploy.clients",
    "GroupApp": "penstock.agents.faust.app",
    "KafkaServer": "penstock.deploy.kafka",
    "Producer": "penstock.deploy.clients",
    "Run": "penstock.deploy.up",
    "Security": "penstock.agents.security",
    "Slot": "penstock.deploy.supervisor",
    "Supervisor": "penstock.deploy.supervisor",
    "SyncConsumer": "penstock.deploy.clients",
    "SyncProducer": "penstock.deploy.clients",
    "TopicMissing": "penstock.agents.kafka.topics",
    "WorkerFailed": "penstock.deploy.supervisor",
    "create_topics": "penstock.deploy.clients",
    "faust_app": "penstock.deploy.apps",
    "read_topic": "penstock.deploy.clients",
}

__all__ = [
    "BrokerServer",
    "BrokerUnreachable",
    "Consumer",
    "Delivery",
    "DeliveryFailed",
    "GroupApp",
    "KafkaServer",
    "Producer",
    "Run",
    "Security",
    "Slot",
    "Supervisor",
    "SyncConsumer",
    "SyncProducer",
    "TopicMissing",
    "WorkerFailed",
    "create_topics",
    "faust_app",
    "read_topic",
]


def __getattr__(name: str) -> Any:
    """Faust alone takes most of a second to import, and `penstock check` needs none of it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
