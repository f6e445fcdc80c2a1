"""A bundle's runner as its worker sees it: started under a supervisor, asked over JSON-RPC, ended and proven gone.

stderr goes to a file and stdout to another, byte for byte, besides being taken apart into frames. Every answer, and
every way in which there is none, is plain data (`Outcome`), because it travels to pytest. Python 3.9 and up.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..shared import causes, frames
from ..shared.supervised import CouldNot, Supervised, SupervisorGone

Outcome = dict[str, Any]
"""What came of a request: exactly one of

- `result`: the answer;
- `error`: `{"code", "message", "data"}`, the answer of a runner that failed to do it;
- `exited`: how the process ended before it answered, in words;
- `garbled`: what it sent as a frame that is no JSON object, as text;
- `silent`: seconds that it was given; `stacks` says where it stood;
- `unstarted`: why it could not be started.

With each of the last four: `cause` (first cause in its stderr, or `None`) and `last` (last lines of its stderr), and
`strange`, if it sent one, an answer to nothing that was asked, as text. In any case `outside`: what it wrote to stdout
outside frames since the last request, as text, empty if nothing.
"""

READ = 1 << 16
_STACKS_SECONDS = 0.5
"""How long a runner gets to write its stacks; it needs milliseconds."""
_EXIT_SECONDS = 0.5
"""How long a runner that closed its stdout, or was reported to go, gets until it has ended."""
_SHOWN = 400


class Runner:
    """One runner process.

    Args:
        directory: for its logs (`stderr`, `stdout`), which stay.
        cwd: its working directory, the bundle.
    """

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, directory: str) -> None:
        os.makedirs(directory, exist_ok=True)
        self.stderr = os.path.join(directory, "stderr")
        self.stdout = os.path.join(directory, "stdout")
        self.lock = threading.Lock()
        """Held by whoever asks it something: one request at a time."""
        self._began = os.path.getsize(self.stderr) if os.path.exists(self.stderr) else 0
        self._splitter = frames.Splitter()
        self._reported = 0  # bytes outside frames that an outcome has reported of
        self._changed = threading.Condition()
        self._asked: dict[int, str] = {}  # the methods of what is not answered yet
        self._answers: dict[int, dict[str, Any]] = {}
        self._strange = ""
        self._ids = itertools.count(1)
        self._ended = False
        self._kept = Supervised(log=os.path.join(directory, "supervisor.log"))
        try:
            self.pid, self._stdin, stdout = self._kept.start_attached(
                argv, env={**env, "PYTHONFAULTHANDLER": "1"}, cwd=cwd, log=self.stderr
            )
        except (CouldNot, SupervisorGone):
            self._kept.close()
            raise
        self._reader = threading.Thread(target=self._read, args=(stdout,), name="runner", daemon=True)
        self._reader.start()

    def _read(self, stdout: Any) -> None:
        with stdout, open(self.stdout, "ab", buffering=0) as raw:
            while True:
                data = os.read(stdout.fileno(), READ)
                raw.write(data)
                with self._changed:
                    if data:
                        for message in self._splitter.feed(data):
                            self._take(message)
                    else:
                        self._splitter.finish()
                        self._ended = True
                    self._changed.notify_all()
                if not data:
                    return

    def _take(self, message: dict[str, Any]) -> None:
        """Keep an answer to what was asked. Notifications, and requests of the runner's own, are none."""
        number: Any = message.get("id")
        asked = self._asked.get(number) if type(number) is int else None  # all of ours are
        if asked is not None and message.get("method", asked) == asked and number not in self._answers:
            self._answers[number] = message
        elif "method" not in message:
            self._strange = self._strange or json.dumps(message)[:_SHOWN]

    def call(self, method: str, params: Mapping[str, Any], seconds: float) -> Outcome:
        """Ask it something and wait, at most so many seconds. A runner that does not answer is ended here."""
        number = next(self._ids)
        body = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()
        with self._changed:
            before = self._splitter.broken
            self._asked[number], self._strange = method, ""
        # In a thread, since a runner that reads nothing lets us write 64 KiB and no more.
        threading.Thread(target=self._send, args=(body,), daemon=True).start()
        with self._changed:
            self._changed.wait_for(
                lambda: number in self._answers or self._ended or self._splitter.broken > before, max(0.0, seconds)
            )
            del self._asked[number]
            answer = self._answers.pop(number, None)
        if answer is not None:
            # Some send an error of null besides a result.
            kind = "error" if answer.get("error") is not None else "result"
            return {kind: answer.get(kind), "outside": self.outside()}
        if self._ended:
            ending = self._kept.wait(self.pid, _EXIT_SECONDS)
            return self._without_answer({"exited": ending or "closed its stdout and still runs"})
        if self._splitter.broken > before:
            outside = self.outside()
            return {**self._without_answer({"garbled": outside}), "outside": outside}
        return self._without_answer({"silent": seconds, "stacks": stacks_of(self._kept, self.pid, self.stderr)})

    def _send(self, body: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # it is gone: its end tells more
            self._stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
            self._stdin.flush()

    def _without_answer(self, outcome: Outcome) -> Outcome:
        strange = {"strange": self._strange} if self._strange else {}
        return {**outcome, **words_of(self.stderr, self._began), **strange, "outside": self.outside()}

    def outside(self) -> str:
        """What has come outside frames since this was asked last, as text."""
        with self._changed:
            new = self._splitter.outside_bytes - self._reported
            if not new:
                return ""
            kept = bytes(self._splitter.outside)[self._reported :]
            self._reported = self._splitter.outside_bytes
        text = kept[:_SHOWN].decode(errors="backslashreplace")
        return text if new <= _SHOWN else f"{text}… ({new} bytes)"

    def close(self, *, seconds: float) -> dict[str, Any]:
        """End it and all that it has started, and prove it.

        Args:
            seconds: how long it has to end by itself when it is reported to; 0 is for one that is not worth asking.

        Returns:
            `outside`: as in an outcome; `ended`: how it ended by itself, in words; `unwilling`: so many seconds it was
            reported to end and did not, `stacks` says where it stood; `survived`: what it had started that was
            still there
            when it had ended by itself; `left`: what could not be ended.
        """
        survived: list[str] = []
        ending: str | None = None
        outside, unwilling = "", {}
        if seconds > 0:
            end = time.monotonic() + seconds
            outcome = self.call("shutdown", {}, seconds)
            outside = outcome["outside"]
            ending = self._kept.wait(self.pid, max(0.0, end - time.monotonic()))
            if "silent" in outcome:
                ending, unwilling = None, {"unwilling": seconds, "stacks": outcome["stacks"]}
            elif ending is None:
                stacks = stacks_of(self._kept, self.pid, self.stderr)
                unwilling = {"unwilling": seconds, "stacks": stacks}
            else:
                survived = survivors(self._kept)
        left = self._kept.close()
        self._reader.join(_EXIT_SECONDS)
        with contextlib.suppress(OSError, ValueError):
            self._stdin.close()
        if left is None:
            left = ["its supervisor was killed, so nothing is proven"]
        reply = {"outside": outside + self.outside(), "ended": ending, "survived": survived, "left": left}
        return {**reply, **unwilling}


def words_of(stderr: str, began: int) -> dict[str, Any]:
    """First cause and last lines of a runner's stderr from some byte on, all of which is searched."""
    with open(stderr, "rb") as file:
        file.seek(began)
        text = file.read().decode(errors="replace")
    text = text.partition("Fatal Python error: Aborted")[0]  # the stacks that we asked for
    return {"cause": causes.first_cause(text), "last": causes.last_lines(text)}


def stacks_of(kept: Supervised, pid: int, stderr: str) -> str:
    """Where a runner stands, by faulthandler. It ends of that."""
    size = os.path.getsize(stderr)
    if not kept.signal(pid, signal.SIGABRT):
        return ""
    kept.wait(pid, _STACKS_SECONDS)
    with open(stderr, "rb") as file:
        file.seek(size)
        return file.read().decode(errors="replace")


def survivors(kept: Supervised) -> list[str]:
    """What is still there of all that a runner started, once it has ended: by then that is the supervisor's."""
    end = time.monotonic() + _EXIT_SECONDS
    while True:  # what it started may be about to end as well
        try:
            found = kept.left()
        except SupervisorGone:
            return []
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.02)
