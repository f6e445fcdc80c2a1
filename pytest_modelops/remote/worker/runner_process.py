"""A bundle's runner: started under a supervisor, asked over JSON-RPC, ended, and proven gone. Python 3.9 and up.

stderr goes to one file and stdout to another, byte for byte; stdout is split into frames besides. Every answer, and
every way not to answer, is plain data (`Outcome`), because it travels to pytest.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import operator
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

from ..shared import causes, frames
from ..shared.bundle_messages import Outcome, RunnerEnd
from ..shared.facts import NamedProcess
from ..shared.process_messages import STOPPED
from ..shared.supervised import CouldNot, Supervised, SupervisorGone
from ..shared.waiting import poll
from . import processes

READ = 1 << 16
UNPROVEN = "its supervisor was killed, so nothing is proven"
SHOWN = 400
"""This much of what a runner sent travels to pytest."""
_STACKS_SECONDS = 0.5
"""For a runner to write its stacks; it needs milliseconds."""
_EXIT_SECONDS = 0.5
"""For a runner to end once it has closed its stdout."""


_FRAME_SECONDS = 0.3
"""For an answer in a frame to follow a message that had none."""
_UNFRAMED = (
    "JSON without a frame, as newline-delimited JSON-RPC writes it; it was asked in frames and has to answer in them: "
    "`Content-Length: N`, an empty line, and N bytes of JSON. It sent"
)


class Runner:
    """One runner process.

    Args:
        directory: for its logs (`stderr`, `stdout`), which stay.
        cwd: its working directory, the bundle.

    Attributes:
        lock: to be held during a request: a runner is asked one thing at a time.
    """

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, directory: str) -> None:
        os.makedirs(directory, exist_ok=True)
        self.stderr = os.path.join(directory, "stderr")
        self.stdout = os.path.join(directory, "stdout")
        self.lock = threading.Lock()
        self._began = os.path.getsize(self.stderr) if os.path.exists(self.stderr) else 0
        self._splitter = frames.Splitter()
        self._reported = 0  # bytes outside of frames that outcomes have reported
        self._changed = threading.Condition()
        self._asked: dict[int, str] = {}  # methods of the unanswered requests
        self._answers: dict[int, frames.Message] = {}
        self._strange = ""
        self._ids = itertools.count(1)
        self._ended = False
        self._supervised = Supervised(log=os.path.join(directory, "supervisor.log"))
        try:
            self.pid, self._stdin, stdout = self._supervised.start_attached(
                argv, env={**env, "PYTHONFAULTHANDLER": "1"}, cwd=cwd, log=self.stderr
            )
        except (CouldNot, SupervisorGone):
            self._supervised.close()
            raise
        self._reader = threading.Thread(target=self._read, args=(stdout,), name="runner", daemon=True)
        self._reader.start()

    def _read(self, stdout: IO[bytes]) -> None:
        with stdout, open(self.stdout, "ab", buffering=0) as raw:
            while not self._ended:
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

    def _take(self, message: frames.Message) -> None:
        """Store an answer to an open request; ignore notifications and the runner's own requests."""
        number: Any = message.get("id")
        asked = self._asked.get(number) if type(number) is int else None  # all of ours are
        if asked is not None and message.get("method", asked) == asked and number not in self._answers:
            self._answers[number] = message
        elif "method" not in message:
            self._strange = self._strange or json.dumps(message)[:SHOWN]

    def call(self, method: str, params: Mapping[str, object], seconds: float) -> Outcome:
        """Send a request and wait for its answer, at most this many seconds; a silent runner is killed then."""
        number = next(self._ids)
        body = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()
        with self._changed:
            broken, unframed = self._splitter.broken, self._splitter.unframed
            self._asked[number], self._strange = method, ""
        # In a thread, because a pipe to a runner that reads nothing takes 64 KiB and then blocks.
        threading.Thread(target=self._send, args=(body,), daemon=True).start()
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    number in self._answers
                    or self._ended
                    or self._splitter.broken > broken
                    or self._splitter.unframed > unframed
                ),
                max(0.0, seconds),
            )
            if self._splitter.unframed > unframed:  # a line of JSON before the answer is only that
                self._changed.wait_for(lambda: number in self._answers, min(_FRAME_SECONDS, max(0.0, seconds)))
            del self._asked[number]
            answer = self._answers.pop(number, None)
        if answer is None:
            why = _UNFRAMED if self._splitter.unframed > unframed else ""
            return self._without_answer(seconds, broken=self._splitter.broken > broken, why=why)
        if answer.get("error") is not None:  # some send an error of null besides a result
            return {"error": answer["error"], "outside": self.outside()}
        outcome: Outcome = {"result": answer.get("result"), "outside": self.outside()}
        if method == "ready":
            outcome["process"] = named_process(outcome, processes.Watch(self._supervised.pid), self.pid)
        return outcome

    def _send(self, body: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # the runner is gone; how it ended is reported
            self._stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
            self._stdin.flush()

    def _without_answer(self, seconds: float, *, broken: bool, why: str) -> Outcome:
        outcome: Outcome
        if why:
            outcome = {"garbled": self.outside(), "why": why, "outside": ""}
        elif self._ended:
            ending = self._supervised.wait(self.pid, _EXIT_SECONDS)
            outcome = {"exited": ending or "closed its stdout and still runs", "outside": ""}
        elif broken:
            outside = self.outside()
            outcome = {"garbled": outside, "outside": outside}
        else:
            outcome = {"silent": seconds, "stacks": stacks_of(self._supervised, self.pid, self.stderr), "outside": ""}
        add_stderr(outcome, self.stderr, self._began)
        if self._strange:
            outcome["strange"] = self._strange
        outcome["outside"] = outcome["outside"] or self.outside()
        return outcome

    def outside(self) -> str:
        """Return what has come outside of frames since the last call of this method."""
        with self._changed:
            new = self._splitter.outside_bytes - self._reported
            if not new:
                return ""
            unreported = bytes(self._splitter.outside)[self._reported :]
            self._reported = self._splitter.outside_bytes
        text = unreported[:SHOWN].decode(errors="backslashreplace")
        return text if new <= SHOWN else f"{text}… ({new} bytes)"

    def close(self, *, seconds: float) -> RunnerEnd:
        """End the runner and everything that it has started, and prove it.

        Args:
            seconds: how long it has to end by itself after `shutdown`; 0 to kill it without asking.
        """
        closed: RunnerEnd = {"outside": "", "ended": None, "survived": [], "left": []}
        if seconds > 0:
            end = time.monotonic() + seconds
            outcome = self.call("shutdown", {}, seconds)
            closed["outside"] = outcome["outside"]
            ending = self._supervised.wait(self.pid, max(0.0, end - time.monotonic()))
            if "silent" in outcome or ending is None:
                closed["unwilling"] = seconds
                stacks = outcome.get("stacks")
                closed["stacks"] = stacks_of(self._supervised, self.pid, self.stderr) if stacks is None else stacks
            else:
                closed["ended"], closed["survived"] = ending, survivors(self._supervised)
        left = self._supervised.close()
        closed["left"] = [UNPROVEN] if left is None else left
        self._reader.join(_EXIT_SECONDS)
        with contextlib.suppress(OSError, ValueError):
            self._stdin.close()
        closed["outside"] += self.outside()
        return closed


def named_process(ready: Outcome, watch: processes.Watch, started: int) -> NamedProcess:
    """Return what is known of the process that an answer to `ready` names, or else of the one that was started."""
    watch.look()
    result = ready["result"]
    pid = result.get("pid") if isinstance(result, Mapping) else None
    if isinstance(pid, str) and pid.isdecimal():
        pid = int(pid)
    named = pid if isinstance(pid, int) and not isinstance(pid, bool) else started
    return {**watch.named(named), "of": started}


def add_stderr(outcome: Outcome, stderr: str, began: int) -> None:
    """Add the first cause and the last lines of a runner's stderr, from this byte on, to an outcome."""
    with open(stderr, "rb") as file:
        file.seek(began)
        text = file.read().decode(errors="replace")
    text = text.partition("Fatal Python error: Aborted")[0]  # without the stacks that `stacks_of` asked for
    outcome["cause"], outcome["last"] = causes.first_cause(text), causes.last_lines(text)


def stacks_of(supervised: Supervised, pid: int, stderr: str) -> str:
    """Return the stacks of a runner's threads, as faulthandler prints them, or `STOPPED`; this kills the runner."""
    if processes.stopped(pid):
        return STOPPED
    size = os.path.getsize(stderr)
    if not supervised.signal(pid, signal.SIGABRT):
        return ""
    supervised.wait(pid, _STACKS_SECONDS)
    with open(stderr, "rb") as file:
        file.seek(size)
        return file.read().decode(errors="replace")


def survivors(supervised: Supervised) -> list[str]:
    """Return what still runs of the processes that an ended runner had started: the supervisor has inherited them."""
    try:  # they may be about to end as well
        return poll(supervised.left, end=time.monotonic() + _EXIT_SECONDS, every=0.02, done=operator.not_)
    except SupervisorGone:
        return []
