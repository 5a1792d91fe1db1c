"""The same clients get in, and stay out, at the embedded broker as at Apache Kafka."""

import pytest

from tests.contract.security.clients import CLIENTS, NOTHING, SOON, Refused, RoundTrip
from tests.contract.security.secured import DOORS, MECHANISMS, Certificates, Door, Doors, refused_by_tls

SASL = [name for name in DOORS if name.startswith("SASL")]


@pytest.mark.parametrize("name", DOORS)
def test_who_may_gets_in(doors: Doors, round_trip: RoundTrip, name: str) -> None:
    values = [b"%d" % number for number in range(20)]
    assert round_trip(doors[name], values) == values


@pytest.mark.parametrize("wrong", [{"password": "wrong"}, {"username": "nobody"}], ids=str)
@pytest.mark.parametrize("name", SASL)
def test_wrong_credentials(doors: Doors, round_trip: RoundTrip, name: str, wrong: dict[str, str]) -> None:
    with pytest.raises(Refused) as refused:
        round_trip(doors[name].by(**wrong), [b"1"], SOON)
    if round_trip is not CLIENTS["kafka-python"]:  # which keeps the reason to itself
        assert "uthentication failed" in str(refused.value)


def test_strangers_certificates(doors: Doors, certificates: Certificates) -> None:
    assert not refused_by_tls(doors["MUTUAL"])
    assert refused_by_tls(doors["MUTUAL"].by(cert=certificates.stranger))
    assert refused_by_tls(doors["MUTUAL"].by(cert=None))


def test_an_authority_that_is_not_the_brokers(doors: Doors, round_trip: RoundTrip, certificates: Certificates) -> None:
    with pytest.raises(Refused):
        round_trip(doors["SSL"].by(ca=certificates.other_ca), [b"1"], SOON)


@pytest.mark.parametrize(
    ("at", "like"),
    [
        ("SSL", "PLAINTEXT"),
        (f"SASL_PLAINTEXT {MECHANISMS[0]}", "PLAINTEXT"),
        (f"SASL_SSL {MECHANISMS[0]}", "PLAINTEXT"),
        (f"SASL_SSL {MECHANISMS[0]}", "SSL"),
        (f"SASL_SSL {MECHANISMS[0]}", f"SASL_PLAINTEXT {MECHANISMS[0]}"),
        ("PLAINTEXT", "SSL"),
        ("PLAINTEXT", f"SASL_PLAINTEXT {MECHANISMS[1]}"),
        (f"SASL_PLAINTEXT {MECHANISMS[0]}", f"SASL_SSL {MECHANISMS[0]}"),
    ],
)
def test_another_protocol_than_the_listeners(doors: Doors, round_trip: RoundTrip, at: str, like: str) -> None:
    with pytest.raises(Refused):
        round_trip(Door(doors[at].address, doors[like].security), [b"1"], SOON)
    assert doors["PLAINTEXT"].security == NOTHING
