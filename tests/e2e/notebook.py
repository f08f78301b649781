"""Runs a notebook as a person would, and checks that it shows something: frames with rows, plots with data.

    notebook.py NOTEBOOK URL
"""

import os
import re
import sys

import nbformat
from nbclient import NotebookClient

path, url = sys.argv[1:]
notebook = nbformat.read(path, as_version=4)
nbformat.validate(notebook)
for cell in notebook.cells:
    if cell.cell_type == "code":
        assert not cell.outputs and cell.execution_count is None, f"outputs are stored in the notebook: {cell.source[:60]}"

os.environ["WATERSHED_URL"] = url
NotebookClient(notebook, timeout=60, kernel_name="python3").execute()

plots, frames = 0, 0
for cell in notebook.cells:
    for output in cell.get("outputs", []):
        assert output.output_type != "stream" or output.name != "stderr", f"{cell.source[:60]} warns: {output.text}"
        html = output.get("data", {}).get("text/html", "")
        if "vegaEmbed" in html:
            plots += 1
            rows = re.search(r'"datasets": \{"[^"]+": \[\{', html)
            assert rows, f"a plot of nothing: {cell.source[:60]}"
        elif html:
            frames += 1
            assert "shape: (0," not in html, f"a frame without rows: {cell.source[:60]}"
assert plots >= 2 and frames >= 4, (plots, frames)
print(f"{plots} plots, {frames} frames")
