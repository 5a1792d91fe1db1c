"""A real Apache Kafka on this machine: its jars, a Java to run them, one server per data folder."""

from penstock.deploy.kafka.jars import KafkaUnavailable, install, installed, java, version
from penstock.deploy.kafka.server import KafkaServer, prepare

__all__ = ["KafkaServer", "KafkaUnavailable", "install", "installed", "java", "prepare", "version"]
