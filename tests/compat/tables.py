"""Small tables with what goes wrong elsewhere: NULL in every column, rows that come twice, an empty table."""

import datetime
import decimal
import random

import pyarrow as pa

SCHEMA = pa.schema([
    ("id", pa.int64()), ("i", pa.int64()), ("j", pa.int64()), ("s", pa.string()), ("b", pa.bool_()),
    ("d", pa.decimal128(10, 2)), ("ts", pa.timestamp("us", tz="UTC")), ("f", pa.float64()),
    ("l", pa.list_(pa.int64())), ("p", pa.struct([("n", pa.int64()), ("items", pa.list_(pa.int64()))])),
])


def made(seed, rows):
    chosen = random.Random(seed)
    utc = datetime.timezone.utc
    values = {
        "i": [None, 0, 1, 2, 3, 3, -1],
        "j": [None, None, 1, 2, 7],
        "s": [None, "", "a", "ab", "B", "a"],
        "b": [None, True, False],
        "d": [None] + [decimal.Decimal(text) for text in ("0.00", "1.50", "-2.25", "1.50", "99.99")],
        "ts": [None] + [datetime.datetime(2024, month, day, hour, tzinfo=utc) for month, day, hour in ((1, 1, 0), (1, 31, 12), (3, 31, 2), (2, 29, 23))],
        "f": [None, 0.5, -1.25, 2.0, 0.0],
        "l": [None, [], [1], [1, None], [2, 1], [None]],
        "p": [None, {"n": None, "items": None}, {"n": 1, "items": []}, {"n": 1, "items": [3, None]}, {"n": 2, "items": [1]}],
    }
    columns = {name: [chosen.choice(of) for _ in range(rows)] for name, of in values.items()}
    columns["id"] = list(range(1, rows + 1))
    # Some rows stand twice, but for their id.
    for name in values:
        columns[name] += columns[name][: rows // 4]
    columns["id"] += list(range(rows + 1, rows + 1 + rows // 4))
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in SCHEMA})


def all_tables():
    return {"t0": made(0, 6), "t1": made(1, 9), "t2": made(2, 4), "t3": made(3, 0)}
