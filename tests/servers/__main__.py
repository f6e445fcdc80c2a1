"""The peer whose file the bundle names in its `peer.txt`, so that one cell can have them all."""

import os
import sys

with open(os.path.join(sys.argv[sys.argv.index("--bundle-path") + 1], "peer.txt"), encoding="utf-8") as file:
    peer = file.read().strip()
os.execv(sys.executable, [sys.executable, os.path.join(os.path.dirname(__file__), peer), *sys.argv[1:]])
