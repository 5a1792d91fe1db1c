"""Plain clients on typed topics, for services that only produce or only consume."""

from penstock.deploy.clients.consumer import Consumer
from penstock.deploy.clients.producer import Delivery, DeliveryFailed, Producer
from penstock.deploy.clients.sync import SyncConsumer, SyncProducer
from penstock.deploy.clients.topics import create_topics, read_topic

__all__ = [
    "Consumer",
    "Delivery",
    "DeliveryFailed",
    "Producer",
    "SyncConsumer",
    "SyncProducer",
    "create_topics",
    "read_topic",
]
