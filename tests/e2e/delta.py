"""What other people do to Delta tables, with deltalake.

    delta.py create FOLDER      makes a table (number, text) with three rows
    delta.py widen FOLDER       adds a column
    delta.py int96 FOLDER       makes a table (number, at) of three files, whose times are INT96 as Spark writes them by default
    delta.py history FOLDER     prints versions and timestamps of the history, oldest first, one a line
"""

import datetime
import json
import os
import sys

import pyarrow
import pyarrow.parquet
from deltalake import DeltaTable, Field, write_deltalake
from deltalake.schema import PrimitiveType

action, folder = sys.argv[1:]
if action == "create":
    write_deltalake(folder, pyarrow.table({"number": [1, 2, 3], "text": ["a", "b", "c"]}))
elif action == "widen":
    DeltaTable(folder).alter.add_columns([Field("remark", PrimitiveType("string"))])
elif action == "int96":
    os.makedirs(f"{folder}/_delta_log")
    fields = [{"name": name, "type": kind, "nullable": True, "metadata": {}} for name, kind in [("number", "long"), ("at", "timestamp")]]
    schema = json.dumps({"type": "struct", "fields": fields})
    log = [
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {"metaData": {"id": "int96", "format": {"provider": "parquet", "options": {}}, "schemaString": schema, "partitionColumns": [], "configuration": {}}},
    ]
    # Nanoseconds of 64 bits, as which some read them, end in 1677 and 2262.
    years = [[1600, 1900], [1970, 2024], [2300, 9999]]
    for part, (first, second) in enumerate(years):
        times = [datetime.datetime(year, 7, 1, 12, 30, 15, 250001, datetime.timezone.utc) for year in (first, second)]
        columns = {"number": pyarrow.array([2 * part, 2 * part + 1]), "at": pyarrow.array(times, pyarrow.timestamp("us", "UTC"))}
        path = f"{folder}/part-{part}.parquet"
        pyarrow.parquet.write_table(pyarrow.table(columns), path, use_deprecated_int96_timestamps=True)
        size = os.path.getsize(path)
        log.append({"add": {"path": f"part-{part}.parquet", "partitionValues": {}, "size": size, "modificationTime": 1, "dataChange": True}})
    with open(f"{folder}/_delta_log/{0:020}.json", "w") as version:
        version.writelines(json.dumps(action) + "\n" for action in log)
elif action == "history":
    for commit in reversed(DeltaTable(folder).history()):
        print(commit["version"], commit["timestamp"])
else:
    sys.exit(f"there is no action {action}")
