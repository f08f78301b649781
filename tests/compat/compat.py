"""Random queries, answered by Watershed, DuckDB and, where it can, SQLite: all answers must be the same.

    compat.py make WAREHOUSE            writes the tables into a warehouse
    compat.py run URL COUNT [SEED]      asks a Flight SQL server over it; prints differences, their queries made small, and ends with 1 if there was one
    compat.py run URL --seeds 7,12      asks the queries of these seeds

Of differences of one kind four are printed, with --all as the last argument all of them.

A query that another engine refuses is no difference; one that only Watershed refuses is, unless the message is among RULES, each of which has a
reason. How many queries each rule set aside is printed at the end.
"""

import collections
import datetime
import decimal
import math
import re
import sqlite3
import sys

import duckdb
import tables
from grammar import Grammar, smaller

# Name, what the message or query matches, why.
RULES = [
    ("extremes of structs with lists", r"such values have no order", "refused: = ALL and <> ANY over them as well"),
    ("NOT IN within LATERAL that asks two queries out", r"a subquery cannot be computed where it is written", "refused"),
    ("grouping sets that ask outwards", r"GROUPING SETS, ROLLUP or CUBE over a column of the outer query", "refused: a group of all rows asks no question"),
]

# DuckDB takes `(1, 1) NOT IN (SELECT 6, NULL)` for unknown; it is true, as 1 is not 6.
ROW_IN = re.compile(r"\(\(.*, .*\) (NOT )?IN \(SELECT")


def plain(value):
    """One form for what engines give differently."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, (int, decimal.Decimal)):
        return ("n", decimal.Decimal(value).normalize() + 0)
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        return ("n", decimal.Decimal(f"{value:.10g}").normalize() + 0)
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, (list, tuple)):
        return tuple(plain(item) for item in value)
    if isinstance(value, dict):
        return tuple(plain(item) for item in value.values())
    return value


def answer(rows):
    return collections.Counter(tuple(plain(value) for value in row) for row in rows)


class Refused(Exception):
    pass


class Engines:
    def __init__(self, url):
        from adbc_driver_flightsql import dbapi

        self.ours = dbapi.connect(url, autocommit=True)
        self.duck = duckdb.connect()
        self.duck.execute("SET TimeZone = 'UTC'; CREATE SCHEMA t")
        self.lite = sqlite3.connect(":memory:")
        self.lite.execute("ATTACH ':memory:' AS t")
        self.lite.execute("PRAGMA case_sensitive_like = ON")
        for name, table in tables.all_tables().items():
            self.duck.register("given", table)
            # A TIMESTAMP of Watershed is a moment; without a zone DuckDB computes with it in UTC.
            self.duck.execute(f"CREATE TABLE t.{name} AS SELECT * REPLACE (CAST(ts AS TIMESTAMP) AS ts) FROM given")
            self.duck.unregister("given")
            self.lite.execute(f"CREATE TABLE t.{name} (id INTEGER, i INTEGER, j INTEGER, s TEXT)")
            rows = zip(*(table.column(column).to_pylist() for column in ("id", "i", "j", "s")))
            self.lite.executemany(f"INSERT INTO t.{name} VALUES (?, ?, ?, ?)", rows)

    def watershed(self, sql):
        with self.ours.cursor() as cursor:
            try:
                cursor.execute(sql)
                return answer(cursor.fetchall())
            except Exception as why:
                raise Refused(str(why).split("; SqlState")[0].split(". Vendor code")[0]) from None

    def duckdb(self, sql):
        try:
            return answer(self.duck.execute(sql).fetchall())
        except duckdb.Error as why:
            raise Refused(str(why)) from None

    def sqlite(self, sql):
        try:
            return answer(self.lite.execute(sql).fetchall())
        except sqlite3.Error as why:
            raise Refused(str(why)) from None

    def judged(self, sql, alike):
        """`None` if all is well, else what is not; the name of the rule that sets the query aside is raised as `Aside`."""
        others = {}
        for name, ask in [("DuckDB", self.duckdb)] + ([("SQLite", self.sqlite)] if alike else []):
            try:
                others[name] = ask(sql)
            except Refused:
                pass
        if not others:
            raise Aside("refused by the others")
        try:
            ours = self.watershed(sql)
        except Refused as why:
            for name, pattern, _ in RULES:
                if re.search(pattern, str(why)):
                    raise Aside(name) from None
            return f"Watershed refuses: {why}"
        if ours in others.values() and len({frozenset(o.items()) for o in others.values()}) > 1:
            raise Aside("the others differ, one of them from Watershed")
        for name, theirs in others.items():
            if ours != theirs:
                if "SQLite" not in others and ROW_IN.search(sql):
                    raise Aside("rows beside NULL that only SQLite knows")
                return f"Watershed: {shown(ours)}\n{name}: {shown(theirs)}"
        return None


class Aside(Exception):
    pass


def shown(rows):
    return sorted(map(str, ((*(str(v[1]) if isinstance(v, tuple) and v[:1] == ("n",) else v for v in row),) for row in rows.elements())))[:12]


def kind(why):
    """What a difference is of, so that a smaller query with another is not taken for it."""
    return "rows" if why.startswith("Watershed: ") else re.sub(r"[0-9]+|'[^']*'|\"[^\"]*\"", "", why)[:60]


def reduced(engines, query, why, alike):
    wanted, tries = kind(why), 0
    again = True
    while again and tries < 600:
        again = False
        for less in smaller(query):
            if less.kind != query.kind:
                continue
            tries += 1
            try:
                found = engines.judged(less.text(), alike)
            except Aside:
                continue
            if found and kind(found) == wanted:
                query, why, again = less, found, True
                break
    return query, why


def run(url, seeds, shown_max):
    engines = Engines(url)
    aside = collections.Counter()
    different = 0
    kinds = collections.Counter()
    for at in seeds:
        alike = at % 3 == 0
        query = Grammar(at, plain=alike).query()
        try:
            why = engines.judged(query.text(), alike)
        except Aside as name:
            aside[str(name)] += 1
            continue
        if why is None:
            continue
        different += 1
        kinds[kind(why)] += 1
        if kinds[kind(why)] <= shown_max:
            query, why = reduced(engines, query, why, alike)
            print(f"seed {at}:\n{query.text()}\n{why}\n", flush=True)
    for name, number in sorted(aside.items()):
        print(f"set aside: {number} ({name})")
    for name, number in kinds.most_common():
        print(f"different: {number} ({name})")
    print(f"{len(seeds)} queries, {different} different")
    # Queries that nobody judges prove nothing.
    return 1 if different or sum(aside.values()) * 2 > len(seeds) else 0


def make(warehouse):
    import deltalake

    for name, table in tables.all_tables().items():
        deltalake.write_deltalake(f"{warehouse}/t/{name}", table)


def main(command, place, *asked):
    if command == "make":
        return make(place)
    shown_max = math.inf if asked[-1] == "--all" else 4
    asked = asked[:-1] if asked[-1] == "--all" else asked
    if asked[0] == "--seeds":
        seeds = [int(seed) for seed in asked[1].split(",")]
    else:
        first = int(asked[1]) if len(asked) > 1 else 1
        seeds = range(first, first + int(asked[0]))
    return run(place, seeds, shown_max)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
