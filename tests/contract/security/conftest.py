"""Both brokers with listeners of every kind, each for the whole run, and the clients that are tried on them."""

from collections.abc import Iterator

import pytest

from tests.contract.security.clients import CLIENTS, RoundTrip
from tests.contract.security.secured import Certificates, Doors, apache, embedded

_BROKERS = {"embedded": embedded, "kafka": apache}


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Made for this run."""
    return Certificates.made(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def doors(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[Doors]:
    """The listeners of the embedded broker, and then of Apache Kafka."""
    with _BROKERS[request.param](tmp_path_factory.mktemp(request.param), certificates) as found:
        yield found


@pytest.fixture(scope="session", params=CLIENTS)
def round_trip(request: pytest.FixtureRequest, doors: Doors) -> RoundTrip:
    """A client library, as a function."""
    return CLIENTS[request.param]
