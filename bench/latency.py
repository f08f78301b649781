"""How long rows of a Delta table waited: from Kafka's timestamp of each (column kafka_time) until the commit that shows it was written.

    python bench/latency.py TABLE_FOLDER

The time of a commit is that of its file in _delta_log. The first ten seconds are left out: the pipeline was starting.
"""

import json
import pathlib
import sys

import pyarrow
import pyarrow.compute as compute
import pyarrow.parquet

table = pathlib.Path(sys.argv[1])
commits = []
for log in sorted((table / "_delta_log").glob("*.json")):
    committed_us = log.stat().st_mtime_ns // 1000
    for line in log.read_text().splitlines():
        add = json.loads(line).get("add")
        if add:
            times = pyarrow.parquet.read_table(table / add["path"], columns=["kafka_time"])["kafka_time"].cast("int64")
            commits.append((committed_us, compute.divide(compute.subtract(committed_us, times), 1000.0)))
begin = commits[0][0] + 10_000_000
waited_ms = pyarrow.chunked_array([chunk for at, waits in commits if at >= begin for chunk in waits.chunks])
p50, p99 = compute.quantile(waited_ms, q=[0.5, 0.99]).to_pylist()
most = compute.max(waited_ms).as_py()
print(f"append to commit: p50 {p50:.0f} ms, p99 {p99:.0f} ms, max {most:.0f} ms over {len(waited_ms)} rows, commit interval 1000 ms")
