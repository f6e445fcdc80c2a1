"""Never answers, ignores SIGTERM, and leaves an orphan in a session of its own with no variables."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
# Its parent ends at once, so that it is nobody's child any more.
start = """
import subprocess, sys
nothing = subprocess.DEVNULL
child = subprocess.Popen(
    [sys.executable, "-c", "import time\\nwhile True: time.sleep(60)"],
    stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
)
print(child.pid)
"""
reported = subprocess.run([sys.executable, "-c", start], env={}, stdout=subprocess.PIPE, text=True, check=True)
sys.stderr.write(f"left {reported.stdout}")
sys.stderr.flush()
while True:
    time.sleep(60)
