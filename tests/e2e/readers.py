"""What other readers of Delta see in tables: for each line of standard input one JSON object, until there are no more lines.
SparkReader.java says the same in the same words. Nothing is kept from one line to the next.

    FOLDER<tab>FOLDER...   ->   {"FOLDER": {"deltalake": SUMMARY, "duckdb": SUMMARY, "polars": SUMMARY}, ...}

SUMMARY: {"rows": n, "columns": {NAME: {"type", "nulls", "distinct", "sum", "least", "greatest"}}}; what has no sense for a column is null.
Types are in Spark's words. The values inside of structs are columns, too (`place.lat`), and so is the length of a list (`tags.length`).
"""

import datetime
import decimal
import json
import sys

import duckdb
import polars
import pyarrow
import pyarrow.compute as compute
from deltalake import DeltaTable
from duckdb_extensions import import_extension

NAMES = {"int8": "tinyint", "int16": "smallint", "int32": "int", "int64": "bigint", "bool": "boolean", "date32[day]": "date"}
NAMES |= {"large_string": "string", "string_view": "string", "large_binary": "binary", "binary_view": "binary"}
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def type_name(kind):
    if pyarrow.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pyarrow.types.is_timestamp(kind):
        return "timestamp" if kind.tz else "timestamp_ntz"
    if pyarrow.types.is_struct(kind):
        return f"struct<{','.join(f'{field.name}:{type_name(field.type)}' for field in kind)}>"
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        return f"array<{type_name(kind.value_type)}>"
    return NAMES.get(str(kind), str(kind))


def plain(value):
    """Decimals as text, times as microseconds, bytes in hexadecimal, dates as ISO 8601."""
    if isinstance(value, datetime.datetime):
        return (value - EPOCH) // datetime.timedelta(microseconds=1)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, datetime.date):
        return str(value)
    return value


def about(values):
    """What is known of one column, and of those inside of it."""
    kind = values.type
    found = {"type": type_name(kind), "nulls": values.null_count, "distinct": None, "sum": None, "least": None, "greatest": None}
    yield "", found
    if pyarrow.types.is_struct(kind):
        for field in kind:
            for name, inside in about(compute.struct_field(values, field.name)):
                yield f".{field.name}{name}", inside
    elif pyarrow.types.is_nested(kind):
        for name, inside in about(compute.list_value_length(values).cast("int64")):
            yield f".length{name}", inside
    else:
        found["distinct"] = compute.count_distinct(values, mode="only_valid").as_py()
        if pyarrow.types.is_integer(kind) or pyarrow.types.is_decimal(kind):
            # As wide as a sum may get.
            wide = values.cast(pyarrow.decimal128(38, kind.scale)) if pyarrow.types.is_decimal(kind) else values
            found["sum"] = plain(compute.sum(wide).as_py())
        least_and_greatest = compute.min_max(values).as_py()
        found["least"], found["greatest"] = plain(least_and_greatest["min"]), plain(least_and_greatest["max"])


def summary(table):
    columns = {}
    for name in table.column_names:
        for inside, found in about(table[name].combine_chunks()):
            columns[name + inside] = found
    return {"rows": table.num_rows, "columns": columns}


def with_deltalake(folder):
    return DeltaTable(folder).to_pyarrow_table()


def with_duckdb(folder):
    import_extension("delta")
    connection = duckdb.connect(":memory:")
    connection.execute("LOAD delta")
    return connection.execute("SELECT * FROM delta_scan(?)", [folder]).to_arrow_table()


def with_polars(folder):
    return polars.read_delta(folder).to_arrow()


def main():
    readers = {"deltalake": with_deltalake, "duckdb": with_duckdb, "polars": with_polars}
    for line in sys.stdin:
        # An empty line asks for no folder.
        folders = line.rstrip("\n").split("\t") if line.strip() else []
        answer = {folder: {name: summary(read(folder)) for name, read in readers.items()} for folder in folders}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
