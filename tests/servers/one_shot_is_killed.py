"""One-shot: is killed by SIGKILL before it answers."""

import os

from answering import one_shot

one_shot()
os.kill(os.getpid(), 9)
