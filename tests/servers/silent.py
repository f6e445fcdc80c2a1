"""Reads requests and never answers."""

from __future__ import annotations

import sys

while sys.stdin.buffer.read(1):
    pass
