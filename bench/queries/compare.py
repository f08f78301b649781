"""Runs the queries on Watershed and on DuckDB over the same files, turn by turn, and prints both times; a wrong answer fails.

    compare.py WATERSHED WAREHOUSE [--runs 5] [--only NAME,...] [--markdown FILE] [--against WATERSHED]

Watershed is `watershed serve`, asked through ADBC; DuckDB is in this process and reads, with `read_parquet`, exactly the files that are
live by the Delta log. Both have all cores and the same memory, keep running, and are asked for the whole result as an Arrow table. The first run is the
first time that the running engine sees the query; the machine's page cache is warm for both. Medians are of the later runs.

With --against, another Watershed takes the place of DuckDB: to see what a change has cost.
"""

import argparse
import atexit
import decimal
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import pyarrow
from adbc_driver_flightsql import dbapi
from deltalake import DeltaTable

MEMORY = "4GiB"
HERE = Path(__file__).parent


def queries():
    parts = re.split(r"^-- (\w+): .*\n", (HERE / "queries.sql").read_text(), flags=re.MULTILINE)[1:]
    return {name: sql.strip().rstrip(";") for name, sql in zip(parts[::2], parts[1::2])}


class Watershed:
    """A server and a connection to it."""

    def __init__(self, binary, warehouse):
        self.log = tempfile.TemporaryFile()
        environment = os.environ | {"WATERSHED_QUERY_MEMORY_LIMIT": MEMORY}
        arguments = [binary, "serve", "--flight", "127.0.0.1:0", "--http-address", "127.0.0.1:0", "--warehouse", warehouse]
        self.server = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=self.log, env=environment, text=True)
        atexit.register(self.server.kill)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
        for line in self.server.stdout:
            if found := re.search(r"grpc://\S+", line):
                self.url = found[0]
                self.connection = dbapi.connect(self.url, autocommit=True)
                return
        self.log.seek(0)
        sys.exit(f"the server did not start:\n{self.log.read().decode()}")

    def ask(self, sql):
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetch_arrow_table()

    def cpu_seconds(self):
        # Linux's clock of all threads of another process, as clock_getcpuclockid(3) gives it.
        return time.clock_gettime((~self.server.pid << 3) | 2)

    def peak_mib(self):
        return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.server.pid}/status").read_text())[1]) // 1024

    def close(self):
        self.connection.close()
        self.server.terminate()
        self.server.wait(30)


class DuckDB:
    """The same tables as views over their live files."""

    def __init__(self, warehouse):
        self.connection = duckdb.connect(":memory:", config={"threads": os.cpu_count(), "memory_limit": MEMORY})
        self.connection.execute("SET TimeZone = 'UTC'; SET parquet_metadata_cache = true")
        self.connection.execute("CREATE MACRO date_bin(width, moment) AS time_bucket(width, moment)")
        self.connection.execute("CREATE MACRO to_unixtime(moment) AS epoch_us(moment) // 1000000")
        for log in sorted(Path(warehouse).glob("*/*/_delta_log")):
            table = DeltaTable(log.parent)
            files = [f"'{file.removeprefix('file://')}'" for file in table.file_uris()]
            schema, name = log.parent.parent.name, log.parent.name
            self.connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
            if files:
                # `day` is the only partition column that the queries name.
                days = ", hive_types = {'day': DATE}" if "day" in table.metadata().partition_columns else ""
                reader = f"read_parquet([{', '.join(files)}], hive_partitioning = true{days})"
                self.connection.execute(f'CREATE VIEW "{schema}"."{name}" AS SELECT * FROM {reader}')

    def ask(self, sql):
        return self.connection.execute(sql).to_arrow_table()

    def cpu_seconds(self):
        return time.process_time()

    def close(self):
        self.connection.close()


def plain(value):
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else value.normalize()
    return value


def same(left, right):
    left, right = plain(left), plain(right)
    if isinstance(left, float) or isinstance(right, float):
        # Sums of doubles depend on the order of the rows.
        return left is not None and right is not None and math.isclose(left, right, rel_tol=1e-9)
    return left == right


def check(name, ours, theirs, rival):
    if ours.num_rows == 0:
        sys.exit(f"{name}: no rows, which proves nothing")
    if (ours.column_names, ours.num_rows) != (theirs.column_names, theirs.num_rows):
        sys.exit(f"{name}: {ours.num_rows} rows of {ours.column_names} and {theirs.num_rows} of {theirs.column_names}")
    for column in ours.column_names:
        for row, (left, right) in enumerate(zip(ours[column].to_pylist(), theirs[column].to_pylist())):
            if not same(left, right):
                sys.exit(f"{name}: {column} of row {row} is {left!r} from Watershed and {right!r} from {rival}")


def timed(engine, sql):
    began = time.perf_counter()
    table = engine.ask(sql)
    return time.perf_counter() - began, table


def geometric_mean(values):
    return math.exp(statistics.fmean(map(math.log, values)))


def load():
    return " ".join(Path("/proc/loadavg").read_text().split()[:3])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("watershed")
    parser.add_argument("warehouse")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--markdown")
    parser.add_argument("--against", metavar="WATERSHED")
    arguments = parser.parse_args()
    chosen = {name: sql for name, sql in queries().items() if not arguments.only or name in arguments.only.split(",")}

    rival = "the other" if arguments.against else "DuckDB"
    print(f"load before: {load()}; {os.cpu_count()} cores; DuckDB {duckdb.__version__}, pyarrow {pyarrow.__version__}")
    watershed = Watershed(arguments.watershed, arguments.warehouse)
    other = Watershed(arguments.against, arguments.warehouse) if arguments.against else DuckDB(arguments.warehouse)
    for table in ("bronze.driver_locations", "bronze.clickstream", "bronze.ride_events", "bronze.payments"):
        folder = Path(arguments.warehouse) / table.replace(".", "/")
        files = DeltaTable(folder).file_uris()
        size = sum(Path(file.removeprefix("file://")).stat().st_size for file in files)
        # The page cache is warm for whoever comes first.
        for file in files:
            Path(file.removeprefix("file://")).read_bytes()
        print(f"{table}: {watershed.ask(f'SELECT count(*) AS n FROM {table}')['n'][0].as_py():,} rows, {len(files)} files, {size / 1e6:.0f} MB")

    times = {name: ([], []) for name in chosen}
    cpu = {name: ([], []) for name in chosen}
    for run in range(arguments.runs + 1):
        for name, sql in chosen.items():
            answers = [None, None]
            # Who comes first changes from run to run.
            for which in (0, 1) if run % 2 == 0 else (1, 0):
                clock = (watershed.cpu_seconds, other.cpu_seconds)[which]
                before = clock()
                seconds, answers[which] = timed((watershed, other)[which], sql)
                times[name][which].append(seconds)
                cpu[name][which].append(clock() - before)
            check(name, *answers, rival)
            print(f"run {run}  {name:<17}", *(f"{of[which][-1] * 1000:10.1f}" for of in (times[name], cpu[name]) for which in (0, 1)), flush=True)

    head = ["query", "rows", "first, ms", f"{rival} first", "ms", rival, "ratio", "CPU ms", f"{rival} CPU", "CPU ratio"]
    table, ratios = [], ([], [], [])
    for name in chosen:
        later = [statistics.median(of[name][which][1:]) for of in (times, cpu) for which in (0, 1)]
        first = [of[0] for of in times[name]]
        for at, (ours, theirs) in enumerate((first, later[:2], later[2:])):
            ratios[at].append(theirs / ours)
        numbers = [f"{seconds * 1000:.1f}" for seconds in (*first, *later)]
        table.append([name, str(watershed.ask(chosen[name]).num_rows), *numbers[:4], f"{ratios[1][-1]:.2f}", *numbers[4:], f"{ratios[2][-1]:.2f}"])
    means = [f"{geometric_mean(of):.2f}" for of in ratios]
    table.append(["geometric mean", "", "", f"({means[0]})", "", "", means[1], "", "", means[2]])
    widths = [max(len(row[at]) for row in [head, *table]) for at in range(len(head))]
    for row in [head, *table]:
        print("  ".join(cell.ljust(width) if at == 0 else cell.rjust(width) for at, (cell, width) in enumerate(zip(row, widths))))
    print(f"ratio: {rival}'s time over Watershed's; above 1 Watershed is faster. CPU ms: of the process, all threads together.")
    print(f"all answers equal; medians of {arguments.runs}; the server's peak memory {watershed.peak_mib()} MiB; load after: {load()}")
    if arguments.markdown:
        lines = [head, ["---"] + ["---:"] * (len(head) - 1), *table]
        Path(arguments.markdown).write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))
    watershed.close()
    other.close()


if __name__ == "__main__":
    main()
