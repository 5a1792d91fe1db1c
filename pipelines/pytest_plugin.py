"""pytest fixtures for pipelines; installed with Penstock, nothing to configure."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from penstock.pipelines.driver import TopologyDriver


@pytest.fixture
def topology_driver() -> Iterator[Callable[..., "TopologyDriver"]]:
    """Makes TopologyDrivers, with its arguments, and closes them after the test.

    def test_counts(topology_driver):
        driver = topology_driver(pipeline, partitions=2)
    """
    from penstock.pipelines.driver import TopologyDriver  # late: a test run without pipelines pays nothing

    made: list[TopologyDriver] = []

    def make(*args: Any, **kwargs: Any) -> TopologyDriver:
        made.append(TopologyDriver(*args, **kwargs))
        return made[-1]

    yield make
    for driver in made:
        driver.close()
