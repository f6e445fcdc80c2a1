"""Names the worker's process as its own: the parent of what forked its supervisor."""

import os
from pathlib import Path

from answering import answer, requests


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


worker = parent_of(parent_of(os.getppid()))
for request in requests():
    answer(request, **({"pid": worker} if request["method"] == "ready" else {}))
