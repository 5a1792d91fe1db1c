"""Topics: the registry, their configs, and the requests that concern them."""

from penstock.deploy.broker.topics.node import Node
from penstock.deploy.broker.topics.registry import Partition, Topic, Topics

__all__ = ["Node", "Partition", "Topic", "Topics"]
