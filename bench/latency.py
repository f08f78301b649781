"""How long rows of a Delta table waited: from Kafka's timestamp of each (column kafka_time) until the commit that shows it was written.

    python bench/latency.py TABLE_FOLDER

The time of a commit is that of its file in _delta_log. The first ten seconds are left out: the pipeline was starting.
"""

import json
import pathlib
import sys

import numpy
import pyarrow.parquet

table = pathlib.Path(sys.argv[1])
waits = []
for log in sorted((table / "_delta_log").glob("*.json")):
    committed_ms = log.stat().st_mtime_ns / 1e6
    for line in log.read_text().splitlines():
        add = json.loads(line).get("add")
        if add:
            column = pyarrow.parquet.read_table(table / add["path"], columns=["kafka_time"])["kafka_time"]
            times_ms = column.cast("int64").to_numpy() / 1000
            waits.append((committed_ms, committed_ms - times_ms))
begin = waits[0][0] + 10_000
waited = numpy.concatenate([wait for committed_ms, wait in waits if committed_ms >= begin])
p50, p99 = numpy.percentile(waited, [50, 99])
print(f"append to commit: p50 {p50:.0f} ms, p99 {p99:.0f} ms, max {waited.max():.0f} ms over {len(waited)} rows, commit interval 1000 ms")
