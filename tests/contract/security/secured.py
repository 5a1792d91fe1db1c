"""Brokers with every kind of listener, and what a client needs for each."""

import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import trustme
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives import serialization

from penstock.agents.security import Security
from penstock.deploy.broker import BrokerServer
from penstock.deploy.broker.security.credentials import add_user
from penstock.deploy.kafka import KafkaServer
from tests.broker.brokers import UNHURRIED

USER, PASSWORD = "alice", 'pass=word, with "quotes" and ünïcode'
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True)
class Certificates:
    """PEM files of one authority, and of another that nobody trusts."""

    ca: str
    server: str
    server_key: str
    client: str
    stranger: str
    other_ca: str

    @classmethod
    def made(cls, folder: Path) -> "Certificates":
        """Good for 127.0.0.1 and localhost."""
        authority, other = trustme.CA(), trustme.CA()
        server = authority.issue_cert("127.0.0.1", "localhost")
        files = {name: folder / f"{name}.pem" for name in cls.__dataclass_fields__}
        authority.cert_pem.write_to_path(files["ca"])
        other.cert_pem.write_to_path(files["other_ca"])
        files["server_key"].write_bytes(_pkcs8(server.private_key_pem.bytes()))
        for chain in server.cert_chain_pems:
            chain.write_to_path(files["server"], append=True)
        authority.issue_cert("alice@example.org", common_name="alice").private_key_and_cert_chain_pem.write_to_path(
            files["client"]
        )
        other.issue_cert("mallory@example.org").private_key_and_cert_chain_pem.write_to_path(files["stranger"])
        return cls(**{name: str(file) for name, file in files.items()})


def _pkcs8(key: bytes) -> bytes:
    """A PEM key in the one form that Kafka reads."""
    loaded = serialization.load_pem_private_key(key, None)
    return loaded.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@dataclass(frozen=True)
class Door:
    """A listener: where it is, and how one gets in."""

    address: str
    security: Security

    def by(self, **changes: str | None) -> "Door":
        """With something else than what gets in."""
        return replace(self, security=replace(self.security, **changes))


Doors = dict[str, Door]
"""By name: PLAINTEXT, SSL, MUTUAL (client certificates), and every SASL protocol with every mechanism."""


def ways(certificates: Certificates) -> dict[str, Security]:
    """What a client needs for each door."""
    found = {
        "SSL": Security("SSL", ca=certificates.ca),
        "MUTUAL": Security("SSL", ca=certificates.ca, cert=certificates.client),
    }
    for mechanism in MECHANISMS:
        found[f"SASL_PLAINTEXT {mechanism}"] = Security("SASL_PLAINTEXT", mechanism, USER, PASSWORD)
        found[f"SASL_SSL {mechanism}"] = Security("SASL_SSL", mechanism, USER, PASSWORD, ca=certificates.ca)
    return found


DOORS = ("SSL", "MUTUAL", *(f"{protocol} {each}" for protocol in ("SASL_PLAINTEXT", "SASL_SSL") for each in MECHANISMS))


@contextmanager
def embedded(folder: Path, certificates: Certificates) -> Iterator[Doors]:
    """An embedded broker for each door."""
    users = folder / "users.json"
    add_user(users, USER, PASSWORD)
    tls = {"tls_cert": Path(certificates.server), "tls_key": Path(certificates.server_key)}
    with ExitStack() as stack:
        servers = {
            "PLAINTEXT": BrokerServer(expire_on_disconnect=True),
            "SSL": BrokerServer(expire_on_disconnect=True, **tls),
            "MUTUAL": BrokerServer(expire_on_disconnect=True, **tls, tls_client_ca=Path(certificates.ca)),
            "SASL_PLAINTEXT": BrokerServer(expire_on_disconnect=True, sasl=MECHANISMS, users=users),
            "SASL_SSL": BrokerServer(expire_on_disconnect=True, sasl=MECHANISMS, users=users, **tls),
        }
        at = {name: stack.enter_context(server).bootstrap for name, server in servers.items()}
        yield _doors(at, certificates)


@contextmanager
def apache(folder: Path, certificates: Certificates) -> Iterator[Doors]:
    """Apache Kafka with a listener for each door."""
    listeners = {"SSL": "SSL", "MUTUAL": "SSL", "SASL_PLAINTEXT": "SASL_PLAINTEXT", "SASL_SSL": "SASL_SSL"}
    keystore = folder / "keystore.pem"
    keystore.write_text(Path(certificates.server_key).read_text() + Path(certificates.server).read_text())
    properties = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keystore),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": certificates.ca,
        "listener.name.mutual.ssl.client.auth": "required",
    }
    quoted = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
    package = "org.apache.kafka.common.security"
    for name in ("sasl_plaintext", "sasl_ssl"):
        prefix = f"listener.name.{name}."
        properties |= {
            f"{prefix}sasl.enabled.mechanisms": ",".join(MECHANISMS),
            f"{prefix}plain.sasl.jaas.config": f'{package}.plain.PlainLoginModule required user_{USER}="{quoted}";',
        }
        for mechanism in MECHANISMS[1:]:
            module = f"{package}.scram.ScramLoginModule required;"
            properties[f"{prefix}{mechanism.lower()}.sasl.jaas.config"] = module
    with KafkaServer(heap_mb=256, properties=properties | UNHURRIED, listeners=listeners) as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            info = ScramCredentialInfo(mechanism, 4096)
            change = UserScramCredentialUpsertion(USER, info, PASSWORD.encode())
            for done in admin.alter_user_scram_credentials([change]).values():
                done.result(90)
        at = {"PLAINTEXT": kafka.bootstrap, **{name: kafka.address(name) for name in listeners}}
        for mechanism in MECHANISMS:
            _await_login(at["SASL_PLAINTEXT"], mechanism)
        yield _doors(at, certificates)


def _await_login(address: str, mechanism: str) -> None:
    """Kafka's controller has taken a user's password, and its broker hears of it a moment later."""
    login = {"sasl.mechanism": mechanism, "sasl.username": USER, "sasl.password": PASSWORD}
    deadline = time.monotonic() + 90
    while True:
        admin = AdminClient(
            {"bootstrap.servers": address, "security.protocol": "SASL_PLAINTEXT", "log_level": 0, **login}
        )
        try:
            admin.list_topics(timeout=5)
        except KafkaException:
            if time.monotonic() > deadline:
                raise
        else:
            return


def _doors(at: dict[str, str], certificates: Certificates) -> Doors:
    doors = {"PLAINTEXT": Door(at["PLAINTEXT"], Security())}
    for name, security in ways(certificates).items():
        doors[name] = Door(at[name.partition(" ")[0]], security)
    return doors


def refused_by_tls(door: Door) -> bool:
    """Whether the listener ends a TLS connection of that client: with TLS 1.3 not before it reads."""
    import socket

    host, port = door.address.split(":")
    context = door.security.ssl_context()
    assert context is not None
    with socket.create_connection((host, int(port)), timeout=90) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=host) as wrapped:
                wrapped.sendall(b"\0\0\0\x0a\0\x12\0\0\0\0\0\x01\xff\xff")
                return wrapped.recv(4) == b""
        except (ssl.SSLError, ConnectionError):
            return True
