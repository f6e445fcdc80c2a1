"""One-shot: prints its document and then fails."""

import sys

from answering import one_shot

print(one_shot(), flush=True)
sys.stderr.write("Traceback (most recent call last):\nOSError: no space left\n")
sys.exit(3)
