"""A keyed pipeline of two groups equals a plain computation, whatever the batches, crashes and rebalances."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.pipelines import Count, Max, Pipeline, Sum, Topic, TopologyDriver


class Sale(msgspec.Struct, frozen=True):
    item: str
    amount: int


class Total(msgspec.Struct, frozen=True):
    count: int
    total: int
    most: int | None


class ItemTotal(msgspec.Struct, frozen=True):
    item: str
    total: int


Tops = dict[str, int]
sales = Topic("sales", key=str, value=Sale)
names = Topic("names", key=str, value=str)
totals = Topic("totals", key=str, value=Total)
tops = Topic("tops", key=str, value=Tops)

ITEMS = ["apple", "ant", "bean", "bat", "cup"]
NAMES = {"a": "As", "b": "Bs", "c": "Cs"}


def item(sale: Sale) -> str:
    return sale.item


def item_total(key: str, total: Total) -> ItemTotal:
    return ItemTotal(key, total.total)


def initial_of(total: ItemTotal) -> str:
    return total.item[0]


def named(total: ItemTotal, name: str) -> ItemTotal:
    return ItemTotal(f"{name}/{total.item}", total.total)


def keep(state: Tops, total: ItemTotal) -> Tops:
    state[total.item] = total.total  # in place, as users will
    return state


pipeline = Pipeline("shop")
summing = pipeline.group("summing")
summed = (
    summing.stream(sales)
    .filter(lambda sale: sale.amount)
    .group_by("by-item", item)
    .aggregate("total", Total, count=Count(), total=Sum("amount"), most=Max("amount"))
)
summed.to(totals)
ranking = pipeline.group("ranking")
initials = ranking.table("names", names)
ranked = (
    ranking.stream(totals)
    .map_item(item_total)
    .group_by("by-initial", initial_of)
    .join(initials, named)
    .fold("tops", dict, keep, value=Tops)
)
ranked.to(tops)

SALES = st.builds(Sale, st.sampled_from(ITEMS), st.integers(-3, 9))
GROUPS = st.sampled_from(["summing", "ranking"])
ACTIONS = st.lists(
    st.one_of(
        st.lists(SALES, min_size=1, max_size=6),
        st.just("process"),
        st.just("half"),
        st.tuples(st.sampled_from(["crash", "rebalance"]), GROUPS),
    ),
    max_size=14,
)


def play(driver: TopologyDriver, actions: list[Any]) -> list[Sale]:
    """Does what was drawn; the sales that were sent."""
    sent: list[Sale] = []
    driver.send_all(names, NAMES.items())
    for action in actions:
        match action:
            case "process":
                driver.process()
            case "half":
                driver.process(checkpoint=False)
            case (str(restart), str(group)):
                getattr(driver, restart)(group)
            case _:
                for sale in action:
                    driver.send(sales, sale, key=f"customer {len(sent) % 4}")
                    sent.append(sale)
    return sent


def computed(sent: list[Sale]) -> tuple[list[tuple[str, Total]], list[tuple[str, Tops]]]:
    """Every update of both groups, by plain Python."""
    updates: list[tuple[str, Total]] = []
    state: dict[str, Total] = {}
    best: dict[str, Tops] = {}
    tops: list[tuple[str, Tops]] = []
    for sale in sent:
        if sale.amount:
            old = state.get(sale.item, Total(0, 0, None))
            most = sale.amount if old.most is None else max(old.most, sale.amount)
            state[sale.item] = Total(old.count + 1, old.total + sale.amount, most)
            updates.append((sale.item, state[sale.item]))
            initial = sale.item[0]
            mine = best.setdefault(initial, {})
            mine[f"{NAMES[initial]}/{sale.item}"] = state[sale.item].total
            tops.append((initial, dict(mine)))
    return updates, tops


@settings(deadline=None, max_examples=80)
@given(ACTIONS, st.sampled_from([1, 3, 1000]))
def test_on_one_partition_every_update_is_the_same(actions: list[Any], batch: int) -> None:
    with TopologyDriver(pipeline, partitions=1, batch=batch) as driver:
        updates, best = computed(play(driver, actions))
        assert [(r.key, r.value) for r in driver.read(totals)] == updates
        assert [(r.key, r.value) for r in driver.read(tops)] == best
        assert driver.table(summed.table) == dict(updates)
        assert driver.table(ranked.table) == dict(best)


@settings(deadline=None, max_examples=80)
@given(ACTIONS, st.sampled_from([1, 1000]), st.integers(2, 5))
def test_on_several_partitions_each_record_counts_once(actions: list[Any], batch: int, partitions: int) -> None:
    with TopologyDriver(pipeline, partitions=partitions, batch=batch) as driver:
        updates, best = computed(play(driver, actions))
        got = driver.read(totals)
        for name in ITEMS:
            counts = [record.value.count for record in got if record.key == name]
            assert counts == [total.count for key, total in updates if key == name]
        assert len(driver.read(tops)) == len(updates)
        assert driver.table(summed.table) == dict(updates)
        assert driver.table(ranked.table) == dict(best)
        assert driver.latest(tops) == dict(best)


@settings(deadline=None, max_examples=40)
@given(ACTIONS)
def test_batches_of_one_and_of_a_thousand_give_the_same_logs(actions: list[Any]) -> None:
    logs = []
    for batch in (1, 1000):
        with TopologyDriver(pipeline, partitions=1, batch=batch) as driver:
            play(driver, actions)
            driver.process()
            logs.append({name: log for name, log in driver.broker.topics.items() if "changelog" not in name})
    assert logs[0] == logs[1]
