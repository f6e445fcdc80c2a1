"""Calls functions as Dask sends them, each in a process of its own, and says which break and how.

Run as `python -m modelops_remote.worker.trial` with the workers' Python. Stdin is a JSON object: by name, a call in
base64 (see `client/tasks.py`). Stdout is one: by the name of each call that broke, how. Python 3.9 and up.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import signal
import sys
from typing import Any

SECONDS = 5
"""How long each may take."""


def try_call(call: bytes, expected: Any) -> str:
    """Call a function in a child; return how it broke, or nothing."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        signal.alarm(SECONDS)
        os.write(writing, _outcome(call, expected).encode(errors="replace")[:1000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode(errors="replace")
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"takes over {SECONDS} s" if number == signal.SIGALRM else f"dies of {signal.Signals(number).name}"
    return text if os.WEXITSTATUS(status) == 0 else f"exits with code {os.WEXITSTATUS(status)}"


def _outcome(call: bytes, expected: Any) -> str:
    try:
        function, arguments = pickle.loads(call)  # noqa: S301 - from the cell's own client
        value = function(*arguments)
    except BaseException as error:  # noqa: BLE001 - it is the answer
        text = str(error)
        return f"raises {type(error).__name__}" + (f": {text}" if text else "")
    return "" if value == expected else f"returns {value!r}, not {expected!r}"


def main() -> None:
    """Answer the one question on stdin."""
    question = json.load(sys.stdin)
    calls, expected = question["calls"], question["expected"]
    outcomes = {name: try_call(base64.b64decode(call), expected) for name, call in calls.items()}
    json.dump({name: outcome for name, outcome in outcomes.items() if outcome}, sys.stdout)


if __name__ == "__main__":
    main()
