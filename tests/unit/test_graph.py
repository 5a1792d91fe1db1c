"""A pipeline described: stable text, JSON and Mermaid, and a fingerprint that changes when they do."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from penstock.pipelines import FOREVER, AgentStream, Count, DeadLetter, Max, Pipeline, Retry, Skip, Topic
from penstock.pipelines.describing import Description, describe, mermaid, text


class Bid(msgspec.Struct):
    item: str
    price: int


class Summary(msgspec.Struct):
    count: int
    most: int


def item(bid: Bid) -> str:
    return bid.item


def named(summary: Summary, name: str | None) -> Summary:
    return summary


def dear(bid: Bid) -> bool:
    return bid.price > 9


def shop(source: str = "bids", step: str = "by-item", partitions: int = 2) -> Pipeline:
    """A small pipeline with one of everything that is drawn."""
    bids = Topic(source, key=str, value=Bid, partitions=partitions, retention=FOREVER)
    names = Topic("names", key=str, value=str, compacted=True)
    expensive = Topic("expensive", key=str, value=Bid)
    summaries = Topic("summaries", key=str, value=Summary)
    pipeline = Pipeline("shop")
    items = pipeline.group("items")
    table = items.table("names", names)
    high, low = items.stream(bids).branch(dear)
    high.to(expensive)
    grouped = low.group_by(step, item).aggregate("summary", Summary, count=Count(), most=Max("price"))
    grouped.left_join(table, named).to(summaries)
    alerts = pipeline.group("alerts")
    alerts.table("seen", key=str, value=int)

    @alerts.agent(expensive, to=names)
    async def alert(stream: AgentStream[str, Bid]):  # type: ignore[no-untyped-def]
        async for bid in stream:
            yield bid.item

    return pipeline


TEXT = """\
pipeline shop  [{fingerprint}]
  topic bids: str -> Bid, 2 partitions, retention.ms=-1, segment.ms=3153600000000
  topic expensive: str -> Bid
  topic names: str -> str, cleanup.policy=compact
  topic summaries: str -> Summary
  group items  (shop.items)
    stage names <- names
      1. table 'names'
    stage bids <- bids
      1. branch(dear)
      2. branch arm dear
      3. branch arm rest  (after 1)
      4. to 'expensive'  (after 2)
      5. group_by 'by-item' (item) -> shop.items-by-item-repartition  (after 3)
    stage by-item <- shop.items-by-item-repartition
      1. aggregate 'summary' (count=Count, most=Max)
      2. left_join with 'names' (named)
      3. to 'summaries'
    table names: str -> str, changelog names
    table summary: str -> Summary, changelog shop.items-summary-changelog
  group alerts  (shop.alerts)
    stage alert <- expensive
      1. agent 'alert' -> names
    table seen: str -> int, changelog shop.alerts-seen-changelog
"""

MERMAID = """\
flowchart LR
  t_bids[/"bids"/]
  t_expensive[/"expensive"/]
  t_names[/"names"/]
  t_summaries[/"summaries"/]
  t_shop_2e_items_2d_by_2d_item_2d_repartition[/"shop.items-by-item-repartition"/]
  subgraph g_shop_2e_items["shop.items"]
    s_shop_2e_items_names["<b>names</b><br/>table 'names'"]
    s_shop_2e_items_bids["<b>bids</b><br/>{branch}<br/>to 'expensive'<br/>group_by 'by-item' (item)"]
    s_shop_2e_items_by_2d_item["<b>by-item</b><br/>{aggregate}<br/>left_join with 'names' (named)<br/>to 'summaries'"]
    d_shop_2e_items_names[("names")]
    d_shop_2e_items_summary[("summary")]
  end
  subgraph g_shop_2e_alerts["shop.alerts"]
    s_shop_2e_alerts_alert["<b>alert</b><br/>agent 'alert'"]
    d_shop_2e_alerts_seen[("seen")]
  end
  t_names --> s_shop_2e_items_names
  s_shop_2e_items_names -.- d_shop_2e_items_names
  t_bids --> s_shop_2e_items_bids
  s_shop_2e_items_bids --> t_expensive
  s_shop_2e_items_bids --> t_shop_2e_items_2d_by_2d_item_2d_repartition
  t_shop_2e_items_2d_by_2d_item_2d_repartition --> s_shop_2e_items_by_2d_item
  s_shop_2e_items_by_2d_item --> t_summaries
  s_shop_2e_items_by_2d_item -.- d_shop_2e_items_summary
  s_shop_2e_items_by_2d_item -.- d_shop_2e_items_names
  t_expensive --> s_shop_2e_alerts_alert
  s_shop_2e_alerts_alert --> t_names
"""


def described(pipeline: Pipeline) -> Description:
    return describe(pipeline.topology)


def test_text() -> None:
    description = described(shop())
    assert text(description) == TEXT.format(fingerprint=description.fingerprint())


def test_mermaid() -> None:
    branch = "branch(dear)<br/>branch arm dear<br/>branch arm rest"
    wanted = MERMAID.format(branch=branch, aggregate="aggregate 'summary' (count=Count, most=Max)")
    assert mermaid(described(shop())) == wanted


def test_mermaid_ids_are_apart_and_quotes_are_escaped() -> None:
    pipeline = Pipeline("p")
    group = pipeline.group("g")
    for name in ("a-b", "a_b", "a.b"):
        group.stream(Topic(name, key=str, value=int)).filter(bool)
    group.stream(Topic("q", key=str, value=dict)).map(type('a"b', (), {"__call__": lambda self, value: value})())
    drawn = mermaid(described(pipeline))
    nodes = [line.split("[")[0].strip() for line in drawn.splitlines() if line.startswith("  t_") and "[/" in line]
    assert len(nodes) == len(set(nodes)) == 4
    assert "map(a#quot;b)" in drawn


def test_json_is_the_whole_description() -> None:
    description = described(shop())
    assert msgspec.json.decode(description.json(), type=Description) == description
    read = json.loads(description.json())
    assert list(read) == ["pipeline", "topics", "groups"]
    assert read["topics"][0] == {
        "name": "bids",
        "key": "str",
        "value": "Bid",
        "partitions": 2,
        "config": {"retention.ms": "-1", "segment.ms": "3153600000000"},
    }
    items, alerts = read["groups"]
    assert items["id"] == "shop.items"
    assert items["stages"][2]["steps"] == [
        {"step": "aggregate 'summary' (count=Count, most=Max)", "table": "summary", "detail": "most=price"},
        {"step": "left_join with 'names' (named)", "inputs": [0], "table": "names"},
        {"step": "to 'summaries'", "inputs": [1], "writes": "summaries"},
    ]
    assert alerts["tables"] == [
        {"name": "seen", "key": "str", "value": "int", "changelog": "shop.alerts-seen-changelog"}
    ]


def test_the_same_declaration_gives_the_same_everything() -> None:
    one, two = described(shop()), described(shop())
    assert one == two
    assert (text(one), one.json(), mermaid(one), one.fingerprint()) == (
        *(text(two), two.json(), mermaid(two), two.fingerprint()),
    )


@pytest.mark.parametrize(
    "other", [lambda: shop(source="offers"), lambda: shop(step="per-item"), lambda: shop(partitions=3)]
)
def test_another_topology_has_another_fingerprint(other: Callable[[], Pipeline]) -> None:
    fingerprint = described(shop()).fingerprint()
    assert len(fingerprint) == 16
    assert int(fingerprint, 16) >= 0
    assert described(other()).fingerprint() != fingerprint


def test_the_order_in_which_topics_are_met_does_not_matter() -> None:
    a, b = (Topic(name, key=str, value=int) for name in "ab")
    assert [topic.name for topic in described(shop()).topics] == ["bids", "expensive", "names", "summaries"]
    pipelines = [Pipeline("p"), Pipeline("p")]
    pipelines[0].group("g").stream(a).to(b)
    pipelines[1].group("g").stream(Topic("a", key=str, value=int)).to(Topic("b", key=str, value=int))
    assert described(pipelines[0]) == described(pipelines[1])


def test_another_process_gives_the_same_text() -> None:
    command = [sys.executable, "-m", "penstock.deploy.cli", "graph", "examples.flights.pipeline"]
    root = Path(__file__).parents[2]
    runs = [
        subprocess.run(
            command, cwd=root, capture_output=True, text=True, check=True, timeout=200, env={"PYTHONHASHSEED": seed}
        )
        for seed in "12"
    ]
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stdout.startswith("pipeline flights  [")


def test_policies_for_failing_records_are_told() -> None:
    bids = Topic("bids", key=str, value=Bid, partitions=2)
    pipeline = Pipeline("shop")
    items = pipeline.group("items", errors=DeadLetter())
    items.stream(bids).map(item).on_error(Retry(2, then=Skip())).filter(bool)
    pipeline.group("more").stream(bids, errors=Skip()).map(item)
    told = describe(pipeline.topology)
    assert (
        text(told).partition("]\n")[2]
        == """\
  topic bids: str -> Bid, 2 partitions
  topic shop.items-dead-letters: bytes -> bytes | None, retention.ms=-1, segment.ms=3153600000000
  group items  (shop.items, errors: dead letter to 'shop.items-dead-letters')
    stage bids <- bids
      1. map(item)
      2. filter(bool)  (errors: retry 2 x from 0.05 s, then skip)
  group more  (shop.more)
    stage bids <- bids (errors: skip)
      1. map(item)  (errors: skip)
"""
    )
    assert "s_shop_2e_items_bids -. failed .-> t_shop_2e_items_2d_dead_2d_letters" in mermaid(told)
    assert msgspec.json.decode(told.json(), type=Description) == told
