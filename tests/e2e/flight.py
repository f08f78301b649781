"""What a Python client sees of `watershed serve` through adbc-driver-flightsql. Each check is a function; it says what is wrong by failing.

    flight.py URL CHECK [ARGUMENT...]
"""

import datetime
import decimal
import os
import sys
import threading
import time

import adbc_driver_manager
import pyarrow
from adbc_driver_flightsql import dbapi


def rows(connection, sql, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def error_of(connection, sql, parameters=None):
    try:
        found = rows(connection, sql, parameters)
    except Exception as error:  # noqa: BLE001, the kind is part of what is checked
        return error
    raise AssertionError(f"{sql} gave {found}")


def names(connection, depth, **filters):
    """schema -> table -> [column] as far as `depth` goes."""
    found = {}
    catalogs = connection.adbc_get_objects(depth=depth, **filters).read_all().to_pylist()
    assert [catalog["catalog_name"] for catalog in catalogs] == ["watershed"], catalogs
    for schema in catalogs[0]["catalog_db_schemas"] or []:
        tables = found.setdefault(schema["db_schema_name"], {})
        for table in schema["db_schema_tables"] or []:
            columns = [column["column_name"] for column in table["table_columns"] or []]
            tables[table["table_name"]] = (table["table_type"], columns)
    return found


def lists(connection):
    assert names(connection, "catalogs") == {}
    assert set(names(connection, "db_schemas")) == {"bronze", "gold", "silver", "system"}
    tables = names(connection, "tables")
    assert tables["gold"] == {"by_minute": ("TABLE", []), "by_minute$late": ("TABLE", [])}, tables
    assert tables["system"]["pipelines"][0] == "SYSTEM TABLE", tables
    columns = names(connection, "all")["gold"]["by_minute"][1]
    assert columns == ["window_start", "window_end", "city", "events", "cents", "dearest", "fares"], columns
    only = names(connection, "all", db_schema_filter="go%", table_name_filter="by\\_minute", table_types_filter=["TABLE"])
    assert list(only) == ["gold"] and list(only["gold"]) == ["by_minute"], only
    # Grafana asks for these two.
    grafana = names(connection, "tables", table_types_filter=["BASE TABLE", "table"])
    assert "by_minute" in grafana["gold"] and "system" not in {s for s, t in grafana.items() if t}, grafana
    assert connection.adbc_get_table_types() == ["SYSTEM TABLE", "TABLE"]
    info = connection.adbc_get_info()
    assert info["vendor_name"] == "Watershed" and info["vendor_version"], info
    schema = connection.adbc_get_table_schema("by_minute", db_schema_filter="gold")
    assert schema.field("window_start").type == pyarrow.timestamp("us", tz="UTC"), schema
    assert schema.field("events").metadata[b"ARROW:FLIGHT:SQL:TYPE_NAME"] == b"BIGINT", schema.field("events").metadata
    # Every column listed is one that a query gives, in name, type and order.
    for schema_name, its_tables in tables.items():
        for table in its_tables:
            listed = connection.adbc_get_table_schema(table, db_schema_filter=schema_name)
            with connection.cursor() as cursor:
                cursor.execute(f'SELECT * FROM {schema_name}."{table}" LIMIT 1')
                read = cursor.fetch_arrow_table().schema
            assert listed.equals(read), f"{schema_name}.{table}: listed\n{listed}\nread\n{read}"


def queries(connection, expected_events):
    assert rows(connection, "SELECT count(*) FROM bronze.events") == [(int(expected_events),)]
    # Two statements at once on one connection.
    with connection.cursor() as one, connection.cursor() as other:
        one.execute("SELECT 1 AS a")
        other.execute("SELECT 2 AS a")
        assert (one.fetchone(), other.fetchone()) == ((1,), (2,))
    empty = rows(connection, "SELECT * FROM gold.by_minute WHERE false")
    assert empty == []
    import polars  # takes longer than any other check

    frame = polars.read_database("SELECT city, sum(events) AS events FROM gold.by_minute GROUP BY city", connection)
    assert frame["events"].sum() > 0 and frame.schema["events"] == polars.Int64
    # What is set on one connection stays there.
    assert rows(connection, "SET datafusion.execution.batch_size = 77") == []
    setting = "SELECT value FROM information_schema.df_settings WHERE name = 'datafusion.execution.batch_size'"
    assert rows(connection, setting) == [("77",)]
    with dbapi.connect(URL, autocommit=True) as other:
        assert rows(other, setting) != [("77",)]
    # A driver that logs in is let in.
    with dbapi.connect(URL, autocommit=True, db_kwargs={"username": "analyst", "password": "any"}) as other:
        assert rows(other, "SELECT 1") == [(1,)]


def types(connection):
    """Values and types that clients get wrong; the driver itself refuses a stream whose schema is not the one that was promised."""
    utc = datetime.timezone.utc
    moment = datetime.datetime(2024, 6, 1, 10, 0, 0, 250_000, tzinfo=utc)
    cases = [
        ("arrow_cast('short', 'Utf8View')", pyarrow.string(), "short"),
        ("arrow_cast('longer than twelve bytes', 'Utf8View')", pyarrow.string(), "longer than twelve bytes"),
        ("arrow_cast('x', 'BinaryView')", pyarrow.binary(), b"x"),
        ("arrow_cast('x', 'Dictionary(Int32, Utf8)')", pyarrow.string(), "x"),
        ("CAST(12.345 AS DECIMAL(12, 3))", pyarrow.decimal128(12, 3), decimal.Decimal("12.345")),
        ("CAST(NULL AS DECIMAL(38, 9))", pyarrow.decimal128(38, 9), None),
        ("CAST('2024-06-01T10:00:00.25Z' AS TIMESTAMP)", pyarrow.timestamp("us", tz="UTC"), moment),
        ("DATE '2024-06-01'", pyarrow.date32(), datetime.date(2024, 6, 1)),
        ("make_array('a', NULL)", pyarrow.list_(pyarrow.string()), ["a", None]),
        ("make_array(arrow_cast('a', 'Utf8View'))", pyarrow.list_(pyarrow.string()), ["a"]),
        ("arrow_cast(make_array(1, 2), 'LargeList(Int64)')", pyarrow.list_(pyarrow.int64()), [1, 2]),
        ("named_struct('s', arrow_cast('a', 'Utf8View'), 'n', make_array(1.5))", None, {"s": "a", "n": [1.5]}),
        ("MAP {'k': arrow_cast('v', 'Utf8View')}", None, [("k", "v")]),
        ("CAST(1 AS BIGINT UNSIGNED)", pyarrow.uint64(), 1),
        ("1.5", pyarrow.float64(), 1.5),
        ("NULL", pyarrow.null(), None),
        ("true", pyarrow.bool_(), True),
    ]
    for sql, kind, value in cases:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {sql} AS x")
            table = cursor.fetch_arrow_table()
        assert kind is None or table.schema.field("x").type.equals(kind), f"{sql}: {table.schema}"
        assert table["x"].to_pylist() == [value], f"{sql}: {table['x']}"
    # Nullability and types that only planning settles: constants, unions, outer joins, aggregates over nothing.
    for sql in [
        "SELECT 1 AS a UNION ALL SELECT 2.5",
        "SELECT 'x' AS a UNION ALL SELECT NULL",
        "SELECT count(*) AS n, max(city) AS city FROM gold.by_minute WHERE false",
        "SELECT a.event_id, b.city FROM bronze.events a LEFT JOIN gold.by_minute b ON a.cents = b.dearest AND false LIMIT 5",
        "SELECT city, events, lag(events) OVER (ORDER BY window_start) AS before FROM gold.by_minute",
        "SELECT CASE WHEN events > 3 THEN city END AS c FROM gold.by_minute",
        "SELECT * FROM system.pipelines",
        "EXPLAIN SELECT count(*) FROM bronze.events",
        "SHOW TABLES",
        "DESCRIBE gold.by_minute",
        "SHOW PIPELINES",
        "SHOW EPOCHS",
        "SHOW JOBS",
        "SHOW JOB_RUNS",
        "SHOW QUALITY",
        "SHOW SINKS",
    ]:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            cursor.fetch_arrow_table()
    assert connection.execute("SELECT 1 AS a").fetch_arrow_table().schema.field("a").nullable is False
    wide = ", ".join(f"repeat('x', {n}) AS c{n}" for n in range(1, 300))
    assert len(rows(connection, f"SELECT {wide}")[0]) == 299


def prepared(connection):
    sql = "SELECT count(*) FROM bronze.events WHERE city = ? AND cents > ?"
    with connection.cursor() as cursor:
        cursor.adbc_prepare(sql)
        for city in ["Berlin", "Lima", "Nowhere"]:
            cursor.execute(sql, (city, 100))
            by_hand = rows(connection, f"SELECT count(*) FROM bronze.events WHERE city = '{city}' AND cents > 100")
            assert cursor.fetchall() == by_hand, city
    with connection.cursor() as cursor:
        schema = cursor.adbc_prepare("SELECT $2, city FROM bronze.events WHERE cents = $1 AND event_time < CAST($2 AS TIMESTAMP) LIMIT $3")
        assert [field.type for field in schema] == [pyarrow.int64(), pyarrow.timestamp("ms", tz="UTC"), pyarrow.int64()], schema
    utc = datetime.timezone.utc
    for value in ["text", 7, 2.5, True, None, datetime.datetime(2024, 6, 1, 10, tzinfo=utc), b"\x00\xff", decimal.Decimal("1.50")]:
        assert rows(connection, "SELECT ? AS x", (value,)) == [(value,)], repr(value)
    assert rows(connection, "SELECT sum(value) FROM generate_series(1, 10) WHERE value BETWEEN $1 AND $2", (2, 4)) == [(9,)]
    values_are_not_cut(connection)
    # The columns of a query that is not run.
    with connection.cursor() as cursor:
        columns = cursor.adbc_execute_schema("SELECT city, sum(cents) AS cents FROM bronze.events GROUP BY city")
    assert columns.names == ["city", "cents"] and columns.field("cents").type == pyarrow.int64(), columns
    assert rows(connection, "SELECT ? + ?, abs(?), upper(?)", (1, 2, -3, "a")) == [(3, 3, "A")]
    few = error_of(connection, "SELECT ? + ?", (1,))
    assert isinstance(few, adbc_driver_manager.ProgrammingError) and "2 parameters" in str(few), few
    assert "'many' is not a BIGINT" in str(error_of(connection, "SELECT * FROM bronze.events WHERE cents = ?", ("many",)))
    assert "no values were bound" in str(error_of(connection, "SELECT $1"))


def values_are_not_cut(connection):
    """A value means what it means written into the statement, whatever stands beside its parameter."""
    utc = datetime.timezone.utc
    series = "FROM (SELECT value AS n, CAST(value AS DECIMAL(12, 2)) AS m, CAST(value AS VARCHAR) AS s FROM generate_series(0, 99)) AS t"
    for condition, value, expected in [
        ("n < ?", 10.5, 11),
        ("n = ?", 10.5, 0),
        ("n BETWEEN ? AND 20", 10.5, 10),
        ("n < ?", 1e300, 100),
        ("m = ?", decimal.Decimal("5.004"), 0),
        ("m = ?", decimal.Decimal("5.0"), 1),
        ("m = ?", 5.004, 0),
        ("m < ?", decimal.Decimal("0.004"), 1),
        ("n % 7 = ?", 3.5, 0),
        ("n * ? = 4.5", 1.5, 1),
        ("n / ? = 2.5", 4.0, 1),
        ("s = ?", "7", 1),
        ("s LIKE ?", "7%", 11),
        ("n = ?", "7", 1),
        ("n = ?", None, 0),
        ("s = ?", None, 0),
        ("m = ?", None, 0),
        ("nullif(n, 5) IS NOT DISTINCT FROM ?", None, 1),
    ]:
        assert rows(connection, f"SELECT count(*) {series} WHERE {condition}", (value,)) == [(expected,)], (condition, value)
    events = rows(connection, "SELECT count(*) FROM bronze.events")[0][0]
    at = rows(connection, "SELECT min(event_time) FROM bronze.events")[0][0]
    for moment, expected in [(at, events), (at - datetime.timedelta(microseconds=1), events), (datetime.datetime(9999, 1, 1, tzinfo=utc), 0)]:
        assert rows(connection, "SELECT count(*) FROM bronze.events WHERE event_time >= ?", (moment,)) == [(expected,)], moment
    later = rows(connection, "SELECT count(*) FROM bronze.events WHERE event_time >= ?", (at + datetime.timedelta(microseconds=1),))[0][0]
    assert later < events, (later, events)
    afternoon = at.replace(hour=16, minute=10, second=0, microsecond=0)
    assert rows(connection, "SELECT count(*) FROM bronze.events WHERE CAST(event_time AS DATE) = ?", (afternoon,)) == [(0,)]
    assert rows(connection, "SELECT count(*) FROM bronze.events WHERE event_time < ?", (None,)) == [(0,)]
    assert "LIMIT" in str(error_of(connection, "SELECT 1 LIMIT ?", (1.9,)))
    assert "is not a BIGINT" in str(error_of(connection, f"SELECT n {series} WHERE n = ?", ("10.5",)))


def refusals(connection):
    unknown = error_of(connection, "SELECT citty\nFROM gold.by_minute")
    assert isinstance(unknown, adbc_driver_manager.ProgrammingError), type(unknown)
    assert "column 'citty' does not exist (line 1, column 8)" in str(unknown) and "did you mean 'city'" in str(unknown), unknown
    wrong = error_of(connection, "SELECT 1,\n  FROM")
    assert "line 2" in str(wrong), wrong
    assert "table 'gold.by_minut' does not exist (line 2, column 6)" in str(error_of(connection, "SELECT *\nFROM gold.by_minut"))
    for sql, why in [
        ("INSERT INTO bronze.events SELECT * FROM bronze.events", "written by their pipelines only"),
        ("DELETE FROM bronze.events", "written by their pipelines only"),
        ("DROP TABLE bronze.events", "defines nothing"),
        ("CREATE TABLE t AS SELECT 1", "defines nothing"),
        ("CREATE STREAMING TABLE a.b AS SELECT 1", "only reads"),
        ("COPY (SELECT 1) TO 'elsewhere.parquet'", "on the server's machine"),
        ("SET datafusion.runtime.memory_limit = '100G'", "all clients"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
    ]:
        error = error_of(connection, sql)
        assert why in str(error), f"{sql}: {error}"
    for update in ["DELETE FROM bronze.events", "UPDATE bronze.events SET cents = 0"]:
        with connection.cursor() as cursor:
            # Updates take another way than queries.
            cursor.adbc_statement.set_sql_query(update)
            try:
                cursor.adbc_statement.execute_update()
                raise AssertionError(f"{update} went through")
            except adbc_driver_manager.NotSupportedError as error:
                assert "written by their pipelines only" in str(error), error
    at_run_time = error_of(connection, "SELECT 1 / (value - 5) FROM generate_series(1, 10)")
    assert "ivide by zero" in str(at_run_time), at_run_time


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS:"))


def busy(pid):
    """Waits until the server computes."""
    before, until = cpu_seconds(pid), time.monotonic() + 30
    while cpu_seconds(pid) - before < 0.3:
        assert time.monotonic() < until, "the query does not run"
        time.sleep(0.1)


def idle(pid):
    """Waits until the server computes nothing any more."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        before = cpu_seconds(pid)
        time.sleep(1.0)
        if cpu_seconds(pid) - before < 0.1:
            return
    raise AssertionError("the server goes on computing")


ENDLESS = "SELECT max(a.value * b.value % 1003) FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 100000000) b"


def cancel(connection, pid):
    # While nothing has come yet, from another thread.
    cursor = connection.cursor()
    threading.Timer(1.0, cursor.adbc_cancel).start()
    started = time.monotonic()
    try:
        cursor.execute(ENDLESS)
        cursor.fetchall()
        raise AssertionError("an endless query ended")
    except adbc_driver_manager.Error as error:
        assert "ancel" in str(error), error
    assert 0.9 < time.monotonic() - started < 10
    cursor.close()
    idle(pid)


def leave(connection, pid):
    """Goes away without a word while a query computes."""
    threading.Thread(target=rows, args=(connection, ENDLESS), daemon=True).start()
    busy(pid)
    os._exit(0)


def after_leaving(connection, pid):
    idle(pid)
    assert rows(connection, "SELECT 1") == [(1,)]


def large(connection, pid):
    """1.3 GB through a server that keeps a few megabytes of it, however slowly they are taken."""
    rows(connection, "SELECT count(*) FROM bronze.events")
    before = resident_mib(pid)
    highest, count, size = before, 0, 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT value, repeat('x', 120) || CAST(value AS VARCHAR) AS text FROM generate_series(1, 9000000)")
        for number, batch in enumerate(cursor.fetch_record_batch()):
            count += batch.num_rows
            size += batch.nbytes
            assert batch.nbytes < 4 << 20, batch.nbytes
            if number % 50 == 0:
                highest = max(highest, resident_mib(pid))
            if number == 100:
                time.sleep(2)
                highest = max(highest, resident_mib(pid))
    assert count == 9_000_000 and size > 1_100_000_000, (count, size)
    assert highest - before < 150, f"from {before:.0f} to {highest:.0f} MiB"
    # One value of 3 MB and rows of very different sizes.
    big = rows(connection, "SELECT repeat('x', CAST(CASE WHEN value = 500 THEN 3000000 ELSE 10 END AS BIGINT)) FROM generate_series(1, 1000)")
    assert [len(text) for (text,) in big] == [3_000_000 if n == 500 else 10 for n in range(1, 1001)]


def value(connection, sql):
    print(rows(connection, sql)[0][0])


if __name__ == "__main__":
    URL, check, *arguments = sys.argv[1:]
    with dbapi.connect(URL, autocommit=True) as it:
        globals()[check](it, *arguments)
