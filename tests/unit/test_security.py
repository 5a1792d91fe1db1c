"""How clients are told to connect: the properties file of Kafka's tools, and what is refused in it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.agents.properties import read_properties, write_properties
from penstock.agents.security import PLAINTEXT, Security, SecurityError
from penstock.deploy.settings import Settings

SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


def written(folder: Path, text: str) -> Path:
    file = folder / "client.properties"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", PLAINTEXT),
        ("# nothing\n\n! else\nsecurity.protocol=plaintext", PLAINTEXT),
        (
            f"security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n"
            f'sasl.jaas.config={SCRAM} required \\\n  username="alice" \\\n  password="se cret";\n'
            "ssl.truststore.type=PEM\nssl.truststore.location={pem}/ca.pem\n",
            Security("SASL_SSL", "SCRAM-SHA-512", "alice", "se cret", ca="{pem}/ca.pem"),
        ),
        (
            "security.protocol: sasl_plaintext\nsasl.mechanisms PLAIN\nsasl.username = alice\n"
            "sasl.password = s=e:c#r!\n",
            Security("SASL_PLAINTEXT", "PLAIN", "alice", "s=e:c#r!"),
        ),
        (
            f"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n"
            f"sasl.jaas.config={PLAIN} required password='it\\\\'s\\\\\\\\' username=alice ;",
            Security("SASL_PLAINTEXT", "PLAIN", "alice", "it's\\"),
        ),
        (
            "security.protocol=SSL\nssl.ca.location={pem}/ca.pem\nssl.certificate.location={pem}/cert.pem\n"
            "ssl.key.location={pem}/locked.pem\nssl.key.password=passphrase\nssl.endpoint.identification.algorithm=\n",
            Security("SSL", ca="{pem}/ca.pem", cert="{pem}/cert.pem", key="{pem}/locked.pem",
                     key_password="passphrase", check_hostname=False),
        ),
        (
            "security.protocol=SSL\nssl.keystore.type=PEM\nssl.keystore.location={pem}/both.pem\n"
            "ssl.endpoint.identification.algorithm=https",
            Security("SSL", cert="{pem}/both.pem"),
        ),
    ],
)  # fmt: skip
def test_files_that_kafkas_tools_take(tmp_path: Path, pem: Path, text: str, expected: Security) -> None:
    wanted = {
        name: value.replace("{pem}", str(pem)) if isinstance(value, str) else value
        for name, value in vars(expected).items()
    }
    assert Security.read(written(tmp_path, text.replace("{pem}", str(pem)))) == Security(**wanted)


SASL = "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-256\n"
LOGIN = "sasl.username=a\nsasl.password=hunter2\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("security.protocol=TLS", "PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ("security.protocol=SASL_SSL\n" + LOGIN, "needs sasl.mechanism"),
        (SASL, "needs a user name and a password"),
        (SASL + "sasl.username=a", "needs a user name and a password"),
        (SASL.replace("SCRAM-SHA-256", "GSSAPI") + LOGIN, "sasl.mechanism=GSSAPI is not supported"),
        (LOGIN + "sasl.mechanism=PLAIN", "sasl settings go with security.protocol=SASL_PLAINTEXT, not with PLAINTEXT"),
        ("security.protocol=SSL\n" + LOGIN, "go with security.protocol=SASL_SSL"),
        (SASL + LOGIN + "ssl.ca.location=x", "ssl settings go with security.protocol=SASL_SSL"),
        ("bootstrap.servers=x:9092", "bootstrap.servers is not supported: say it with --broker"),
        ("sasl.kerberos.service.name=kafka", "GSSAPI is not supported"),
        ("security.protcol=SSL", "security.protcol is not supported: Penstock reads security.protocol"),
        ("security.protocol=SSL\nssl.truststore.location=x.jks", "ssl.truststore.type=JKS is not supported"),
        ("security.protocol=SSL\nssl.keystore.type=PKCS12", "ssl.keystore.type=PKCS12 is not supported"),
        ("security.protocol=SSL\nssl.truststore.password=hunter2", "a PEM file has none"),
        ("security.protocol=SSL\nssl.ca.location=/nowhere/ca.pem", "/nowhere/ca.pem: No such file"),
        ("security.protocol=SSL\nssl.ca.location={pem}/none.pem", "is not certificates in PEM form"),
        ("security.protocol=SSL\nssl.key.location={pem}/key.pem", "goes with a certificate"),
        ("security.protocol=SSL\nssl.certificate.location={pem}/cert.pem", "not a certificate and its private key"),
        ("security.protocol=SSL\nssl.certificate.location={pem}/cert.pem\nssl.key.location={pem}/other.pem",
         "other.pem is not the key of the certificate"),
        ("security.protocol=SSL\nssl.certificate.location={pem}/cert.pem\nssl.key.location={pem}/locked.pem",
         "ssl.key.password is not the key's"),
        ("security.protocol=SSL\nssl.endpoint.identification.algorithm=ldap", "it is https, or none"),
        (SASL + f'sasl.jaas.config={PLAIN} required username="a" password="hunter2";', "does not go with sasl."),
        (SASL + "sasl.jaas.config=username=a password=hunter2", "is not of the form"),
        (SASL + f'sasl.jaas.config={SCRAM} required username="a" password="hunter2', "not all of the form"),
        (SASL + f'sasl.jaas.config={SCRAM} required username="a" password="hunter2" tokenauth="true";', "tokenauth"),
        (SASL + "sasl.jaas.config=com.sun.security.auth.module.Krb5LoginModule required x=y;", "Krb5LoginModule is"),
        (SASL + LOGIN + f'sasl.jaas.config={SCRAM} required username="b" password="hunter2";', "something else than"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_used(tmp_path: Path, pem: Path, text: str, told: str) -> None:
    file = written(tmp_path, text.replace("{pem}", str(pem)))
    with pytest.raises(SecurityError) as refused:
        Security.read(file)
    message = str(refused.value)
    assert told in message
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    assert "hunter2" not in message, "no error shows a password"


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(SecurityError, match=r"^/nowhere/client.properties: No such file or directory$"):
        Security.read("/nowhere/client.properties")


def test_passwords_are_not_shown() -> None:
    security = Security("SASL_PLAINTEXT", "PLAIN", "alice", "hunter2", key_password=None)
    assert "hunter2" not in f"{security} {security!r} {vars(Settings('b', Path(), '0', security))}"
    assert "hunter2" in security.text()


def test_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_COMMAND_CONFIG", str(written(tmp_path, SASL + LOGIN)))
    assert Settings.of().security == Security("SASL_PLAINTEXT", "SCRAM-SHA-256", "a", "hunter2")
    assert Settings.of(security=PLAINTEXT).security == PLAINTEXT


passwords = st.text(min_size=1).filter(lambda text: "\0" not in text)


@given(passwords, passwords)
def test_a_worker_reads_what_it_is_handed(username: str, password: str) -> None:
    security = Security("SASL_PLAINTEXT", "PLAIN", username, password)
    settings = read_properties(security.text())
    assert (settings["sasl.username"], settings["sasl.password"]) == (username, password)


@given(st.dictionaries(st.from_regex(r"[a-z.]{1,9}", fullmatch=True), st.text(max_size=20), max_size=4))
def test_properties_come_back(settings: dict[str, str]) -> None:
    assert read_properties(write_properties(settings)) == settings


@given(st.text(max_size=80))
def test_any_text_is_read(text: str) -> None:
    read_properties(text)
