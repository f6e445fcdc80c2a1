"""A process that answers one question: JSON on stdin, JSON on stdout. Standard library only, Python 3.9 and up."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def answer_with(answer: Callable[[Any], object]) -> None:
    """Read the question and write what `answer` returns. Whatever else is printed goes to stderr."""
    stdout = os.dup(1)
    os.dup2(2, 1)
    text = json.dumps(answer(json.load(sys.stdin)))
    with os.fdopen(stdout, "w", encoding="utf-8") as file:
        file.write(text)
