"""Reads nothing and answers nothing."""

from __future__ import annotations

import time

while True:
    time.sleep(60)
