"""The users file: names and SCRAM verifiers, never a password. Read again when it changes.

JSON, so that other tools can write it: ``{"secret": ..., "users": {NAME: {MECHANISM: {"salt", "iterations",
"stored_key", "server_key"}}}}``, bytes in base64. It is replaced whole, by rename, and only its owner may read it.
"""

import base64
import contextlib
import fcntl
import json
import logging
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penstock.deploy.broker.security.problem import SecurityProblem
from penstock.deploy.broker.security.scram import DIGESTS, ITERATIONS, Verifier

log = logging.getLogger(__name__)

MOST_ITERATIONS = 16384
FEWEST_ITERATIONS = 4096
"""Kafka's bounds, which its clients hold a server to."""

LONGEST_NAME = 255

_Users = dict[str, dict[str, Verifier]]


class Credentials:
    """The users as a running broker sees them.

    Args:
        file: the users file.

    Raises:
        SecurityProblem: it is not there, or is not one.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen = self._state()
        self._secret, self._users = _read(file)
        self._usual = _usual_iterations(self._users)
        if self._seen is not None and self._seen[-1] & 0o077:
            log.warning("%s can be read by others than its owner: chmod 600 %s", file, file)

    def __len__(self) -> int:
        return len(self._users)

    def verifier(self, user: str, mechanism: str) -> Verifier:
        """A user's verifier for a SCRAM mechanism; one that nothing fits where there is no such user."""
        self._renew()
        digest = DIGESTS[mechanism]
        nobodys = Verifier.nobodys(digest, user, self._secret, self._usual)  # made for everybody: it takes its time
        return self._users.get(user, {}).get(mechanism) or nobodys

    def matches(self, user: str, password: str) -> bool:
        """Whether it is the user's password. Takes milliseconds, for names that no user has too."""
        self._renew()
        own = self._users.get(user, {})
        mechanism = next((name for name in ("SCRAM-SHA-512", "SCRAM-SHA-256") if name in own), "SCRAM-SHA-512")
        return self.verifier(user, mechanism).matches(DIGESTS[mechanism], password)

    def _renew(self) -> None:
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            self._secret, self._users = _read(self._file)
        except SecurityProblem as problem:
            self._users = {}  # what nobody can read lets nobody in
            log.error("no user can log in: %s", problem)
        else:
            self._usual = _usual_iterations(self._users)
            log.info("%s has changed: %d users", self._file, len(self._users))

    def _state(self) -> tuple[int, int, int, int] | None:
        try:
            now = self._file.stat()
        except OSError:
            return None
        return now.st_ino, now.st_mtime_ns, now.st_size, now.st_mode


def add_user(file: Path, name: str, password: str, iterations: int = ITERATIONS) -> bool:
    """Write a user's verifiers, in the place of those there are. Running brokers see it at the next login.

    Returns:
        Whether the user is new.

    Raises:
        SecurityProblem: a name or password that cannot be one, or a file that cannot be read or written.
    """
    if not name or len(name) > LONGEST_NAME or "\0" in name:
        raise SecurityProblem(f"user name {name[:20]!r}: give 1 to {LONGEST_NAME} characters")
    if not password or "\0" in password:
        raise SecurityProblem("the password is empty" if not password else "the password has a NUL character in it")
    if not FEWEST_ITERATIONS <= iterations <= MOST_ITERATIONS:
        raise SecurityProblem(f"{iterations} iterations: clients take {FEWEST_ITERATIONS} to {MOST_ITERATIONS}")
    try:
        f"{name}{password}".encode()
    except UnicodeEncodeError:
        raise SecurityProblem("the user name or the password is not UTF-8") from None
    made = {mechanism: Verifier.of(digest, password, iterations=iterations) for mechanism, digest in DIGESTS.items()}
    with _changing(file, create=True) as users:
        new = name not in users
        users[name] = made
    return new


def remove_user(file: Path, name: str) -> None:
    """Remove a user; connections that are open stay open.

    Raises:
        SecurityProblem: there is none of that name, or a file that cannot be read or written.
    """
    with _changing(file) as users:
        if name not in users:
            raise SecurityProblem(f"{file} has no user {name!r}")
        del users[name]


def user_names(file: Path) -> list[str]:
    """The names in a users file; none where there is no file. Raises SecurityProblem."""
    return sorted(_read(file)[1]) if file.exists() else []


@contextlib.contextmanager
def _changing(file: Path, *, create: bool = False) -> Iterator[_Users]:
    """The users to be changed, written back at the end, one at a time."""
    try:
        if create:
            file.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            fresh = create and not file.exists()
            secret, users = (secrets.token_bytes(32), {}) if fresh else _read(file)
            yield users
            _write(file, secret, users)
        finally:
            os.close(folder)
    except OSError as error:
        raise SecurityProblem(f"{file} cannot be written: {error.strerror}") from error


def _usual_iterations(users: _Users) -> int:
    """What most users have: another number would tell the names that no user has from theirs."""
    counts = Counter(each.iterations for verifiers in users.values() for each in verifiers.values())
    return counts.most_common(1)[0][0] if counts else ITERATIONS


def _read(file: Path) -> tuple[bytes, _Users]:
    try:
        content = json.loads(file.read_bytes())
        users = {
            name: {mechanism: _verifier(each) for mechanism, each in verifiers.items() if mechanism in DIGESTS}
            for name, verifiers in content["users"].items()
        }
        return _raw(content["secret"]), users
    except FileNotFoundError:
        raise SecurityProblem(f"there is no users file {file}: penstock broker users add NAME makes it") from None
    except OSError as error:
        raise SecurityProblem(f"{file}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise SecurityProblem(
            f"{file} is not a users file ({why}); penstock broker users add NAME makes one"
        ) from error


def _write(file: Path, secret: bytes, users: _Users) -> None:
    content = {
        "secret": _text(secret),
        "users": {
            name: {
                mechanism: {
                    "salt": _text(each.salt),
                    "iterations": each.iterations,
                    "stored_key": _text(each.stored_key),
                    "server_key": _text(each.server_key),
                }
                for mechanism, each in verifiers.items()
            }
            for name, verifiers in users.items()
        },
    }
    whole = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            json.dump(content, out, indent=1, ensure_ascii=False)
            out.write("\n")
            out.flush()
            _give_to_owner(out.fileno(), file if file.exists() else file.parent)
            os.fsync(out.fileno())
        whole.replace(file)
    finally:
        whole.unlink(missing_ok=True)


def _give_to_owner(descriptor: int, of: Path) -> None:
    """The broker's account must read what root has written for it."""
    owner = of.stat()
    if os.geteuid() == 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _verifier(given: Any) -> Verifier:
    iterations = given["iterations"]
    if not isinstance(iterations, int) or iterations < 1:
        raise ValueError(f"{iterations!r} iterations")
    return Verifier(_raw(given["salt"]), iterations, _raw(given["stored_key"]), _raw(given["server_key"]))


def _raw(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
