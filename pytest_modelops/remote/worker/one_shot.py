"""A one-shot runner: each request starts a process, which answers and ends. Python 3.9 and up.

The request is one JSON document on stdin, `{"method": …, "params": {…}}`, followed by the end of stdin. The answer is
one JSON document on stdout, `{"result": …}` or `{"error": {"code", "message", "data"}}`, and exit code 0. `OneShot` has
the interface of `runner_process.Runner`. Each process has its own supervisor, which sees and ends what it leaves.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

from ..shared.bundle_messages import Outcome, RunnerEnd
from ..shared.frames import Message
from ..shared.supervised import CouldNot, Supervised, SupervisorGone
from . import processes, runner_process
from .runner_process import SHOWN

_EXIT_SECONDS = 0.5
"""For the rest of an ended process's output; a child that holds its stdout open would keep it from ending."""
_TRIES = 64
_MAY_BEGIN = re.compile(r'\{\s*"(?:result|error)"|^\{', re.MULTILINE)


class OneShot:
    """A runner that is started for each request.

    Args:
        directory: for its logs (`stderr`, `stdout`), to which each process appends.
        cwd: its working directory, the bundle.

    Attributes:
        lock: to be held during a request: a runner is asked one thing at a time.
        pid: of its latest process.
    """

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, directory: str) -> None:
        os.makedirs(directory, exist_ok=True)
        self.stderr = os.path.join(directory, "stderr")
        self.stdout = os.path.join(directory, "stdout")
        for path in (self.stderr, self.stdout):
            open(path, "ab").close()
        self.lock = threading.Lock()
        self.pid: int | None = None
        self._argv, self._cwd, self._directory = argv, cwd, directory
        self._env = {**env, "PYTHONFAULTHANDLER": "1"}
        self._survived: list[str] = []
        self._left: list[str] = []

    def call(self, method: str, params: Mapping[str, object], seconds: float) -> Outcome:
        """Start a process for a request, wait at most this many seconds until it ends, and then end it."""
        end = time.monotonic() + seconds
        began = os.path.getsize(self.stderr)
        try:
            supervised = Supervised(log=os.path.join(self._directory, "supervisor.log"))
        except OSError as error:
            return _unstarted(error)
        try:
            self.pid, stdin, stdout = supervised.start_attached(
                self._argv, env=self._env, cwd=self._cwd, log=self.stderr
            )
        except (CouldNot, SupervisorGone) as error:
            supervised.close()
            return _unstarted(error)
        written = bytearray()
        reader = threading.Thread(target=self._read, args=(stdout, written), daemon=True)
        reader.start()
        document = json.dumps({"method": method, "params": params}).encode()
        with processes.Watch(supervised.pid) as watch:  # which sees it before it can answer and end
            # In a thread, because a pipe to a runner that reads nothing takes 64 KiB and then blocks.
            threading.Thread(target=_send, args=(stdin, document), daemon=True).start()
            ending = supervised.wait(self.pid, max(0.0, end - time.monotonic()))
        stacks = "" if ending else runner_process.stacks_of(supervised, self.pid, self.stderr)
        if ending:
            reader.join(_EXIT_SECONDS)
            self._survived += runner_process.survivors(supervised)
        left = supervised.close()
        reader.join(_EXIT_SECONDS)  # every process that may write is gone
        self._left += [runner_process.UNPROVEN] if left is None else left
        outcome = _outcome(bytes(written), ending)
        if "silent" in outcome:
            outcome["silent"], outcome["stacks"] = seconds, stacks
        if method == "ready" and "result" in outcome:
            outcome["process"] = runner_process.named_process(outcome, watch, self.pid)
        if "result" not in outcome and "error" not in outcome:
            runner_process.add_stderr(outcome, self.stderr, began)
        return outcome

    def _read(self, stdout: IO[bytes], written: bytearray) -> None:
        with stdout, open(self.stdout, "ab", buffering=0) as raw:
            while data := os.read(stdout.fileno(), runner_process.READ):
                raw.write(data)
                written += data

    def close(self, *, seconds: float) -> RunnerEnd:  # noqa: ARG002 - as a runner's
        """Report, as `Runner.close` does, what the processes since the last call had left behind."""
        survived, self._survived = self._survived, []
        left, self._left = self._left, []
        return {"outside": "", "ended": None, "survived": survived, "left": left}


def _unstarted(error: Exception) -> Outcome:
    return {"unstarted": str(error), "cause": None, "last": [], "outside": "", "printed": "", "protocol": "one-shot"}


def _send(stdin: IO[bytes], document: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):  # the process is gone; how it ended is reported
        stdin.write(document)
        stdin.flush()
    with contextlib.suppress(OSError, ValueError):
        stdin.close()


def _outcome(written: bytes, ending: str | None) -> Outcome:
    text = written.decode(errors="backslashreplace")
    outcome: Outcome = {"outside": "", "protocol": "one-shot"}
    if ending is None:
        outcome["silent"], outcome["printed"] = 0.0, _shown(text)
    elif ending != "exited with code 0" or not text.strip():
        outcome["exited"], outcome["printed"] = ending, _shown(text.strip())
    elif isinstance(found := find_answer(text), str):
        outcome["garbled"] = outcome["printed"] = _shown(text)
        outcome["why"] = found
    else:
        answer, before, after = found
        outcome["outside"] = _shown("".join(part for part in (before, after) if part.strip()))
        if answer.get("error") is not None:  # some send an error of null besides a result
            outcome["error"] = answer["error"]
        else:
            outcome["result"] = answer["result"]
    return outcome


def find_answer(text: str) -> tuple[Message, str, str] | str:
    """Return the answer in a runner's output, and what is before and after it; or why there is no answer."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = f"not a JSON document: {error}"
    else:
        if _is_answer(whole):
            return whole, "", ""
        return 'a document with neither a "result" nor an "error", or with both'
    decoder = json.JSONDecoder()
    for match in itertools.islice(_MAY_BEGIN.finditer(text), _TRIES):
        try:
            document, stop = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        if _is_answer(document):
            return document, text[: match.start()], text[stop:]
    return why


def _is_answer(document: object) -> bool:
    if not isinstance(document, dict):
        return False
    error, result = document.get("error"), document.get("result")
    return "result" in document if error is None else result is None


def _shown(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"
