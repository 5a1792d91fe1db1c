"""What the broker listens on, under which conditions, and where it tells clients to find it."""

import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.deploy.broker.security.problem import SecurityProblem
from penstock.deploy.broker.security.sasl import MECHANISMS, Sasl
from penstock.deploy.broker.security.tls import server_context
from penstock.deploy.broker.security.users_file import users_file

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options, as they were given."""

    listen: str
    advertise: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    sasl: str | None = None
    users: Path | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Listener:
    """Where the broker listens, and what it asks of those who connect."""

    address: Address
    advertised: Address | None
    """Where clients are told to connect; None for `address`. Port 0 is the one that is listened on."""
    tls: ssl.SSLContext | None
    sasl: Sasl | None

    @classmethod
    def of(cls, wanted: Wanted, data: Path) -> "Listener":
        """The listener that was asked for.

        Raises:
            SecurityProblem: options that do not go together, files that cannot be used, or a listener that others
                could reach and that nothing protects.
        """
        address = _address("--listen", wanted.listen)
        tls, sasl = _tls(wanted), _sasl(wanted, data)
        if not wanted.insecure and not _is_loopback(address[0]):
            _refuse_unprotected(address[0], tls, sasl)
        return cls(address, _advertised(wanted, address), tls, sasl)

    @property
    def protocol(self) -> str:
        """Kafka's name of it: what clients set as security.protocol."""
        if self.sasl is None:
            return "PLAINTEXT" if self.tls is None else "SSL"
        return "SASL_PLAINTEXT" if self.tls is None else "SASL_SSL"

    def clients_find(self, port: int) -> Address:
        """Where clients are told to connect, when it listens on `port`."""
        host, own = self.advertised or (self.address[0], port)
        return host, own or port

    @property
    def protection(self) -> str:
        """What protects it, in words."""
        parts = []
        if self.tls is not None:
            parts.append("TLS with client certificates" if self._mutual else "TLS")
        if self.sasl is not None:
            parts.append(f"SASL {' '.join(self.sasl.mechanisms)}")
        return ", ".join(parts) or "no TLS, no authentication"

    @property
    def warnings(self) -> list[str]:
        """What somebody who set it up so may not have meant."""
        found = []
        if self.sasl is not None and not len(self.sasl.credentials):
            found.append("nobody can log in: there are no users yet; penstock broker users add NAME")
        if _is_loopback(self.address[0]):
            return found
        if self.sasl is None and not self._mutual:
            found.append("whoever reaches this address may read and write everything: there is no authentication")
        if self.tls is None:
            found.append("records can be read by whoever sees the network's traffic: there is no TLS")
        if self.tls is None and self.sasl is not None and "PLAIN" in self.sasl.mechanisms:
            found.append("so can passwords: PLAIN sends them as they are")
        return found

    @property
    def _mutual(self) -> bool:
        return self.tls is not None and self.tls.verify_mode == ssl.CERT_REQUIRED


def address_text(host: str, port: int) -> str:
    """HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _refuse_unprotected(host: str, tls: ssl.SSLContext | None, sasl: Sasl | None) -> None:
    if tls is not None:
        return
    if sasl is None:
        raise SecurityProblem(
            f"{host} can be reached from other machines, and nothing protects this broker: give --tls-cert and "
            "--tls-key, or --sasl SCRAM-SHA-512, or --insecure where the network is trusted, or listen on 127.0.0.1"
        )
    if "PLAIN" in sasl.mechanisms:
        raise SecurityProblem(
            f"{host} can be reached from other machines, and SASL PLAIN without TLS sends passwords in clear: give "
            "--tls-cert and --tls-key, or --sasl SCRAM-SHA-512, or --insecure where the network is trusted"
        )


def _address(option: str, text: str, *, port_needed: bool = True) -> Address:
    host, colon, port = text.rpartition(":")
    if not port_needed and (not colon or text.endswith("]")):
        host, colon, port = text, ":", "0"
    host = host.strip("[]")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise SecurityProblem(f"{option} {text}: give HOST:PORT, for example 127.0.0.1:9092")
    return host, int(port)


def _advertised(wanted: Wanted, address: Address) -> Address | None:
    if wanted.advertise is None:
        if _is_wildcard(address[0]):
            raise SecurityProblem(
                f"--listen {wanted.listen}: clients are told where to connect, and {address[0]} is every address of "
                "this machine; say with --advertise HOST:PORT by which one they reach it"
            )
        return None
    advertised = _address("--advertise", wanted.advertise, port_needed=False)
    if _is_wildcard(advertised[0]):
        raise SecurityProblem(f"--advertise {wanted.advertise}: give a name or address that clients can connect to")
    return advertised


def _tls(wanted: Wanted) -> ssl.SSLContext | None:
    if wanted.tls_cert is not None:
        return server_context(wanted.tls_cert, wanted.tls_key, wanted.tls_client_ca)
    for option, given in (("--tls-key", wanted.tls_key), ("--tls-client-ca", wanted.tls_client_ca)):
        if given is not None:
            raise SecurityProblem(f"{option} {given} goes with --tls-cert FILE, the server's certificate")
    return None


def _sasl(wanted: Wanted, data: Path) -> Sasl | None:
    if wanted.sasl is None and wanted.users is None:
        return None
    if wanted.sasl is None:
        mechanisms: Sequence[str] = ("SCRAM-SHA-512", "SCRAM-SHA-256")
    else:
        mechanisms = tuple(dict.fromkeys(name.strip().upper() for name in wanted.sasl.split(",")))
    for name in mechanisms:
        if name not in MECHANISMS:
            raise SecurityProblem(f"--sasl {wanted.sasl}: {name!r} is not one of {', '.join(MECHANISMS)}")
    from penstock.deploy.broker.security.credentials import Credentials

    return Sasl(mechanisms, Credentials(wanted.users or users_file(data)))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
