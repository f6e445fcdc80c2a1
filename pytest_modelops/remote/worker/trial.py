"""Calls functions as Dask sends them, each in a process of its own, and says which break and how.

Run as `python -m modelops_remote.worker.trial` with the workers' Python. Stdin is a `TrialQuestion` in JSON; stdout is
how each call broke that did, by its name. Python 3.9 and up.
"""

from __future__ import annotations

import base64
import os
import pickle
import signal
from typing import TYPE_CHECKING, Any

from ..shared.answering import answer_with

if TYPE_CHECKING:
    from ..shared.facts import TrialQuestion

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


def try_all(question: TrialQuestion) -> dict[str, str]:
    """Return how each call broke that did, by its name."""
    outcomes = {
        name: try_call(base64.b64decode(call), question["expected"]) for name, call in question["calls"].items()
    }
    return {name: outcome for name, outcome in outcomes.items() if outcome}


if __name__ == "__main__":
    answer_with(try_all)
