"""Candidate `bytewax`: a dataflow with its Kafka operators, run by `python -m bytewax.run`.

The flow decodes and encodes by itself, so it has the same Structs and functions as Penstock. Its Kafka source has no
consumer group and commits nothing; the state of `keyed` is in memory. There is no `rekey`, which goes through memory
rather than a topic, and no `join`, since nothing makes one input wait for another.
"""

import os

import bytewax.operators as op
import msgspec
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow

from benchmarks.records import Departure, Result, has_departed, to_delay

BROKERS = [os.environ.get("BENCH_BROKER", "127.0.0.1:9092")]
decode = msgspec.json.Decoder(Departure).decode
encode = msgspec.json.Encoder().encode

flow = Dataflow("bench")
source = kop.input("source", flow, brokers=BROKERS, topics=[os.environ.get("BENCH_SOURCE", "flights")])


def delay(message: KafkaSourceMessage) -> KafkaSinkMessage | None:
    """A departed flight as a delay."""
    flight = decode(message.value)
    return KafkaSinkMessage(message.key, encode(to_delay(flight))) if has_departed(flight) else None


def count(state: tuple[int, int] | None, message: KafkaSourceMessage) -> tuple[tuple[int, int], KafkaSinkMessage]:
    """Count and sum of a key."""
    n, total = state or (0, 0)
    n, total = n + 1, total + decode(message.value).distance
    return (n, total), KafkaSinkMessage(message.key, encode(Result(n, total)))


if os.environ.get("BENCH_PROGRAM") == "keyed":
    keyed = op.key_on("key", source.oks, lambda message: message.key.decode())
    made = op.map("unkey", op.stateful_map("count", keyed, count), lambda pair: pair[1])
else:
    made = op.filter_map("delay", source.oks, delay)
kop.output("out", made, brokers=BROKERS, topic=os.environ.get("BENCH_OUT", "delays"))
