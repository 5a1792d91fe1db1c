"""What the queries must answer: the same in SQL, by DuckDB, over all events at once.

The numbers are those of Nexmark as Apache Beam has it: its first eight, the plain copy that came to be number 0, and
11 to 13.

| query | answer |
|---|---|
| 0 | every bid |
| 1 | every bid, its price in euros |
| 2 | bids on chosen auctions |
| 3 | items of a category that are sold from some states: seller's name, city and state, auction |
| 4 | mean winning bid of the closed auctions of each category |
| 5 | for each hopping window: the auctions with the most bids, and how many |
| 6 | for each closed auction: the mean winning bid of its seller's last ten |
| 7 | for each tumbling window: the highest bids |
| 8 | those who register and open an auction within the same tumbling window |
| 11 | bids of each bidder by session: first, last, how many |
| 12 | bids of each bidder by tumbling window of the time of arrival |
| 13 | every bid, with a text from a small table |

The winning bid is the highest between an auction's opening and its expiry, both included; auctions without one do not
count.
"""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from examples.nexmark import models as m
from examples.nexmark.generator import Arrival

_TABLES = {
    "persons": (m.Person, "id BIGINT, name TEXT, email TEXT, city TEXT, state TEXT, date_time BIGINT"),
    "auctions": (
        m.Auction,
        "id BIGINT, item TEXT, initial_bid BIGINT, reserve BIGINT, expires BIGINT, seller BIGINT, category BIGINT, "
        "date_time BIGINT",
    ),
    "bids": (m.Bid, "auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, date_time BIGINT"),
}

_WINNING = """
    CREATE VIEW winning AS
    SELECT a.id, a.category, a.seller, a.expires, max(b.price) AS price
    FROM auctions a JOIN bids b ON b.auction = a.id AND b.date_time BETWEEN a.date_time AND a.expires
    GROUP BY ALL
"""

QUERIES: dict[str, str] = {
    "q0": "SELECT auction, bidder, price, channel, date_time FROM bids",
    "q1": f"SELECT auction, bidder, price * {m.EUROS_PER_THOUSAND} // 1000, channel, date_time FROM bids",
    "q2": f"SELECT auction, price FROM bids WHERE auction % {m.SELECTED} = 0",
    "q3": f"""
        SELECT p.name, p.city, p.state, a.id
        FROM auctions a JOIN persons p ON p.id = a.seller
        WHERE a.category = {m.LOCAL_CATEGORY} AND p.state IN {m.LOCAL_STATES}
    """,
    "q4": """
        SELECT category, sum(price)::DOUBLE / count(*) FROM winning WHERE expires < $now GROUP BY category
    """,
    "q5": f"""
        WITH counts AS (
            SELECT start, auction, count(*) AS number
            FROM (
                SELECT auction, date_time, unnest(range(
                    (date_time - {m.HOP_SIZE}) // {m.HOP_ADVANCE} * {m.HOP_ADVANCE}, date_time + 1, {m.HOP_ADVANCE}
                )) AS start
                FROM bids
            )
            WHERE date_time < start + {m.HOP_SIZE} AND start >= 0 AND start + {m.HOP_SIZE} <= $now
            GROUP BY ALL
        )
        SELECT start, auction, number FROM counts QUALIFY number = max(number) OVER (PARTITION BY start)
    """,
    "q6": f"""
        SELECT seller, id, (sum(price) OVER last)::DOUBLE / count(*) OVER last
        FROM winning WHERE expires < $now
        WINDOW last AS (
            PARTITION BY seller ORDER BY expires, id ROWS BETWEEN {m.LAST_AUCTIONS - 1} PRECEDING AND CURRENT ROW
        )
    """,
    "q7": f"""
        SELECT date_time // {m.TUMBLE} * {m.TUMBLE} AS start, auction, bidder, price, date_time
        FROM bids WHERE start + {m.TUMBLE} <= $now
        QUALIFY price = max(price) OVER (PARTITION BY date_time // {m.TUMBLE})
    """,
    "q8": f"""
        SELECT DISTINCT p.id, p.name, p.date_time // {m.TUMBLE} * {m.TUMBLE} AS start
        FROM persons p JOIN auctions a ON a.seller = p.id AND a.date_time // {m.TUMBLE} = p.date_time // {m.TUMBLE}
        WHERE start + {m.TUMBLE} <= $now
    """,
    "q11": f"""
        WITH marked AS (
            SELECT bidder, date_time, coalesce(date_time - lag(date_time) OVER bids_of > {m.SESSION_GAP}, true) AS first
            FROM bids WINDOW bids_of AS (PARTITION BY bidder ORDER BY date_time)
        ), numbered AS (
            SELECT bidder, date_time, sum(first::INT) OVER (
                PARTITION BY bidder ORDER BY date_time ROWS UNBOUNDED PRECEDING
            ) AS session
            FROM marked
        )
        SELECT bidder, min(date_time), max(date_time), count(*)
        FROM numbered GROUP BY bidder, session HAVING max(date_time) + {m.SESSION_GAP} < $now
    """,
    "q12": f"""
        SELECT bidder, start, count(*)
        FROM (SELECT bidder, arrived // {m.TUMBLE} * {m.TUMBLE} AS start FROM bids)
        WHERE start + {m.TUMBLE} <= $now GROUP BY bidder, start
    """,
    "q13": """
        SELECT auction, bidder, price, date_time, text
        FROM bids JOIN side ON side.key = auction % (SELECT count(*) FROM side)
    """,
}

_FOR_EVER = 1 << 62


class Oracle:
    """DuckDB with the events as tables `persons`, `auctions` and `bids`, each with the time of arrival, `arrived`.

    Args:
        arrivals: the events, in any order.
        side: the side table of query 13.
        now: windows, sessions and auctions count once they are over at this time, ms: windows that end at `now` do,
            auctions that expire at `now` do not. Default None: all count, as when the source has gone quiet.
    """

    def __init__(
        self, arrivals: Iterable[Arrival], *, side: Mapping[int, str] | None = None, now: int | None = None
    ) -> None:
        self._now = _FOR_EVER if now is None else now
        self._sql = duckdb.connect(config={"threads": 1})  # answers of a moment, beside other work
        rows: dict[type[Any], list[bytes]] = {kind: [] for kind, _ in _TABLES.values()}
        for event, at in arrivals:
            rows[type(event)].append(msgspec.json.encode(msgspec.structs.asdict(event) | {"arrived": at}))
        for table, (kind, columns) in _TABLES.items():
            self._sql.execute(f"CREATE TABLE {table} ({columns}, arrived BIGINT)")
            if rows[kind]:
                self._load(table, rows[kind])
        self._sql.execute("CREATE TABLE side (key BIGINT, text TEXT)")
        if side:
            self._sql.executemany("INSERT INTO side VALUES (?, ?)", list(side.items()))
        self._sql.execute(_WINNING)

    def _load(self, table: str, lines: list[bytes]) -> None:
        with tempfile.TemporaryDirectory(prefix="nexmark-") as folder:
            path = Path(folder, "rows.json")
            path.write_bytes(b"\n".join(lines))
            self._sql.execute(f"COPY {table} FROM '{path}' (FORMAT json)")

    def answer(self, query: str) -> list[tuple[Any, ...]]:
        """All rows of a query's answer, sorted.

        Raises:
            KeyError: there is no such query.
        """
        sql = QUERIES[query]
        return sorted(self._sql.execute(sql, {"now": self._now} if "$now" in sql else {}).fetchall())
