"""The record path part by part."""

from benchmarks.parts import Parts


def test_each_part_takes_some_time() -> None:
    parts = Parts(500, 100)
    found = parts.measure(turns=3)
    assert found.keys() == parts.calls.keys()
    assert min(found.values()) > 0
