"""Names the process of its supervisor's parent, which is the worker, as its own."""

import os
from pathlib import Path

from answering import answer, requests

worker = int(Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1])
for request in requests():
    answer(request, **({"pid": worker} if request["method"] == "ready" else {}))
