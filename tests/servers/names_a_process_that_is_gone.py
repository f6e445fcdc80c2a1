"""Answers `ready` with the pid of a process that has ended, as who keeps that answer does."""

import subprocess
import sys

from answering import answer, requests

process = subprocess.Popen([sys.executable, "-c", ""])
process.wait()
for request in requests():
    answer(request, **({"pid": process.pid} if request["method"] == "ready" else {}))
