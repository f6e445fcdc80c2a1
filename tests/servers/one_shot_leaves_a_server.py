"""One-shot: starts a server that outlives it, and holds its stdout open."""

import subprocess
import sys

from answering import one_shot

print(one_shot(), flush=True)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
