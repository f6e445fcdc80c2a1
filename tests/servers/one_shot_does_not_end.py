"""One-shot: prints its document and goes on, as one with a thread that never ends."""

import time

from answering import one_shot

print(one_shot(), flush=True)
time.sleep(600)
