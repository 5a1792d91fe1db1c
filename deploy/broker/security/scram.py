"""The server's side of SCRAM (RFC 5802, RFC 7677), and PLAIN against the same verifiers.

Like Kafka and its clients, names and passwords are taken as their UTF-8 bytes: no SASLprep, which is what speaks
against the libraries that do this. Channel binding is not offered.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

DIGESTS = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
"""Mechanism -> its hash."""

ITERATIONS = 8192
"""Of a new password: 5 ms for whoever logs in. Kafka takes 4096 to 16384."""

_SALT_BYTES = 24

_FIRST = re.compile(
    r"(?P<gs2>[ny],(?:a=(?P<authzid>(?:[^,=]|=2C|=3D)*))?,)"
    r"(?P<bare>n=(?P<user>(?:[^,=]|=2C|=3D)+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]+=[^,]*)*)"
)
_FINAL = re.compile(
    r"(?P<unproved>c=(?P<binding>[A-Za-z0-9+/]+=*),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]+=[^,]*)*?)"
    r",p=(?P<proof>[A-Za-z0-9+/]+=*)"
)


class Refused(Exception):
    """Not who they say they are, or not what the mechanism says; for the log, clients learn no more than that."""


@dataclass(frozen=True, slots=True, repr=False)
class Verifier:
    """What the broker keeps of a password: enough to check a proof, not enough to make one."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes

    @classmethod
    def of(cls, digest: str, password: str, salt: bytes | None = None, iterations: int = ITERATIONS) -> "Verifier":
        """Of a password; with a new salt where none is given."""
        salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
        salted = hashlib.pbkdf2_hmac(digest, password.encode("utf-8"), salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", digest)
        stored = hashlib.new(digest, client_key).digest()
        return cls(salt, iterations, stored, hmac.digest(salted, b"Server Key", digest))

    @classmethod
    def nobodys(cls, digest: str, user: str, secret: bytes, iterations: int = ITERATIONS) -> "Verifier":
        """For a name that no user has: always the same salt, so that asking twice tells nothing; no password fits."""
        seed = hmac.digest(secret, digest.encode() + b"\0" + user.encode("utf-8"), "sha512")
        size = hashlib.new(digest).digest_size
        return cls(seed[:_SALT_BYTES], iterations, secrets.token_bytes(size), secrets.token_bytes(size))

    def matches(self, digest: str, password: str) -> bool:
        """Whether it is of this password. Takes as long as making one."""
        other = Verifier.of(digest, password, self.salt, self.iterations)
        return hmac.compare_digest(other.stored_key, self.stored_key)


class ScramExchange:
    """One authentication: two messages of the client's, two answers.

    Args:
        digest: the mechanism's hash.
        verifier: gives a verifier for every name, `Verifier.nobodys` for those that no user has.
        nonce: the server's part, printable and without a comma. Default None: a random one.
    """

    def __init__(self, digest: str, verifier: Callable[[str], Verifier], nonce: str | None = None) -> None:
        self._digest = digest
        self._find = verifier
        self._own = secrets.token_urlsafe(24) if nonce is None else nonce
        self._verifier: Verifier | None = None
        self._over = False
        self._nonce = self._gs2 = self._signed = ""
        self.user = ""
        """The name given, believed only when `done`."""
        self.done = False

    def step(self, message: bytes) -> bytes:
        """The answer to the client's next message. Raises Refused; the exchange is over then."""
        try:
            text = message.decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("not UTF-8") from None
        if self._over:
            raise Refused("a message after the last")
        if self._verifier is None:
            return self._first(text).encode("utf-8")
        self._over = True  # one try
        return self._final(text, self._verifier).encode("utf-8")

    def _first(self, text: str) -> str:
        given = _FIRST.fullmatch(text)
        if given is None:
            raise Refused("not a first message")
        self.user = _unescaped(given["user"])
        if given["authzid"] and _unescaped(given["authzid"]) != self.user:
            raise Refused(f"{self.user!r} asks to be somebody else")
        verifier = self._verifier = self._find(self.user)
        self._gs2 = given["gs2"]
        self._nonce = given["nonce"] + self._own
        answer = f"r={self._nonce},s={_base64(verifier.salt)},i={verifier.iterations}"
        self._signed = f"{given['bare']},{answer}"
        return answer

    def _final(self, text: str, verifier: Verifier) -> str:
        given = _FINAL.fullmatch(text)
        if given is None:
            raise Refused("not a final message")
        if _bytes(given["binding"]) != self._gs2.encode("utf-8"):
            raise Refused("another channel binding than it began with")
        if not hmac.compare_digest(given["nonce"], self._nonce):
            raise Refused("another nonce than it began with")
        signed = f"{self._signed},{given['unproved']}".encode()
        mask = hmac.digest(verifier.stored_key, signed, self._digest)
        proof = _bytes(given["proof"])
        if len(proof) != len(mask):
            raise Refused("a proof of another length")
        client_key = bytes(a ^ b for a, b in zip(proof, mask, strict=True))
        if not hmac.compare_digest(hashlib.new(self._digest, client_key).digest(), verifier.stored_key):
            raise Refused(f"no user {self.user!r} with that password")
        self.done = True
        return f"v={_base64(hmac.digest(verifier.server_key, signed, self._digest))}"


def plain(message: bytes) -> tuple[str, str]:
    """User and password of a PLAIN message (RFC 4616). Raises Refused."""
    try:
        authzid, user, password = message.decode("utf-8").split("\0")
    except ValueError:  # UnicodeDecodeError is one too
        raise Refused("not a PLAIN message") from None
    if not user or not password:
        raise Refused("without a name or a password")
    if authzid not in ("", user):
        raise Refused(f"{user!r} asks to be somebody else")
    return user, password


def _unescaped(name: str) -> str:
    return name.replace("=2C", ",").replace("=3D", "=")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Refused("not base64") from None
