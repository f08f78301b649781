"""Random queries over the tables of `tables.py`, as trees that can be made smaller.

A node is `Node(kind, template, children, choices)`: `template` has a `{}` for each child. Every query says in which order its rows come if it
cuts them off, so that all engines have the same answer to give.
"""

import dataclasses
import random


@dataclasses.dataclass
class Node:
    """A piece of a query. `kind` says what may stand in its place: a type for expressions, a clause's name for others."""

    kind: str
    template: str
    children: list = dataclasses.field(default_factory=list)

    def text(self):
        return self.template.format(*(child.text() for child in self.children))


TYPES = ["int", "text", "bool", "decimal", "time", "double", "list", "struct"]
# Values of these have an order, of which max and min are, in all engines.
ORDERED = TYPES[:6]
SIMPLEST = {"int": "1", "text": "'a'", "bool": "true", "decimal": "CAST(1.5 AS DECIMAL(10, 2))",
            "time": "TIMESTAMP '2024-01-01 00:00:00'", "double": "CAST(0.5 AS DOUBLE)",
            "list": "[1]"}
CONSTANTS = {
    "int": ["0", "1", "2", "3", "-1", "7", "CAST(NULL AS BIGINT)"],
    "text": ["'a'", "'b'", "''", "'ab'", "'B'", "CAST(NULL AS VARCHAR)"],
    "bool": ["true", "false", "CAST(NULL AS BOOLEAN)"],
    "decimal": ["CAST(0.00 AS DECIMAL(10, 2))", "CAST(1.50 AS DECIMAL(10, 2))", "CAST(-2.25 AS DECIMAL(10, 2))", "CAST(NULL AS DECIMAL(10, 2))"],
    "time": ["TIMESTAMP '2024-01-01 00:00:00'", "TIMESTAMP '2024-03-31 02:30:00'", "CAST(NULL AS TIMESTAMP)"],
    "double": ["CAST(0.5 AS DOUBLE)", "CAST(-1.25 AS DOUBLE)", "CAST(NULL AS DOUBLE)"],
    # A constant list with NULL is as unsure of what it does not have as ANY is; a column is not.
    "list": ["[1]", "[1, 2]"],
}
COLUMNS = {"int": ["i", "j", "id"], "text": ["s"], "bool": ["b"], "decimal": ["d"], "time": ["ts"], "double": ["f"],
           "list": ["l"], "struct": ["p"]}
# The last is empty.
TABLES = ["t.t0", "t.t1", "t.t2"] * 4 + ["t.t3"]


class Grammar:
    """Makes queries. With `plain`, only what SQLite reads as well: whole numbers, texts, no nested values."""

    def __init__(self, seed, plain=False):
        self.random = random.Random(seed)
        self.plain = plain
        self.types = ["int", "text"] if plain else TYPES
        self.aliases = 0

    def chance(self, percent):
        return self.random.random() * 100 < percent

    def pick(self, options):
        return self.random.choice(options)

    def ordered(self):
        """A type whose values have an order."""
        return self.pick([kind for kind in self.types if kind in ORDERED])

    def alias(self, letter="r"):
        self.aliases += 1
        return f"{letter}{self.aliases}"

    # Expressions. `scope` maps types to the columns that may be named.

    def value(self, kind, scope, depth):
        columns = scope.get(kind, [])
        # There is no way to write a struct that all engines read.
        if kind == "struct":
            return Node(kind, self.pick(columns)) if columns else Node("struct", f"(SELECT p FROM t.t1 WHERE id = {self.pick('123')})")
        if depth <= 0 or self.chance(25):
            if columns and self.chance(80):
                return Node(kind, self.pick(columns))
            return Node(kind, self.constant(kind))
        return getattr(self, kind)(scope, depth - 1)

    def constant(self, kind):
        return self.pick(CONSTANTS[kind])

    def int(self, scope, depth):
        v = lambda kind="int": self.value(kind, scope, depth)
        made = [
            lambda: Node("int", f"({{}} {self.pick(['+', '-', '*'])} {{}})", [v(), v()]),
            lambda: Node("int", "({} % 3)", [v()]),
            lambda: Node("int", "coalesce({}, {})", [v(), v()]),
            lambda: Node("int", "nullif({}, {})", [v(), v()]),
            lambda: Node("int", "CASE WHEN {} THEN {} ELSE {} END", [self.condition(scope, depth), v(), v()]),
            lambda: Node("int", "length({})", [v("text")]),
            lambda: Node("int", "abs({})", [v()]),
            lambda: self.scalar("int", scope, depth),
        ]
        if not self.plain:
            made += [
                lambda: Node("int", "CAST(extract(day FROM {}) AS BIGINT)", [v("time")]),
                lambda: Node("int", "CASE {} WHEN {} THEN {} ELSE {} END", [v(), v(), v(), v()]),
                lambda: Node("int", f"{{}}[{self.pick([1, 1, 2, -1])}]", [v("list")]),
                lambda: Node("int", "CAST(array_length({}) AS BIGINT)", [v("list")]),
                lambda: Node("int", "{}['n']", [v("struct")]),
            ]
        return self.pick(made)()

    def text(self, scope, depth):
        v = lambda kind="text": self.value(kind, scope, depth)
        return self.pick([
            lambda: Node("text", "({} || {})", [v(), v()]),
            lambda: Node("text", "upper({})", [v()]),
            lambda: Node("text", "coalesce({}, {})", [v(), v()]),
            lambda: Node("text", "nullif({}, {})", [v(), v()]),
            lambda: Node("text", "substr({}, 1, 1)", [v()]),
            lambda: Node("text", "CASE WHEN {} THEN {} ELSE {} END", [self.condition(scope, depth), v(), v()]),
            lambda: self.scalar("text", scope, depth),
        ])()

    def decimal(self, scope, depth):
        v = lambda kind="decimal": self.value(kind, scope, depth)
        return self.pick([
            lambda: Node("decimal", f"CAST(({{}} {self.pick(['+', '-'])} {{}}) AS DECIMAL(20, 2))", [v(), v()]),
            lambda: Node("decimal", "coalesce({}, {})", [v(), v()]),
            lambda: Node("decimal", "CASE WHEN {} THEN {} ELSE {} END", [self.condition(scope, depth), v(), v()]),
            lambda: Node("decimal", "CAST({} % 100 AS DECIMAL(12, 2))", [v("int")]),
            lambda: self.scalar("decimal", scope, depth),
        ])()

    def time(self, scope, depth):
        v = lambda kind="time": self.value(kind, scope, depth)
        unit = self.pick(["hour", "day", "month"])
        return self.pick([
            lambda: Node("time", f"({{}} + INTERVAL '1 {unit}')", [v()]),
            lambda: Node("time", f"date_trunc('{unit}', {{}})", [v()]),
            lambda: Node("time", "coalesce({}, {})", [v(), v()]),
            lambda: Node("time", "CASE WHEN {} THEN {} ELSE {} END", [self.condition(scope, depth), v(), v()]),
            lambda: self.scalar("time", scope, depth),
        ])()

    def double(self, scope, depth):
        v = lambda kind="double": self.value(kind, scope, depth)
        return self.pick([
            lambda: Node("double", f"({{}} {self.pick(['+', '-', '*'])} {{}})", [v(), v()]),
            lambda: Node("double", "coalesce({}, {})", [v(), v()]),
            lambda: Node("double", "CAST({} AS DOUBLE)", [v("int")]),
            lambda: Node("double", "CASE WHEN {} THEN {} ELSE {} END", [self.condition(scope, depth), v(), v()]),
        ])()

    def list(self, scope, depth):
        v = lambda kind="list": self.value(kind, scope, depth)
        return self.pick([
            lambda: Node("list", "[{}, {}]", [v("int"), v("int")]),
            lambda: Node("list", "{}['items']", [v("struct")]),
            lambda: Node("list", "coalesce({}, {})", [v(), v()]),
            lambda: Node("list", "CASE WHEN {} THEN {} ELSE {} END", [self.condition(scope, depth), v(), v()]),
            lambda: self.scalar("list", scope, depth),
        ])()

    def bool(self, scope, depth):
        return Node("bool", "({})", [self.condition(scope, depth)])

    def condition(self, scope, depth):
        kind = self.pick(self.types)
        if kind == "bool":
            kind = "int"
        if kind in ("list", "struct"):
            return self.nested_condition(kind, scope, depth)
        v = lambda: self.value(kind, scope, depth - 1)
        c = lambda: self.condition(scope, depth - 1)
        compare = self.pick(["=", "<>", "<", "<=", ">", ">="])
        simple = [
            lambda: Node("bool", f"{{}} {compare} {{}}", [v(), v()]),
            lambda: Node("bool", f"({{}} IS {self.pick(['', 'NOT '])}NULL)", [v()]),
        ]
        if depth <= 0:
            return self.pick(simple)()
        no = self.pick(["", "NOT "])
        made = simple + [
            lambda: Node("bool", "({} AND {})", [c(), c()]),
            lambda: Node("bool", "({} OR {})", [c(), c()]),
            lambda: Node("bool", "(NOT ({}))", [c()]),
            lambda: Node("bool", f"({{}} {no}IN ({{}}, {{}}, {{}}))", [v(), v(), v(), v()]),
            lambda: Node("bool", f"({{}} {no}BETWEEN {{}} AND {{}})", [v(), v(), v()]),
            lambda: Node("bool", f"({{}} IS {no}DISTINCT FROM {{}})", [v(), v()]),
            lambda: Node("bool", f"({{}}) IS {no}{self.pick(['TRUE', 'FALSE', 'NULL'])}", [c()]),
            lambda: Node("bool", f"({{}} {no}LIKE '{self.pick(['a%', '%b', '_', '%', 'A_'])}')", [self.value("text", scope, depth - 1)])
            if not self.plain else simple[0](),
            lambda: self.subquery_condition(kind, scope, depth),
            lambda: self.subquery_condition(kind, scope, depth),
            lambda: self.subquery_condition(kind, scope, depth),
        ]
        return self.pick(made)()

    def nested_condition(self, kind, scope, depth):
        v = lambda kind=kind: self.value(kind, scope, depth - 1)
        no = self.pick(["", "NOT "])
        made = [
            lambda: Node("bool", f"({{}} IS {no}NULL)", [v()]),
            lambda: Node("bool", f"{{}} {self.pick(['=', '<>'])} {{}}", [v(), v()]),
            lambda: Node("bool", f"({{}} IS {no}DISTINCT FROM {{}})", [v(), v()]),
            lambda: Node("bool", f"({no}array_has({{}}, {{}}))", [v("list"), v("int")]),
        ]
        if depth > 0:
            made.append(lambda: self.subquery_condition(kind, scope, depth))
        return self.pick(made)()

    def subquery_condition(self, kind, scope, depth):
        no = self.pick(["", "NOT "])
        v = self.value(kind, scope, depth - 1)
        made = [
            lambda: Node("bool", f"({no}EXISTS ({{}}))", [self.select([self.pick(self.types)], scope, depth - 1)]),
            lambda: Node("bool", f"({{}} {no}IN ({{}}))", [v, self.select([kind], scope, depth - 1)]),
        ]
        if not self.plain:
            compare = self.pick(["=", "<>", "<", "<=", ">", ">="] if kind in ORDERED else ["=", "<>"])
            which = self.pick(["ANY", "ALL"])
            made.append(lambda: Node("bool", f"({{}} {compare} {which} ({{}}))", [v, self.select([kind], scope, depth - 1)]))
        # Beside NULL in one of the two columns DuckDB's answer is not that of the standard: SQLite judges.
        if self.plain and self.chance(20):
            w = self.value("int", scope, depth - 1)
            made = [lambda: Node("bool", f"(({{}}, {{}}) {no}IN ({{}}))", [v, w, self.select([kind, "int"], scope, depth - 1)])]
        return self.pick(made)()

    def scalar(self, kind, scope, depth):
        """A subquery of one row."""
        if depth <= 0:
            return self.value(kind, scope, 0)
        if kind not in ORDERED or self.chance(60):
            return Node(kind, "({})", [self.select([kind], scope, depth - 1, aggregated=True)])
        ordered = self.select([kind], scope, depth - 1, distinct=False, compound=False)
        return Node(kind, "(SELECT v1 FROM ({}) o ORDER BY v1 NULLS LAST LIMIT 1)", [ordered])

    # Queries.

    def relation(self, outer, depth):
        """A table or a query in FROM; gives it with its columns by type."""
        name = self.alias()
        if depth > 0 and self.chance(25):
            kinds = [self.pick(self.types) for _ in range(self.pick([1, 2, 3]))]
            inner = self.select(kinds, {}, depth - 1)
            scope = {}
            for at, kind in enumerate(kinds):
                scope.setdefault(kind, []).append(f"{name}.v{at + 1}")
            return Node("relation", f"({{}}) AS {name}", [inner]), scope, name
        scope = {kind: [f"{name}.{column}" for column in COLUMNS[kind]] for kind in self.types}
        return Node("relation", f"{self.pick(TABLES)} AS {name}"), scope, name

    def source(self, outer, depth):
        node, scope, name = self.relation(outer, depth)
        merged = {}
        names = [name]
        for _ in range(self.pick([0, 0, 0, 1, 1, 2])):
            lateral = depth > 0 and not self.plain and self.chance(12)
            how = self.pick(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"])
            if lateral:
                kinds = [self.pick(self.types)]
                other = self.alias()
                inner = self.select(kinds, add(scope, outer), depth - 1)
                how = self.pick(["CROSS JOIN LATERAL", "LEFT JOIN LATERAL"])
                on = " ON true" if how.startswith("LEFT") else ""
                node = Node("relation", f"{{}} {how} ({{}}) AS {other}{on}", [node, inner])
                scope = add(scope, {kinds[0]: [f"{other}.v1"]})
                continue
            right, right_scope, other = self.relation(outer, depth)
            both = add(scope, right_scope)
            if how == "CROSS JOIN":
                node = Node("relation", f"{{}} {how} {{}}", [node, right])
            elif not right.children and not node.children and len(names) == 1 and self.chance(40):
                column, kind = self.pick([("i", "int"), ("j", "int"), ("s", "text")])
                node = Node("relation", f"{{}} {how} {{}} USING ({column})", [node, right])
                merged.setdefault(kind, []).append(column)
            else:
                kind = self.ordered()
                left_value = self.value(kind, scope, 0)
                right_value = self.value(kind, right_scope, 0)
                on = Node("bool", self.pick(["{} = {}", "{} = {}", "{} = {}", "({} IS NOT DISTINCT FROM {})", "{} < {}"]), [left_value, right_value])
                if self.chance(30):
                    on = Node("bool", "({} AND {})", [on, self.condition(both, 0)])
                # An engine may know a full join by equalities only.
                if how == "FULL JOIN" and not on.template.startswith("{} = {}"):
                    how = "LEFT JOIN"
                node = Node("relation", f"{{}} {how} {{}} ON {{}}", [node, right, on])
            scope = both
            names.append(other)
        return node, add(scope, merged)

    def select(self, kinds, outer, depth, aggregated=False, distinct=None, compound=None):
        """A query with columns v1, v2, … of the kinds."""
        # A merged column has no table to name, and this query may have one of its name.
        outer = {kind: [column for column in columns if "." in column] for kind, columns in outer.items()}
        if compound is None:
            compound = depth > 0 and not aggregated and self.chance(15)
        if compound:
            how = self.pick(["UNION", "UNION ALL", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"])
            sides = [self.select(kinds, outer, depth - 1, compound=False) for _ in range(2)]
            wrapped = "SELECT * FROM ({}) AS " + self.alias() + f" {how} SELECT * FROM ({{}}) AS " + self.alias()
            return Node("query:" + ",".join(kinds), wrapped, sides)
        source, own = self.source(outer, depth)
        scope = add(own, outer) if self.chance(70) else own
        clauses = []
        where = Node("where", " WHERE {}", [self.condition(scope, depth)]) if self.chance(45) else Node("where", "")
        grouped = not aggregated and self.chance(20)
        if aggregated or grouped:
            keys = [self.value(self.pick(self.types), own, 0) for _ in range(self.pick([1, 1, 2]))] if grouped else []
            keys = [key for key in keys if key.template.startswith("r") or key.template in ("i", "j", "s")]
            keys = [key for at, key in enumerate(keys) if key.template not in [other.template for other in keys[:at]]]
            by_key = {}
            for key in keys:
                by_key.setdefault(key.kind, []).append(key)
            items = []
            for kind in kinds:
                if by_key.get(kind) and self.chance(60):
                    key = self.pick(by_key[kind])
                    items.append(Node(kind, key.template))
                else:
                    items.append(self.aggregate(kind, own, scope, depth))
            if keys:
                how = self.pick(["GROUP BY {}"] * 5 + ([] if self.plain else ["GROUP BY ROLLUP ({})"]))
                fields = ", ".join("{}" for _ in keys)
                clauses.append(Node("group", " " + how.format(fields), keys))
            if self.chance(20):
                clauses.append(Node("having", " HAVING {} > 0", [self.aggregate("int", own, own, 0)]))
        else:
            window = depth > 0 and self.chance(12)
            items = [self.over(kind, own, depth) if window and self.chance(60) else self.value(kind, scope, depth) for kind in kinds]
        if distinct is None:
            distinct = self.chance(12) and not aggregated
        columns = ", ".join(f"{{}} AS v{at + 1}" for at in range(len(items)))
        word = "SELECT DISTINCT" if distinct else "SELECT"
        template = f"{word} {columns} FROM {{}}{{}}" + "{}" * len(clauses)
        return Node("query:" + ",".join(kinds), template, items + [source, where] + clauses)

    def aggregate(self, kind, own, scope, depth):
        argument = lambda k: self.value(k, own, 0)
        filtered = "" if self.plain or not self.chance(15) else f" FILTER (WHERE {self.condition(own, 0).text()})".replace("{", "{{").replace("}", "}}")
        if kind == "int":
            call = self.pick([
                lambda: Node("int", "count(*)" + filtered),
                lambda: Node("int", "count({})" + filtered, [argument(self.pick(self.types))]),
                lambda: Node("int", "count(DISTINCT {})" + filtered, [argument(self.pick(self.types))]),
                lambda: Node("int", "CAST(sum({}) AS BIGINT)" if not self.plain else "sum({})", [argument("int")]),
                lambda: Node("int", "min({})", [argument("int")]),
                lambda: Node("int", "max({})", [argument("int")]),
            ])()
        elif kind == "bool":
            call = Node("bool", self.pick(["bool_and({})", "bool_or({})"]), [argument("bool")])
        elif kind == "decimal":
            call = Node("decimal", self.pick(["CAST(sum({}) AS DECIMAL(20, 2))", "min({})", "max({})"]), [argument("decimal")])
        elif kind == "list":
            # Rows with one value have one order, whichever it is.
            column = self.pick(own.get("int", []) or ["1"])
            call = Node("list", f"array_agg({column} ORDER BY {column} {self.pick(['ASC', 'DESC'])} NULLS FIRST)")
        elif kind == "struct":
            call = self.value("struct", {}, 0)
        else:
            call = Node(kind, self.pick(["min({})", "max({})"]), [argument(kind)])
        if depth > 0 and kind == "int" and self.chance(20):
            return Node("int", "coalesce({}, -1)", [call])
        return call

    def over(self, kind, own, depth):
        """A window function whose value does not depend on how equal rows are ordered."""
        v = lambda k=kind: self.value(k, own, 0)
        partition = Node("partition", self.pick(["", "PARTITION BY {} "]))
        if "{}" in partition.template:
            partition.children = [self.value(self.pick(self.types), own, 0)]
        order = Node("order", f"ORDER BY {{}} {self.pick(['ASC', 'DESC'])} NULLS {self.pick(['FIRST', 'LAST'])}", [self.value(self.ordered(), own, 0)])
        if kind == "int":
            call = self.pick([
                lambda: Node("int", "rank() OVER ({}{})", [partition, order]),
                lambda: Node("int", "dense_rank() OVER ({}{})", [partition, order]),
                lambda: Node("int", "count(*) OVER ({}{})", [partition, order]),
                lambda: Node("int", "count({}) OVER ({})", [v(self.pick(self.types)), partition]),
                lambda: Node("int", "CAST(sum({}) OVER ({}{}) AS BIGINT)" if not self.plain else "sum({}) OVER ({}{})", [v(), partition, order]),
            ])
            return call()
        if kind == "bool" or kind not in ORDERED:
            return self.value(kind, own, depth)
        return Node(kind, f"{self.pick(['min', 'max'])}({{}}) OVER ({{}}{{}})", [v(), partition, order])

    def query(self):
        kinds = [self.pick(self.types) for _ in range(self.pick([1, 2, 2, 3]))]
        body = self.select(kinds, {}, self.pick([1, 2, 2, 3]))
        if all(kind in ORDERED for kind in kinds) and self.chance(15):
            order = ", ".join(f"v{at + 1} {self.pick(['ASC', 'DESC'])} NULLS {self.pick(['FIRST', 'LAST'])}" for at in range(len(kinds)))
            limit = f" LIMIT {self.pick([1, 2, 5])}" + self.pick(["", f" OFFSET {self.pick([1, 3])}"])
            return Node("query:" + ",".join(kinds), f"SELECT * FROM ({{}}) AS q ORDER BY {order}{limit}", [body])
        if self.chance(10):
            return Node("query:" + ",".join(kinds), "WITH w AS ({}) SELECT * FROM w UNION ALL SELECT * FROM w", [body])
        return body


def add(one, other):
    return {kind: one.get(kind, []) + other.get(kind, []) for kind in {**one, **other}}


def smaller(node):
    """The tree with one piece left out or made simple, for each such piece, biggest first."""
    for child in node.children:
        if child.kind == node.kind:
            yield child
    if node.kind in ("where", "having", "partition") and node.template:
        yield Node(node.kind, "")
    if node.kind in SIMPLEST and (node.children or "." in node.template):
        yield Node(node.kind, SIMPLEST[node.kind])
    for at, child in enumerate(node.children):
        for less in smaller(child):
            yield Node(node.kind, node.template, node.children[:at] + [less] + node.children[at + 1:])
