"""A one-shot runner as its worker sees it: a process of its own for every request, which answers and ends.

The request is one JSON document on stdin, `{"method": …, "params": {…}}`, and then stdin ends. The answer is one JSON
document on stdout, `{"result": …}` or `{"error": {"code", "message", "data"}}`, and exit code 0. `OneShot` has the
interface of `running.Runner`. Each process has a supervisor of its own, so that what a request leaves behind
is seen, and
ended with it. Python 3.9 and up.
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
from typing import Any

from ..shared.supervised import CouldNot, Supervised, SupervisorGone
from . import runner_process
from .runner_process import Outcome

_EXIT_SECONDS = 0.5
"""How long what it wrote may take to arrive when it has ended; longer if a child holds its stdout open."""
_SHOWN = 400
_TRIES = 64
_MAY_BEGIN = re.compile(r'\{\s*"(?:result|error)"|^\{', re.MULTILINE)


class OneShot:
    """A runner that is restarted for every request.

    Its outcomes are those of `running.Outcome`, with `protocol`, and where there is no answer with `printed`: what was
    on stdout, as text. `garbled` has `why`. What it started and left behind is reported by `close`.

    Args:
        directory: for its logs (`stderr`, `stdout`), to which each process adds.
        cwd: its working directory, the bundle.
    """

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, directory: str) -> None:
        os.makedirs(directory, exist_ok=True)
        self.stderr = os.path.join(directory, "stderr")
        self.stdout = os.path.join(directory, "stdout")
        for path in (self.stderr, self.stdout):
            open(path, "ab").close()
        self.lock = threading.Lock()
        """Held by whoever asks it something: one request at a time."""
        self.pid: int | None = None
        """Of its latest process."""
        self._argv, self._cwd, self._directory = argv, cwd, directory
        self._env = {**env, "PYTHONFAULTHANDLER": "1"}
        self._survived: list[str] = []
        self._left: list[str] = []

    def call(self, method: str, params: Mapping[str, Any], seconds: float) -> Outcome:
        """Start it for a request and wait until it has ended, at most so many seconds; then it is ended."""
        end = time.monotonic() + seconds
        began = os.path.getsize(self.stderr)
        try:
            kept = Supervised(log=os.path.join(self._directory, "supervisor.log"))
        except OSError as error:
            return _unstarted(error)
        try:
            self.pid, stdin, stdout = kept.start_attached(self._argv, env=self._env, cwd=self._cwd, log=self.stderr)
        except (CouldNot, SupervisorGone) as error:
            kept.close()
            return _unstarted(error)
        written = bytearray()
        reader = threading.Thread(target=self._read, args=(stdout, written), daemon=True)
        reader.start()
        document = json.dumps({"method": method, "params": params}).encode()
        # In a thread, since a runner that reads nothing lets us write 64 KiB and no more.
        threading.Thread(target=_send, args=(stdin, document), daemon=True).start()
        ending = kept.wait(self.pid, max(0.0, end - time.monotonic()))
        stacks = "" if ending else runner_process.stacks_of(kept, self.pid, self.stderr)
        if ending:
            reader.join(_EXIT_SECONDS)
            self._survived += runner_process.survivors(kept)
        left = kept.close()
        reader.join(_EXIT_SECONDS)  # now that nobody is left who may write
        self._left += ["its supervisor was killed, so nothing is proven"] if left is None else left
        outcome = _outcome(bytes(written), ending)
        if "silent" in outcome:
            outcome.update(silent=seconds, stacks=stacks)
        if "result" not in outcome and "error" not in outcome:
            outcome.update(runner_process.words_of(self.stderr, began))
        return {"outside": "", **outcome, "protocol": "one-shot"}

    def _read(self, stdout: Any, written: bytearray) -> None:
        with stdout, open(self.stdout, "ab", buffering=0) as raw:
            while data := os.read(stdout.fileno(), runner_process.READ):
                raw.write(data)
                written += data

    def close(self, *, seconds: float) -> dict[str, Any]:  # noqa: ARG002 - as a runner's
        """As `running.Runner.close`; between requests there is nothing to end. Tells of all requests until now."""
        survived, self._survived = self._survived, []
        left, self._left = self._left, []
        return {"outside": "", "ended": None, "survived": survived, "left": left}


def _unstarted(error: Exception) -> Outcome:
    outcome: Outcome = {"unstarted": str(error), "cause": None, "last": []}
    return {**outcome, "outside": "", "printed": "", "protocol": "one-shot"}


def _send(stdin: Any, document: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):  # it is gone: its end tells more
        stdin.write(document)
        stdin.flush()
    with contextlib.suppress(OSError, ValueError):
        stdin.close()


def _outcome(written: bytes, ending: str | None) -> Outcome:
    text = written.decode(errors="backslashreplace")
    if ending is None:
        return {"silent": 0.0, "printed": _shown(text)}
    if ending != "exited with code 0" or not text.strip():
        return {"exited": ending, "printed": _shown(text.strip())}
    found = find_answer(text)
    if isinstance(found, str):
        return {"garbled": _shown(text), "why": found, "printed": _shown(text)}
    answer, before, after = found
    # Some send an error of null besides a result.
    kind = "error" if answer.get("error") is not None else "result"
    return {kind: answer[kind], "outside": _shown("".join(part for part in (before, after) if part.strip()))}


def find_answer(text: str) -> tuple[dict[str, Any], str, str] | str:
    """The answer in what a runner printed, with what is before and after it; or why there is none."""
    why = "that is no JSON document"
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = f"{why}: {error}"
    else:
        if _is_answer(whole):
            return whole, "", ""
        return 'that is no document with either a "result" or an "error"'
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
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"
