"""Never answers, ignores SIGTERM, and has a child in a session of its own with no variables."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
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

while True:
    time.sleep(60)
