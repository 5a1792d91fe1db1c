"""A real Apache Kafka on this machine: its jars, a Java to run them, servers with data folders.

`KafkaServer` is one node of today's Kafka, `KafkaCluster` three that replicate, `ZooKeeperKafka` the older set-up.
"""

from penstock.deploy.kafka.cluster import KafkaCluster
from penstock.deploy.kafka.jars import KafkaUnavailable, install, installed, java, version
from penstock.deploy.kafka.node import KafkaServer, prepare
from penstock.deploy.kafka.zookeeper import ZooKeeperKafka, ZooKeeperServer

__all__ = [
    "KafkaCluster",
    "KafkaServer",
    "KafkaUnavailable",
    "ZooKeeperKafka",
    "ZooKeeperServer",
    "install",
    "installed",
    "java",
    "prepare",
    "version",
]
