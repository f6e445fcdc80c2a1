"""Ends with code 3 and a traceback, before it answers."""

from __future__ import annotations

import sys
import traceback

try:
    __import__("scipy_that_is_not")
except ImportError:
    traceback.print_exc()
    sys.stderr.write("and so it cannot start\n")
    sys.exit(3)
