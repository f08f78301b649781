"""What other people do to Delta tables, with deltalake.

    delta.py create FOLDER      makes a table (number, text) with three rows
    delta.py widen FOLDER       adds a column
    delta.py history FOLDER     prints versions and timestamps of the history, oldest first, one a line
"""

import sys

import pyarrow
from deltalake import DeltaTable, Field, write_deltalake
from deltalake.schema import PrimitiveType

action, folder = sys.argv[1:]
if action == "create":
    write_deltalake(folder, pyarrow.table({"number": [1, 2, 3], "text": ["a", "b", "c"]}))
elif action == "widen":
    DeltaTable(folder).alter.add_columns([Field("remark", PrimitiveType("string"))])
elif action == "history":
    for commit in reversed(DeltaTable(folder).history()):
        print(commit["version"], commit["timestamp"])
else:
    sys.exit(f"there is no action {action}")
