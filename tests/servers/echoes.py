"""Sends back what it is sent, as `cat` does."""

from __future__ import annotations

import os
import sys

while data := os.read(0, 65536):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
