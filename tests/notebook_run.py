"""Execute a notebook in a Jupyter kernel of this Python, as Kaggle does: a program for a Python with Kaggle's packages.

    python notebook_run.py NOTEBOOK ROOT EXECUTED [CELL ...]

ROOT has what /kaggle has: input/ and working/, which is the current folder. With ids of cells, only those are executed,
as after a restart. The executed notebook, outputs and all, is written to EXECUTED, also where a cell fails. Messages go
through sockets in the file system, so that there need be no network at all.
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

notebook, root, executed, *cells = sys.argv[1:]
os.environ["DIGITS_KAGGLE"] = str(Path(root).resolve())
read = nbformat.read(notebook, as_version=4)
nbformat.validate(read)
if cells:
    read.cells = [next(cell for cell in read.cells if cell.id == name) for name in cells]
with tempfile.TemporaryDirectory() as sockets:
    client = NotebookClient(
        read,
        resources={"metadata": {"path": str(Path(root) / "working")}},
        km=AsyncKernelManager(kernel_name="python3", transport="ipc", ip=str(Path(sockets) / "ipc")),
    )
    try:
        client.execute()
    finally:
        nbformat.write(read, executed)
