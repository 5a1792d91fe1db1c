"""A module with every kind of problem in it, in snippets, and the reading of what is expected of each.

In a snippet `#! RULE: WHAT -> ADVICE` tells a problem of the next line of code, by parts of its text.
"""

from typing import NamedTuple

PREAMBLE = """
from dataclasses import dataclass
from datetime import timedelta
import msgspec
from penstock.pipelines import Count, Max, Mean, Pipeline, ProcessContext, Stream, Sum, Topic

class Bid(msgspec.Struct):
    item: str
    price: int

@dataclass
class Summary:
    count: int
    mean_price: float | None = None

class Plain:
    pass

def item(bid: Bid) -> str:
    return bid.item

def first(bid: Bid, other: object) -> Bid:
    return bid

bids = Topic("bids", key=str, value=Bid)
numbers = Topic("numbers", key=str, value=int)
pipeline = Pipeline("shop")
"""

SNIPPETS = {
    "own table": """
own = pipeline.group("own")
mine = own.stream(bids).aggregate("mine", Summary, count=Count())
#! group: the records it joins fill table 'mine' themselves -> Use what the aggregate sends on
own.stream(bids).join(mine.table, first)
kept = own.table("kept", numbers)
#! group: the records it joins fill table 'kept' themselves -> bring the stream to the table through a group_by
own.stream(numbers).join(kept, first)
""",
    "groups": """
pipeline.group("twice").stream(bids).filter(item)
#! duplicate-name: a second group is named 'twice'; the first is at -> Give one of them another name
pipeline.group("twice").stream(numbers).filter(bool)
#! group: the group reads nothing -> Give it a stream, a table or an agent
pipeline.group("empty")
#! name: group name 'Two Words' is not allowed -> Use small letters, digits and '-'
pipeline.group("Two Words").stream(bids).filter(item)
""",
    "names": """
named = pipeline.group("named")
named.stream(bids).group_by("again", item).filter(item)
#! duplicate-name: a second group_by is named 'again' -> Give one of them another name
#! duplicate-name: a second stage is named 'again' -> Give one of them another name
named.stream(bids).group_by("again", item)
named.table("rows", numbers)
#! duplicate-name: a second table is named 'rows' -> Give one of them another name
named.stream(bids).aggregate("rows", Summary, count=Count())
#! name: group_by name 'by_item' is not allowed -> such as 'hourly-delays'
named.stream(bids).group_by("by_item", item)
#! name: table name '1st' is not allowed -> beginning with a letter
named.stream(bids).aggregate("1st", Summary, count=Count())
bodies = pipeline.group("bodies")

@bodies.agent(bids)
async def body(stream):
    pass

#! duplicate-name: a second stage is named 'body' -> Give one of them another name
@bodies.agent(numbers)
async def body(stream):
    pass
""",
    "topics": """
declared = pipeline.group("declared")
once = Topic("once", key=str, value=int, partitions=2)
declared.stream(once).filter(bool)
#! duplicate-name: topic 'once' is declared with other types, partitions or configs at -> Declare it once and import it
other_key = Topic("once", key=int, value=int)
declared.stream(other_key).filter(bool)
#! duplicate-name: topic 'once' is declared with other types, partitions or configs at -> Declare it once and import it
other_count = Topic("once", key=str, value=int, partitions=3)
pipeline.group("declared-too").stream(other_count).filter(bool)
#! duplicate-name: topic 'once' is declared with other types, partitions or configs at -> Declare it once and import it
other_value = Topic("once", key=str, value=str)

@pipeline.group("declared-three").agent(bids, to=other_value)
async def elsewhere(stream):
    yield ""

#! topic: 'no spaces' is not a topic name that Kafka takes -> Use letters, digits
declared.stream(Topic("no spaces", key=str, value=int)).filter(bool)
#! topic: topic 'none' has 0 partitions -> Give at least 1
declared.stream(Topic("none", key=str, value=int, partitions=0)).filter(bool)
#! topic: topic 'squeezed' has compression 'zip' -> Give one of gzip, snappy, lz4, zstd
declared.stream(Topic("squeezed", key=str, value=int, compression="zip")).filter(bool)
#! codec: topic 'plain' has no codec for its value -> Declare a msgspec.Struct, a dataclass
declared.stream(Topic("plain", key=str, value=Plain)).filter(bool)
#! codec: topic 'unkeyed' has no codec for its key -> a plain class, whose fields nothing declares
declared.stream(Topic("unkeyed", key=Plain, value=int)).filter(bool)
""",
    "fields": """
fields = pipeline.group("fields").stream(bids)
#! unknown-field: Bid has no field 'prise' -> Did you mean 'price'?
fields.aggregate("a", Summary, count=Count(), mean_price=Mean("prise"))
#! unknown-field: Bid has no field 'zzz' -> It has item, price
fields.aggregate("b", Summary, count=Count("zzz"))
#! unknown-field: the result Summary has no field 'mean_prize' -> Did you mean 'mean_price'?
fields.aggregate("c", Summary, count=Count(), mean_prize=Mean("price"))
#! unknown-field: nothing fills the field 'count' of the result Summary -> Add an aggregate of that name
fields.aggregate("d", Summary, mean_price=Mean("price"))
#! unknown-field: it aggregates nothing -> Give it result fields
#! unknown-field: nothing fills the field 'count' of the result Summary -> or give the field a default
fields.aggregate("e", Summary)
""",
    "codecs": """
codecs = pipeline.group("codecs")
#! codec: the keys of its repartition topic have no codec: their type is unknown -> or pass key=TYPE to the group_by
codecs.stream(bids).group_by("by-lambda", lambda bid: bid.item)
#! codec: the values of its repartition topic have no codec: their type is unknown -> or pass value=TYPE
codecs.stream(bids).map(lambda bid: bid.price).group_by("by-value", str)
#! codec: the keys of its repartition topic have no codec: their type is Plain -> Annotate what the function returns
codecs.stream(bids).group_by("by-plain", lambda bid: Plain(), key=Plain)
#! codec: the rows of its table have no codec: their type is unknown -> Annotate what the function returns
codecs.stream(bids).fold("folded", lambda: 0, lambda n, bid: n + bid.price)
#! codec: the rows of its table have no codec: their type is unknown -> or pass value=TYPE
codecs.stream(bids).map(lambda bid: bid.price).reduce("reduced", max)
#! codec: table 'own' has no codec for its values -> Pass value=TYPE with a type that has one
codecs.table("own", key=str, value=Plain)
#! group: table 'beside' is beside topic 'numbers', which the group does not read -> Name the topic of the agent
codecs.table("beside", key=str, value=int, beside=numbers)
""",
    "types": """
types = pipeline.group("types")
#! type: the values are Bid, and topic 'numbers' takes int -> Map the stream to that type
types.stream(bids).to(numbers)
#! type: the keys are int, and topic 'numbers' takes str -> or declare the topic with this one
types.stream(Topic("by-int", key=int, value=int)).to(numbers)
#! type: the values are str, and topic 'numbers' takes int -> Map the stream to that type
types.stream(bids).map(item).to(numbers)
by_int = types.table("by-int", Topic("by-number", key=int, value=int))
#! type: the stream's keys are str, and the table's are int -> Group_by the table's key before the join
types.stream(bids).join(by_int, first)
""",
    "partitions": """
parts = pipeline.group("parts")
two = Topic("two", key=str, value=Bid, partitions=2)
three = Topic("three", key=str, value=Bid, partitions=3)
three_rows = parts.table("three-rows", Topic("three-rows", key=str, value=Bid, partitions=3))
#! co-partition: stream 'two' has 2 partitions and table 'three-rows' (topic 'three-rows') has 3 -> partitions=3
parts.stream(two).join(three_rows, first)
#! co-partition: and table 'three-rows' (topic 'three-rows') has 3 -> or give both topics the same count
parts.stream(two).group_by("five", item, partitions=5).left_join(three_rows, first)
#! co-partition: its keys come from select_key(item), but records are still partitioned by -> Use group_by(NAME, fn)
parts.stream(bids).select_key(item).filter(bool).aggregate("selected", Summary, count=Count())
merged = pipeline.group("merged")
#! co-partition: merged topics with different partition counts: 'two' has 2, 'three' has 3 -> Group_by before the merge
merged.stream(two).merge(merged.stream(three)).aggregate("both", Summary, count=Count())
""",
    "cycles": """
round_, there, back, again = (Topic(name, key=str, value=int) for name in ("round", "there", "back", "again"))
cycle = pipeline.group("cycle")
#! cycle: come back to it: shop.cycle/round -> [round] -> shop.cycle/round -> a topic that none of these stages reads
cycle.stream(round_).filter(bool).to(round_)
pipeline.group("cycle-out").stream(there).to(back)
#! cycle: shop.cycle-out/there -> [back] -> shop.cycle-back/back -> [there] -> Send them to a topic
pipeline.group("cycle-back").stream(back).to(there)
cycled = pipeline.group("cycle-through").stream(again).group_by("by-n", str)
#! cycle: [shop.cycle-through-by-n-repartition] -> shop.cycle-through/by-n -> [again] -> none of these stages reads
cycled.to(again)
""",
    "derived": """
derived = pipeline.group("derived")
bid_rows, number_rows = derived.table("bid-rows", bids), derived.table("number-rows", numbers)
def both(bid: Bid, n: int) -> int:
    return n
def rest(n: int, bid: Bid) -> int:
    return n
#! table: rows of table 'lasting' expire, and nothing is sent on when they do -> Declare the table without a ttl
derived.table("lasting", Topic("lasting", key=str, value=int), ttl=timedelta(1)).join(bid_rows, rest)
#! table: it takes a table that only the bodies of agents write -> group.table(NAME, TOPIC)
derived.table("of-bodies", key=str, value=int).join(bid_rows, rest)
#! group: it takes a table of another group -> Declare the table in this group, from its topic
number_rows.join(pipeline.group("derived-too").table("bid-rows", bids), rest)
#! type: the keys of the tables are str and int -> Use join_foreign
bid_rows.join(derived.table("by-int", Topic("by-int", key=int, value=int)), both)
#! type: item gives str, and the right table's keys are int -> Make the right table's key from a row of the left one
bid_rows.join_foreign("by-item", derived.table("by-int-too", Topic("by-int-too", key=int, value=int)), item, both)
#! codec: the keys of its repartition topic have no codec: their type is unknown -> or pass key=TYPE
bid_rows.group_by("no-key", lambda bid: bid.item)
#! retraction: a table's rows change and go, and Max cannot take one out again -> Use Count, Sum, Mean or Custom
bid_rows.group_by("with-max", item).aggregate("most", Summary, count=Count(), mean_price=Max("price"))
#! unknown-field: Bid has no field 'prise' -> Did you mean 'price'?
bid_rows.group_by("with-field", item).aggregate("means", Summary, count=Count(), mean_price=Mean("prise"))
#! codec: the rows of its table have no codec: their type is unknown -> or pass value=TYPE
bid_rows.group_by("no-row", item).fold("no-rows", lambda: 0, lambda n, bid: n, lambda n, bid: n)
#! codec: its results have no codec: their type is unknown -> or pass value=TYPE
bid_rows.join(number_rows, lambda bid, n: n, name="kept-lambda")
#! codec: its results have no codec: their type is unknown -> or pass value=TYPE
bid_rows.join_foreign("foreign-lambda", number_rows, item, lambda bid, n: n)
not_kept = bid_rows.join(number_rows, both)
#! group: it joins a table that is not kept -> Give the join that makes the table a name=
derived.stream(Topic("elsewhere", key=str, value=int)).join(not_kept, lambda n, m: n, value=int)
#! table: one record can change both of its sides -> Give the join a name=
not_kept.join(bid_rows, rest).group_by("crossed", str)
def nothing(context: ProcessContext[str, object], n: int) -> list[int]:
    return []
#! codec: its state has no codec: it is Plain -> Pass state=TYPE
derived.stream(numbers).process("no-state", nothing, state=Plain)
made = derived.stream(Topic("processed", key=str, value=int)).process("processed", nothing, state=int)
#! table: it takes the table behind process 'processed' (nothing), whose changes are not sent on -> and declare a table
made.table.join(number_rows, max, value=int)
#! function: it was given 5, which is not a function -> Give it a function
derived.stream(numbers).process("no-function", nothing, state=int, on_timer=5)
#! table: table 'at-once': ttl=datetime.timedelta(0) is less than a millisecond -> Give a positive timedelta
derived.stream(numbers).distinct("at-once", within=timedelta(0))
#! co-partition: its keys come from select_key(lambda) -> Use group_by(NAME, fn) instead
derived.stream(numbers).select_key(lambda n: str(n), key=str).distinct("moved", within=timedelta(1))
#! table: table 'no-history': history=datetime.timedelta(0) is no time -> Give a positive timedelta
derived.table("no-history", Topic("no-history", key=str, value=int), history=timedelta(0))
versions = derived.table("versions", Topic("versions", key=str, value=int), history=timedelta(1))
to_join = derived.stream(Topic("to-join", key=str, value=int))
#! name: the records that wait for its grace are kept in a table -> Give the join a name=
to_join.join(versions, max, value=int, grace=timedelta(1))
#! table: table 'number-rows' has no history: a record that waits would meet a row of after its time -> history=
to_join.join(number_rows, max, value=int, grace=timedelta(1), name="waiting")
#! time: its grace is datetime.timedelta(days=-1) -> Give a timedelta of 0 or more
to_join.join(versions, max, value=int, grace=timedelta(-1), name="waiting-too")
two_counts = pipeline.group("two-counts")
left_rows = two_counts.table("left-rows", Topic("left-rows", key=str, value=int, partitions=2))
right_rows = two_counts.table("right-rows", Topic("right-rows", key=str, value=int, partitions=3))
#! co-partition: it joins tables of topics with different partition counts: 'left-rows' has 2 -> or use join_foreign
left_rows.join(right_rows, max, value=int)
""",
    "ownership": """
mine, yours = pipeline.group("mine"), pipeline.group("yours")
your_rows = yours.table("rows", bids)
#! group: it joins table 'rows' of another group -> Declare the table in this group, from its topic
mine.stream(bids).join(your_rows, first)
#! group: it takes a stream of another group -> Write that stream to a topic, and read it here
mine.stream(bids).merge(yours.stream(bids))
""",
    "functions": """
functions = pipeline.group("functions").stream(bids)
async def later(bid):
    pass
#! function: it was given 'price', which is not a function -> Give it a function of the record's value
functions.map("price")
#! function: later is a coroutine function, and steps call plain ones -> Await in the body of an agent instead
functions.peek(later)

#! function: its body is not a coroutine function -> Write it as `async def body(stream)
@pipeline.group("no-body").agent(bids)
def no_body(stream):
    pass
""",
}


class Expected(NamedTuple):
    line: int
    rule: str
    what: str
    advice: str


def expected(source: str) -> list[Expected]:
    """What the `#!` lines of a module say."""
    found: list[Expected] = []
    waiting: list[tuple[str, str, str]] = []
    for number, line in enumerate(source.splitlines(), 1):
        if line.startswith("#! "):
            rule, _, text = line[3:].partition(": ")
            waiting.append((rule, *text.rsplit(" -> ", 1)))  # type: ignore[arg-type]
        elif waiting:
            found += [Expected(number, *each) for each in waiting]
            waiting = []
    return found


def assert_told(told: list[tuple[int, str, str]], source: str) -> None:
    """(line, rule, text) of each problem against what is expected: neither more nor less."""
    left = list(told)
    for wanted in expected(source):
        hits = [
            t for t in left if t[:2] == (wanted.line, wanted.rule) and wanted.what in t[2] and wanted.advice in t[2]
        ]
        assert hits, f"not told: {wanted}\ntold: {left}"
        left.remove(hits[0])
    assert left == [], left
