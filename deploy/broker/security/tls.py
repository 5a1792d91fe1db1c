"""TLS of the listener, from PEM files."""

import ssl
from pathlib import Path
from typing import Any

from penstock.deploy.broker.security.problem import SecurityProblem

HANDSHAKE_SECONDS = 10.0
"""A client that has not finished its handshake by then is dropped."""

SHUTDOWN_SECONDS = 2.0
"""How long the broker waits for a client's own farewell when it closes a connection."""


def server_context(cert: Path, key: Path | None = None, client_ca: Path | None = None) -> ssl.SSLContext:
    """A context for the listener: TLS 1.2 and 1.3, Python's choice of ciphers.

    Args:
        cert: the server's certificate, and behind it those that lead to the authority.
        key: its private key, without a passphrase. Default None: it is in `cert`.
        client_ca: authorities of client certificates. Given, every client must show one (mutual TLS).

    Raises:
        SecurityProblem: a file that is missing, cannot be read or is no PEM, or a key of another certificate.
    """
    for option, file in (("--tls-cert", cert), ("--tls-key", key), ("--tls-client-ca", client_ca)):
        if file is not None:
            _readable(option, file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key, password=lambda: _refuse_passphrase(key or cert))
    except ssl.SSLError as error:
        raise SecurityProblem(_told(error, cert, key)) from error
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as error:
            raise SecurityProblem(f"--tls-client-ca {client_ca}: not certificates in PEM form") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def principal(certificate: Any) -> str:
    """A client certificate's subject as Kafka writes it, the most specific part first: ``User:CN=alice,O=Acme``.

    Args:
        certificate: as `ssl.SSLSocket.getpeercert` gives it.
    """
    parts = [pair for names in certificate.get("subject", ()) for pair in names]
    return "User:" + ",".join(f"{_SHORT.get(name, name)}={_escaped(value)}" for name, value in reversed(parts))


_SHORT = {
    "commonName": "CN",
    "organizationalUnitName": "OU",
    "organizationName": "O",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "countryName": "C",
}


def _escaped(value: str) -> str:
    """RFC 2253: what would end a part is escaped, so that no name can pretend to be two."""
    return "".join(f"\\{letter}" if letter in ',+"\\<>;=' else letter for letter in value)


def _readable(option: str, file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise SecurityProblem(f"{option} {file}: {error.strerror}") from error


def _refuse_passphrase(file: Path) -> str:
    raise SecurityProblem(f"{file}: the key has a passphrase; give one without: openssl pkey -in {file} -out FILE")


def _told(error: ssl.SSLError, cert: Path, key: Path | None) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"--tls-key {key or cert} is not the key of the certificate --tls-cert {cert}"
    missing = "" if key is not None else ", or give its key with --tls-key"
    files = f"--tls-cert {cert}" + (f", --tls-key {key}" if key is not None else "")
    return f"{files}: not a certificate and its private key in PEM form{missing}"
