"""What other readers of Delta see in tables: one JSON object on standard output.

    readers.py FOLDER...   ->   {"FOLDER": {"deltalake": SUMMARY, "duckdb": SUMMARY, "polars": SUMMARY}, ...}

SUMMARY: {"rows": n, "columns": {NAME: {"nulls": n, "distinct": n, "sum": n (whole numbers only)}}}
"""

import json
import sys

import duckdb
import polars
import pyarrow
import pyarrow.compute
from deltalake import DeltaTable
from duckdb_extensions import import_extension


def summary_of_arrow(table):
    columns = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        about = {"nulls": column.null_count}
        if not pyarrow.types.is_nested(column.type):
            about["distinct"] = pyarrow.compute.count_distinct(column, mode="only_valid").as_py()
        if pyarrow.types.is_integer(column.type):
            about["sum"] = pyarrow.compute.sum(column).as_py()
        columns[name] = about
    return {"rows": table.num_rows, "columns": columns}


def with_deltalake(folder):
    return summary_of_arrow(DeltaTable(folder).to_pyarrow_table())


def with_duckdb(folder):
    import_extension("delta")
    connection = duckdb.connect(":memory:")
    connection.execute("LOAD delta")
    result = connection.execute("SELECT * FROM delta_scan(?)", [folder])
    return summary_of_arrow(result.to_arrow_table())


def with_polars(folder):
    frame = polars.read_delta(folder)
    columns = {}
    for name, kind in frame.schema.items():
        column = frame[name]
        about = {"nulls": column.null_count()}
        if not kind.is_nested():
            about["distinct"] = column.drop_nulls().n_unique()
        if kind.is_integer():
            about["sum"] = int(column.sum()) if column.len() > column.null_count() else None
        columns[name] = about
    return {"rows": frame.height, "columns": columns}


def main(folders):
    readers = {"deltalake": with_deltalake, "duckdb": with_duckdb, "polars": with_polars}
    print(json.dumps({folder: {name: read(folder) for name, read in readers.items()} for folder in folders}))


if __name__ == "__main__":
    main(sys.argv[1:])
