"""A case's inputs in rounds, each of which may be read as it comes: what tells on the results keeps its order.

Two topics are read in no order of their own, so a round has records of one topic alone; one that was read to its end is
followed by the next.
"""

from itertools import chain, groupby, zip_longest

from tests.golden.cases import Case, Input
from tests.golden.window_pipelines import KINDS

PARTS = 6
"""Rounds of a case with one topic: so that a worker may be stopped and killed in its midst."""

_OF_EACH_KEY = {"stream_table", "table_table"}
"""Other keys' records tell nothing."""

_ONE_BY_ONE = {"foreign_key"}
"""A row that changes again before its change came through gives no result of its own, in Kafka Streams neither."""

_KEYLESS = {"rekeyed", "stream_stream"}
"""Records without a key get one, or mean something."""


def sendable(case: Case, given: Input) -> bool:
    """Whether Penstock takes a record: one without a key is an error where it is aggregated or put into a table, and a
    null value in a sliding window is no part of it and moves a source's watermark. Kafka Streams leaves both out."""
    if case.operator in KINDS:
        return given.key is not None and (given.value is not None or case.operator != "sliding")
    return given.key is not None or given.topic == "stream" or case.operator in _KEYLESS


def rounds(case: Case) -> list[list[Input]]:
    """The inputs that can be sent, in rounds."""
    given = [each for each in case.inputs if sendable(case, each)]
    if case.operator in _ONE_BY_ONE:
        return [[each] for each in given]
    if case.operator in _OF_EACH_KEY:
        by_key = [[each for each in given if each.key == key] for key in dict.fromkeys(each.key for each in given)]
        return [[*chain(*together)] for together in zip_longest(*map(_runs, by_key), fillvalue=[])]
    if len({each.topic for each in given}) == 1:
        size = -(-len(given) // PARTS)
        return [given[start : start + size] for start in range(0, len(given), size)]
    return _runs(given)


def _runs(given: list[Input]) -> list[list[Input]]:
    return [list(run) for _, run in groupby(given, lambda each: each.topic)]
