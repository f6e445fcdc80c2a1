"""Leaves a process behind, in a session of its own and with no variables."""

import subprocess
import sys

from answering import answer, requests

child = subprocess.Popen(
    [sys.executable, "-c", "import time\nwhile True: time.sleep(60)"],
    env={},
    stdin=subprocess.DEVNULL,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    start_new_session=True,
)
sys.stderr.write(f"left {child.pid}\n")
sys.stderr.flush()
for request in requests():
    answer(request)
