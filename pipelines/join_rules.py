"""Rules about joins of streams."""

from collections.abc import Iterator

from penstock.agents.joins.steps import StreamJoin
from penstock.pipelines.annotations import MISSING, codec, name_of
from penstock.pipelines.problems import Problem
from penstock.pipelines.topology import Topology
from penstock.pipelines.typing_rules import fits
from penstock.tables.join_window import JoinWindow
from penstock.tables.windows import WindowError

Told = Iterator[tuple[str, str, str]]
"""(rule, what, advice)"""


def join_problems(topology: Topology) -> Iterator[Problem]:
    """Streams are joined whose keys can be the same, within a time that can be."""
    for group in topology.groups:
        for step in group.steps:
            if isinstance(step, StreamJoin):
                for rule, what, advice in (*_within(step), *_keys(step), *_values(step)):
                    yield Problem(rule, f"{group.app_id}: {step.label}", step.location, what, advice)


def _within(step: StreamJoin) -> Told:
    within: object = step.within  # whatever was given
    if not isinstance(within, JoinWindow):
        yield (
            "window",
            f"its within is {within!r}",
            "give within=JoinWindow(before=timedelta(...), after=timedelta(...))",
        )
        return
    try:
        within.validate()
    except WindowError as exc:
        yield "window", exc.what, exc.advice


def _keys(step: StreamJoin) -> Told:
    left, right = (before.key_type for before in step.inputs)
    codecs = codec(left), codec(right)
    if MISSING in codecs:
        side = "left" if codecs[0] is MISSING else "right"
        what = f"the keys of its {side} stream have no codec: their type is not known here"
        yield "codec", what, "pass key=TYPE to the group_by or select_key before, or annotate its function"
    elif not (fits(left, right) or fits(right, left)):
        what = f"the keys of the streams are {name_of(left)} and {name_of(right)}"
        yield "type", what, "group_by the same key on both sides before the join"
    elif codecs[0].name != codecs[1].name:
        what = f"the keys of the streams are written as {codecs[0].name} and as {codecs[1].name}: their bytes differ"
        yield "type", what, "give both topics, or group_by, the same key codec"


def _values(step: StreamJoin) -> Told:
    for side, before in zip(("left", "right"), step.inputs, strict=True):
        if codec(before.value_type) is MISSING:
            what = f"the values of its {side} stream have no codec: their type is {name_of(before.value_type)}"
            yield "codec", what, "annotate what the step before returns, or give it value=TYPE: open records are kept"
