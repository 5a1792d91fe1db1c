"""Three client libraries that connect, write a record and read it; what goes wrong is told as `Refused`."""

import asyncio
import time
import uuid
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError as KafkaPythonError

from penstock.agents.kafka.unreachable import why_unreachable
from penstock.agents.security import Security
from tests.contract.security.secured import Door

LIMIT = 90.0
"""Seconds for any one thing that must come."""
SOON = 1.0
"""Seconds that kafka-python, which does not say that it was refused, tries to get in where it must not."""


class Refused(Exception):
    """No connection; the text is the library's reason, as far as it gives one."""


Records = list[bytes]


class RoundTrip(Protocol):
    """Write records to a new topic, and read them back; raises `Refused` where it does not get in within `patience`
    seconds."""

    def __call__(self, door: Door, values: Records, patience: float = LIMIT) -> Records: ...


def confluent_settings(door: Door, **more: Any) -> dict[str, Any]:
    """librdkafka's settings for a door."""
    security = door.security
    settings = {
        "security.protocol": security.protocol,
        "sasl.mechanism": security.mechanism,
        "sasl.username": security.username,
        "sasl.password": security.password,
        "ssl.ca.location": security.ca,
        "ssl.certificate.location": security.cert,
        "ssl.key.location": security.key or security.cert,
    }
    return {
        "bootstrap.servers": door.address,
        "log_level": 0,
        **{name: value for name, value in settings.items() if value is not None},
        **more,
    }


def create(door: Door) -> str:
    """A new topic's name."""
    name = f"t{uuid.uuid4().hex[:10]}"
    admin = AdminClient(confluent_settings(door))
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(LIMIT)
    return name


def with_confluent(door: Door, values: Records, patience: float = LIMIT) -> Records:
    errors: list[str] = []

    def told(error: Any) -> None:
        errors.append(str(error))

    admin = AdminClient({**confluent_settings(door), "error_cb": told})
    connected = False
    deadline = time.monotonic() + LIMIT
    while not connected:
        try:
            admin.list_topics(timeout=0.5)
            connected = True
        except KafkaException as error:
            admin.poll(0)
            if errors or time.monotonic() > deadline:
                raise Refused("; ".join(errors) or str(error)) from error
    topic = create(door)
    producer = Producer(confluent_settings(door, acks="all"))
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(LIMIT) == 0
    consumer = Consumer(confluent_settings(door, **{"group.id": topic, "auto.offset.reset": "earliest"}))
    consumer.subscribe([topic])
    read: Records = []
    while len(read) < len(values):
        message = consumer.poll(LIMIT)
        assert message is not None, f"{len(read)} of {len(values)} records"
        assert message.error() is None, message.error()
        read.append(message.value())
    consumer.close()
    return read


def with_aiokafka(door: Door, values: Records, patience: float = LIMIT) -> Records:
    async def trip() -> Records:
        settings = door.security.client_settings()
        producer = AIOKafkaProducer(bootstrap_servers=door.address, request_timeout_ms=20_000, **settings)
        try:
            await producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await producer.stop()
            reason = await why_unreachable([door.address], door.security)
            raise Refused(str(reason)) from error
        topic = await asyncio.to_thread(create, door)
        for value in values:
            await producer.send(topic, value)
        await producer.stop()
        async with AIOKafkaConsumer(
            topic, bootstrap_servers=door.address, group_id=topic, auto_offset_reset="earliest", **settings
        ) as consumer:
            return [(await asyncio.wait_for(consumer.getone(), LIMIT)).value for _ in values]

    return asyncio.run(trip())


def with_kafka_python(door: Door, values: Records, patience: float = LIMIT) -> Records:
    settings = {"bootstrap_servers": door.address, **door.security.client_settings()}
    try:
        KafkaAdminClient(bootstrap_timeout_ms=int(patience * 1000), **settings).close()
    except KafkaPythonError as error:
        raise Refused(str(error)) from error
    topic = create(door)
    producer = KafkaProducer(**settings)
    for value in values:
        producer.send(topic, value)
    producer.flush(LIMIT)
    producer.close()
    consumer = KafkaConsumer(
        topic, group_id=topic, auto_offset_reset="earliest", consumer_timeout_ms=int(LIMIT * 1000), **settings
    )
    read = [next(consumer).value for _ in values]
    consumer.close()
    return read


CLIENTS: dict[str, RoundTrip] = {
    "aiokafka": with_aiokafka,
    "librdkafka": with_confluent,
    "kafka-python": with_kafka_python,
}

NOTHING = Security()
