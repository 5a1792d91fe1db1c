"""What the broker may listen on, what it says at start, and options that cannot be used: one line each."""

import logging
import os
import re
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient

from penstock.deploy.broker import BrokerServer, BrokerUnavailable
from penstock.deploy.broker.security import Credentials, Listener, SecurityProblem, Wanted, users_file
from penstock.deploy.broker.security.credentials import add_user, user_names
from penstock.deploy.broker.security.tls import principal
from penstock.deploy.broker.security.users import users
from penstock.deploy.cli import main

LIMIT = 90.0


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a user."""
    add_user(users_file(tmp_path), "alice", "secret", iterations=4096)
    return tmp_path


OPEN = "0.0.0.0:9092"
TOLD = "kafka.example.org:9092"


@pytest.mark.parametrize(
    ("wanted", "protocol", "protection", "warned"),
    [
        (Wanted("127.0.0.1:1"), "PLAINTEXT", "no TLS, no authentication", []),
        (Wanted("[::1]:1"), "PLAINTEXT", "no TLS, no authentication", []),
        (Wanted("localhost:1", sasl="PLAIN"), "SASL_PLAINTEXT", "SASL PLAIN", []),
        (Wanted(OPEN, TOLD, sasl="scram-sha-512, SCRAM-SHA-256"), "SASL_PLAINTEXT",
         "SASL SCRAM-SHA-512 SCRAM-SHA-256", ["there is no TLS"]),
        (Wanted(OPEN, TOLD, Path("both.pem")), "SSL", "TLS", ["there is no authentication"]),
        (Wanted(OPEN, TOLD, Path("cert.pem"), Path("key.pem"), Path("ca.pem")), "SSL",
         "TLS with client certificates", []),
        (Wanted(OPEN, TOLD, Path("both.pem"), sasl="PLAIN,SCRAM-SHA-256"), "SASL_SSL",
         "TLS, SASL PLAIN SCRAM-SHA-256", []),
        (Wanted(OPEN, TOLD, insecure=True), "PLAINTEXT", "no TLS, no authentication",
         ["there is no authentication", "there is no TLS"]),
        (Wanted(OPEN, TOLD, sasl="PLAIN", insecure=True), "SASL_PLAINTEXT", "SASL PLAIN",
         ["there is no TLS", "so can passwords"]),
    ],
)  # fmt: skip
def test_what_protects_it(
    data: Path, pem: Path, wanted: Wanted, protocol: str, protection: str, warned: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(pem)
    listener = Listener.of(wanted, data)
    assert (listener.protocol, listener.protection) == (protocol, protection)
    assert [text in warning for text, warning in zip(warned, listener.warnings, strict=True)] == [True] * len(warned)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (Wanted(OPEN, TOLD), "nothing protects this broker: give --tls-cert"),
        (Wanted("192.0.2.1:9092"), "can be reached from other machines"),
        (Wanted("example.org:9092"), "can be reached from other machines"),
        (Wanted(OPEN, TOLD, sasl="PLAIN,SCRAM-SHA-256"), "SASL PLAIN without TLS sends passwords in clear"),
        (Wanted(OPEN, insecure=True), "--advertise HOST:PORT"),
        (Wanted("[::]:9092", sasl="SCRAM-SHA-512"), "--advertise HOST:PORT"),
        (Wanted(OPEN, "0.0.0.0:9092", insecure=True), "--advertise 0.0.0.0:9092: give a name"),
        (Wanted(OPEN, "host:port", insecure=True), "--advertise host:port: give HOST:PORT"),
        (Wanted("9092"), "--listen 9092: give HOST:PORT"),
        (Wanted("h:1", tls_key=Path("key.pem")), "--tls-key key.pem goes with --tls-cert"),
        (Wanted("h:1", tls_client_ca=Path("ca.pem")), "--tls-client-ca ca.pem goes with --tls-cert"),
        (Wanted("h:1", tls_cert=Path("gone.pem")), "--tls-cert gone.pem: No such file"),
        (Wanted("h:1", tls_cert=Path("cert.pem"), tls_key=Path("gone.pem")), "--tls-key gone.pem: No such file"),
        (Wanted("h:1", tls_cert=Path("cert.pem"), tls_key=Path("other.pem")),
         "--tls-key other.pem is not the key of the certificate --tls-cert cert.pem"),
        (Wanted("h:1", tls_cert=Path("cert.pem")), "give its key with --tls-key"),
        (Wanted("h:1", tls_cert=Path("none.pem"), tls_key=Path("key.pem")), "not a certificate and its private key"),
        (Wanted("h:1", tls_cert=Path("both.pem"), tls_client_ca=Path("none.pem")), "not certificates in PEM form"),
        (Wanted("h:1", sasl="GSSAPI"), "'GSSAPI' is not one of SCRAM-SHA-512, SCRAM-SHA-256, PLAIN"),
        (Wanted("h:1", sasl=""), "'' is not one of"),
        (Wanted("h:1", users=Path("gone.json")), "there is no users file gone.json: penstock broker users add"),
        (Wanted("h:1", users=Path("none.pem")), "none.pem is not a users file"),
        (Wanted("h:1", users=Path()), "Is a directory"),
    ],
)  # fmt: skip
def test_what_cannot_be(data: Path, pem: Path, wanted: Wanted, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pem)
    with pytest.raises(SecurityProblem) as refused:
        Listener.of(wanted, data)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_users_yet(tmp_path: Path) -> None:
    add_user(users_file(tmp_path), "alice", "secret", iterations=4096)
    users_file(tmp_path).write_text(users_file(tmp_path).read_text().partition('"users"')[0] + '"users": {}}')
    assert "nobody can log in" in Listener.of(Wanted("127.0.0.1:1", sasl="PLAIN"), tmp_path).warnings[0]


def test_clients_are_told_the_advertised_address(data: Path) -> None:
    """Listening on every address, with SCRAM; clients get in by the name they are told."""
    command = [sys.executable, "-m", "penstock.deploy.broker", "--data", str(data), "--sasl", "SCRAM-SHA-256"]
    command += ["--listen", "0.0.0.0:0", "--advertise", "localhost"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        try:
            assert running.stdout is not None
            assert select.select([running.stdout], [], [], LIMIT)[0]
            said = re.fullmatch(r"ready localhost:(\d+)\n", running.stdout.readline().decode())
            assert said is not None
            port = int(said[1])
            settings = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-256", "log_level": 0}
            login = {"sasl.username": "alice", "sasl.password": "secret", "bootstrap.servers": f"127.0.0.1:{port}"}
            brokers = AdminClient(settings | login).list_topics(timeout=LIMIT).brokers
            assert [(each.host, each.port) for each in brokers.values()] == [("localhost", port)]
        finally:
            running.terminate()
            _, told = running.communicate(timeout=LIMIT)
    text = told.decode()
    assert f"listening on 0.0.0.0:{port}: SASL SCRAM-SHA-256" in text
    assert "WARNING penstock.broker: records can be read by whoever sees the network's traffic" in text


def test_a_process_says_in_a_line_why_it_does_not_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "penstock.deploy.broker", "--data", str(tmp_path), "--sasl", "PLAIN"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"penstock broker: there is no users file {tmp_path}/users.json: penstock broker users add NAME makes it"
    ]
    with pytest.raises(BrokerUnavailable, match="there is no users file"):
        BrokerServer(sasl=("PLAIN",)).start()


def test_failed_handshakes_leave_nothing(pem: Path) -> None:
    """Connections that never become TLS: the broker answers on, and holds no descriptor of theirs."""
    with BrokerServer(tls_cert=pem / "both.pem") as server:
        host, port = server.bootstrap.split(":")
        settings = {"bootstrap.servers": server.bootstrap, "security.protocol": "SSL", "log_level": 0}
        admin = AdminClient({**settings, "ssl.ca.location": str(pem / "ca.pem")})
        assert admin.list_topics(timeout=LIMIT).brokers
        descriptors = Path(f"/proc/{server.pid}/fd")
        before = len(list(descriptors.iterdir()))
        for _ in range(50):
            with socket.create_connection((host, int(port)), timeout=LIMIT) as plain:
                plain.sendall(b"\0\0\0\x0a\0\x12\0\0\0\0\0\x01\xff\xff")
                try:
                    while plain.recv(100):
                        pass
                except ConnectionError:
                    pass
        assert admin.list_topics(timeout=LIMIT).brokers
        deadline = time.monotonic() + LIMIT
        while len(list(descriptors.iterdir())) > before + 2:
            assert time.monotonic() < deadline


# ---- users


def test_users_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, at = CliRunner(), ["--data", str(tmp_path)]
    monkeypatch.delenv("PENSTOCK_PASSWORD", raising=False)
    assert runner.invoke(users, ["list", *at]).output == ""
    added = runner.invoke(users, ["add", "alice", *at], input="secret\n")
    assert added.output == f"{tmp_path}/users.json: added alice\n"
    changed = runner.invoke(users, ["add", "alice", *at], env={"PENSTOCK_PASSWORD": "other"})
    assert changed.output == f"{tmp_path}/users.json: changed the password of alice\n"
    runner.invoke(users, ["add", "bob", "--users", str(tmp_path / "users.json")], input="b")
    assert runner.invoke(main, ["broker", "users", "list", *at]).output == "alice\nbob\n"
    file = users_file(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert "other" not in file.read_text()
    known = Credentials(file)
    assert [known.matches("alice", "other"), known.matches("alice", "secret"), known.matches("bob", "b")] == [
        True,
        False,
        True,
    ]
    assert runner.invoke(users, ["remove", "bob", *at]).output == f"{file}: removed bob\n"
    assert user_names(file) == ["alice"]
    assert [each.name for each in tmp_path.iterdir()] == ["users.json"]


@pytest.mark.parametrize(
    ("arguments", "typed", "told", "code"),
    [
        (["add", "a", "--data", "."], "\n", "error: the password is empty", 1),
        (["add", "", "--data", "."], "x", "error: user name ''", 1),
        (["add", "a", "--data", ".", "--iterations", "10"], "x", "error: 10 iterations: clients take 4096 to 16384", 1),
        (["remove", "a", "--data", "."], "", "error: there is no users file users.json", 1),
        (["remove", "b", "--users", "some.json"], "", "error: some.json has no user 'b'", 1),
        (["list"], "", "say which users: --data DIR or --users FILE", 2),
        (["add", "a", "--users", "broken.json"], "x", "error: broken.json is not a users file", 1),
        (["add", "a", "--users", "some.json/x"], "x", "error: some.json/x cannot be written", 1),
    ],
)
def test_users_commands_that_cannot_be(
    tmp_path: Path, arguments: list[str], typed: str, told: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    add_user(Path("some.json"), "a", "x", iterations=4096)
    Path("broken.json").write_text('{"secret": "", "users": {"a": {"SCRAM-SHA-256": {}}}}')
    result = CliRunner().invoke(users, arguments, input=typed)
    assert told in result.output
    assert result.exit_code == code
    assert Path("broken.json").read_text().startswith('{"secret": ""'), "what cannot be read is not replaced"


def test_a_file_that_others_can_read_is_told(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    users_file(data).chmod(0o644)
    with caplog.at_level(logging.WARNING):
        Credentials(users_file(data))
    assert "chmod 600" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_file_stays_its_owners(data: Path) -> None:
    os.chown(users_file(data), 12345, 12345)
    add_user(users_file(data), "bob", "b", iterations=4096)
    assert (users_file(data).stat().st_uid, users_file(data).stat().st_mode & 0o777) == (12345, 0o600)


def test_a_certificates_name() -> None:
    subject = ((("countryName", "CH"),), (("organizationName", "Acme, Inc"),), (("commonName", "alice"),))
    assert principal({"subject": subject}) == "User:CN=alice,O=Acme\\, Inc,C=CH"
