"""How to connect to a broker: TLS, SASL, or neither; read from the client properties file that Kafka's tools take."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock.agents.properties import read_properties, write_properties
from penstock.tables.errors import PenstockError

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class SecurityError(PenstockError):
    """A security setting that cannot be used: which, where, and what to do."""


@dataclass(frozen=True)
class Security:
    """How a client connects, in Kafka's terms.

    >>> Security("SASL_SSL", "SCRAM-SHA-512", "alice", "secret", ca="ca.pem")
    Security(protocol='SASL_SSL', mechanism='SCRAM-SHA-512', username='alice', ca='ca.pem', cert=None, key=None, \
check_hostname=True)

    Attributes:
        protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        mechanism: of SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
        username, password: of SASL.
        ca: PEM file with the authorities that brokers' certificates come from. Default None: the system's.
        cert: PEM file with the client's own certificate, for brokers that ask for one.
        key: PEM file with its private key. Default None: it is in `cert`.
        key_password: the key's passphrase.
        check_hostname: whether a broker's certificate must be for the name it was reached by.

    Raises:
        SecurityError: settings that do not go together.
    """

    protocol: str = "PLAINTEXT"
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    key_password: str | None = field(default=None, repr=False)
    check_hostname: bool = True

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise SecurityError(f"security.protocol={self.protocol}: it is one of {', '.join(PROTOCOLS)}")
        self._check_sasl()
        if not self.tls and (self.ca or self.cert or self.key or self.key_password or not self.check_hostname):
            instead = "SASL_SSL" if self.sasl else "SSL"
            raise SecurityError(f"ssl settings go with security.protocol={instead}, not with {self.protocol}")
        if self.key and not self.cert:
            raise SecurityError(f"the key {self.key} goes with a certificate: ssl.certificate.location")

    def _check_sasl(self) -> None:
        if not self.sasl:
            if self.mechanism or self.username or self.password:
                instead = "SASL_SSL" if self.tls else "SASL_PLAINTEXT"
                raise SecurityError(f"sasl settings go with security.protocol={instead}, not with {self.protocol}")
            return
        if self.mechanism is None:
            raise SecurityError(f"security.protocol={self.protocol} needs sasl.mechanism: {', '.join(MECHANISMS)}")
        if self.mechanism not in MECHANISMS:
            raise SecurityError(f"sasl.mechanism={self.mechanism} is not supported: {', '.join(MECHANISMS)} are")
        if not self.username or not self.password:
            raise SecurityError(
                f"sasl.mechanism={self.mechanism} needs a user name and a password: sasl.jaas.config, or "
                "sasl.username and sasl.password"
            )

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def sasl(self) -> bool:
        """Whether the client authenticates by SASL."""
        return self.protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    @classmethod
    def read(cls, file: str | Path) -> "Security":
        """From a client properties file, the one that Kafka's own tools take as --command-config.

        It may have ``security.protocol``, ``sasl.mechanism``, ``sasl.jaas.config`` (PlainLoginModule and
        ScramLoginModule), or librdkafka's ``sasl.username`` and ``sasl.password``; ``ssl.ca.location``,
        ``ssl.certificate.location``, ``ssl.key.location``, ``ssl.key.password``, or Kafka's truststore and keystore
        locations with type PEM; ``ssl.endpoint.identification.algorithm``.

        Raises:
            SecurityError: it cannot be read, has a setting that is not one of these, or its PEM files cannot be used.
        """
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
            raise SecurityError(f"{file}: {why}") from exc
        try:
            security = cls(**_arguments(read_properties(text)))
            security.ssl_context()
        except SecurityError as exc:
            raise SecurityError(f"{file}: {exc}") from exc
        return security

    def ssl_context(self) -> ssl.SSLContext | None:
        """A context with these certificates; None without TLS. Raises SecurityError where a file cannot be used."""
        if not self.tls:
            return None
        for setting, file in (("ca", self.ca), ("certificate", self.cert), ("key", self.key)):
            if file is not None:
                _readable(setting, file)
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except ssl.SSLError as exc:
            raise SecurityError(f"ssl.ca.location={self.ca} is not certificates in PEM form") from exc
        context.check_hostname = self.check_hostname
        if self.cert is not None:
            try:
                # A function, or OpenSSL asks the terminal where a passphrase is needed and none is given.
                context.load_cert_chain(self.cert, self.key, password=lambda: self.key_password or "")
            except ssl.SSLError as exc:
                raise SecurityError(_told(exc, self.cert, self.key)) from exc
        return context

    def client_settings(self) -> dict[str, Any]:
        """Arguments of aiokafka's clients, which kafka-python's have too."""
        if self.protocol == "PLAINTEXT":
            return {}
        settings: dict[str, Any] = {"security_protocol": self.protocol, "ssl_context": self.ssl_context()}
        if self.sasl:
            settings |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return settings

    def text(self) -> str:
        """As a properties file that `read` takes, passwords included: for a worker process, and nobody else."""
        settings = {
            "security.protocol": self.protocol,
            "sasl.mechanism": self.mechanism,
            "sasl.username": self.username,
            "sasl.password": self.password,
            "ssl.ca.location": self.ca,
            "ssl.certificate.location": self.cert,
            "ssl.key.location": self.key,
            "ssl.key.password": self.key_password,
            "ssl.endpoint.identification.algorithm": None if self.check_hostname else "none",
        }
        return write_properties({name: value for name, value in settings.items() if value is not None})


PLAINTEXT = Security()
"""Neither TLS nor SASL."""

_FIELDS = {
    "security.protocol": "protocol",
    "sasl.mechanism": "mechanism",
    "sasl.mechanisms": "mechanism",
    "sasl.username": "username",
    "sasl.password": "password",
    "ssl.ca.location": "ca",
    "ssl.truststore.location": "ca",
    "ssl.certificate.location": "cert",
    "ssl.keystore.location": "cert",
    "ssl.key.location": "key",
    "ssl.key.password": "key_password",
}

_JAVA_STORE = "only PEM files can be read: keytool and openssl convert it, then ssl.{kind}.type=PEM"
_ADVICE = {
    "bootstrap.servers": "say it with --broker",
    "ssl.truststore.password": "a PEM file has none; " + _JAVA_STORE.format(kind="truststore"),
    "ssl.keystore.password": "a PEM file has none (ssl.key.password is the key's); "
    + _JAVA_STORE.format(kind="keystore"),
    "ssl.truststore.certificates": "write it to a file, and name that with ssl.ca.location",
    "ssl.keystore.certificate.chain": "write it to a file, and name that with ssl.certificate.location",
    "ssl.keystore.key": "write it to a file, and name that with ssl.key.location",
    "ssl.ca.pem": "write it to a file, and name that with ssl.ca.location",
    "ssl.certificate.pem": "write it to a file, and name that with ssl.certificate.location",
    "ssl.key.pem": "write it to a file, and name that with ssl.key.location",
    "sasl.kerberos.service.name": "GSSAPI is not supported: PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 are",
}
_OWN = ("ssl.truststore.type", "ssl.keystore.type", "ssl.endpoint.identification.algorithm", "sasl.jaas.config")


def _arguments(settings: Mapping[str, str]) -> dict[str, Any]:
    """The settings of a file as arguments of `Security`. Raises SecurityError."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if name in _FIELDS:
            into = _FIELDS[name]
            if found.get(into, value) != value:
                raise SecurityError(f"{name} says something else than another setting of the same meaning")
            found[into] = value or None
        elif name not in _OWN:
            advice = _ADVICE.get(name, f"Penstock reads {', '.join([*_FIELDS, *_OWN])}")
            raise SecurityError(f"{name} is not supported: {advice}")
    for kind, location in (("truststore", "ssl.truststore.location"), ("keystore", "ssl.keystore.location")):
        type_ = settings.get(f"ssl.{kind}.type", "JKS" if location in settings else "PEM")
        if type_.upper() != "PEM":
            raise SecurityError(f"ssl.{kind}.type={type_} is not supported: {_JAVA_STORE.format(kind=kind)}")
    if (algorithm := settings.get("ssl.endpoint.identification.algorithm")) is not None:
        if algorithm.lower() not in ("https", "none", ""):
            raise SecurityError(f"ssl.endpoint.identification.algorithm={algorithm}: it is https, or none")
        if algorithm.lower() != "https":
            found["check_hostname"] = False
    if "sasl.jaas.config" in settings:
        found |= _login(settings["sasl.jaas.config"], found)
    found["protocol"] = (found.get("protocol") or "PLAINTEXT").upper()
    return found


_LOGIN = re.compile(
    r"\s*(?P<module>[\w.$]+)\s+(?:required|requisite|sufficient|optional)\b(?P<options>.*?);?\s*", re.DOTALL
)
_OPTION = re.compile(r"""\s*([\w.]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s"';]+))""", re.DOTALL)


def _login(jaas: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """User name and password of a sasl.jaas.config. No error shows it: it has the password in it."""
    given = _LOGIN.fullmatch(jaas)
    if given is None:
        raise SecurityError('sasl.jaas.config is not of the form MODULE required username="..." password="...";')
    module = given["module"].rpartition(".")[2]
    mechanism = str(found.get("mechanism") or "")
    if module not in ("PlainLoginModule", "ScramLoginModule"):
        raise SecurityError(f"sasl.jaas.config: {module} is not supported: PlainLoginModule and ScramLoginModule are")
    if mechanism and (mechanism == "PLAIN") != (module == "PlainLoginModule"):
        raise SecurityError(f"sasl.jaas.config: {module} does not go with sasl.mechanism={mechanism}")
    options: dict[str, str] = {}
    at, text = 0, given["options"]
    while option := _OPTION.match(text, at):
        quoted = option[2] if option[2] is not None else option[3]
        options[option[1]] = option[4] if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
        at = option.end()
    if text[at:].strip():
        raise SecurityError('sasl.jaas.config: its options are not all of the form name="value"')
    if other := sorted(options.keys() - {"username", "password"}):
        raise SecurityError(f"sasl.jaas.config: {', '.join(other)} is not supported: username and password are")
    for name, value in options.items():
        if found.get(name, value) != value:
            raise SecurityError(f"sasl.{name} says something else than sasl.jaas.config")
    return dict(options)


def _readable(setting: str, file: str) -> None:
    try:
        Path(file).open("rb").close()
    except OSError as exc:
        raise SecurityError(f"ssl.{setting}.location={file}: {exc.strerror}") from exc


def _told(exc: ssl.SSLError, cert: str, key: str | None) -> str:
    if exc.reason == "KEY_VALUES_MISMATCH":
        return f"ssl.key.location={key or cert} is not the key of the certificate {cert}"
    files = cert if key is None else f"{cert} and {key}"
    return f"{files}: not a certificate and its private key in PEM form, or ssl.key.password is not the key's"
