"""The agent as pytest sees it: calls over JSON-RPC that end with a result, an error, or the agent's death."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Mapping
from typing import IO, Any

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment, Process, Stage
from pytest_modelops.errors import ProcessExited, RemoteError, TimedOut
from pytest_modelops.incell import jsonrpc
from pytest_modelops.logs import tail

GRACE_SECONDS = 1.0
"""The agent keeps deadlines itself, to say more than "too late"; this much later it counts as frozen."""


class Agent:
    """Speaks with the cell's agent. Calls may be made from any thread."""

    def __init__(self, process: Process, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.process = process
        self._stdin = stdin
        self._writer = jsonrpc.Writer(stdin)
        self._ids = itertools.count()
        self._changed = threading.Condition()
        self._answers: dict[int, dict[str, Any]] = {}
        self._dead: str | None = None
        threading.Thread(target=self._read, args=(stdout,), name="agent", daemon=True).start()

    @classmethod
    def start(cls, stage: Stage, environment: Environment, *, seconds: float) -> Agent:
        """Start the agent; it begins to connect at once, and tries for `seconds`."""
        process, stdin, stdout = stage.start_attached(
            "agent",
            environment,
            ["-m", "modelops_incell.agent", json.dumps(dict(stage.client_contact())), str(seconds)],
            variables={"PYTHONPATH": stage.incell},
        )
        return cls(process, stdin, stdout)

    def _read(self, stdout: IO[bytes]) -> None:
        reason = "closed its stdout"
        with stdout:
            try:
                while (message := jsonrpc.read_message(stdout)) is not None:
                    with self._changed:
                        self._answers[message["id"]] = message
                        self._changed.notify_all()
            except (ValueError, OSError) as error:
                reason = f"sent something that is no answer ({error})"
        with self._changed:
            self._dead = reason
            self._changed.notify_all()

    def call(self, method: str, *, deadline: Deadline, **params: Any) -> Any:
        """Call a method of the agent.

        Raises:
            RemoteError: it failed there.
            ProcessExited: the agent died; the message holds how, and its last words.
            TimedOut: no answer by the deadline and its grace, or the agent had none from the scheduler.
        """
        __tracebackhide__ = True
        number = next(self._ids)
        try:
            self._writer.send({"id": number, "method": method, "params": params})
        except (OSError, ValueError):
            raise ProcessExited(self._death(deadline)) from None
        with self._changed:
            answered = self._changed.wait_for(
                lambda: number in self._answers or self._dead is not None, deadline.remaining + GRACE_SECONDS
            )
            answer = self._answers.pop(number, None)
        if answer is None:
            if answered:
                raise ProcessExited(self._death(deadline))
            raise TimedOut(f"the agent did not answer {method!r} within {deadline.seconds:g} s")
        if "error" in answer:
            error: Mapping[str, Any] = answer["error"]
            if error["code"] == jsonrpc.TIMED_OUT:
                raise TimedOut(error["message"])
            raise RemoteError(error["message"], error.get("data", {}).get("traceback", ""))
        return answer["result"]

    def _death(self, deadline: Deadline) -> str:
        """How the agent ended, and its last words."""
        try:
            how = self.process.wait(deadline.at_most(GRACE_SECONDS))
        except TimedOut:
            how = f"{self._dead} and still runs"
        return f"the agent (the cell's client) {how}.{tail(self.process.log)}"

    def close(self) -> None:
        """Close its stdin: it leaves at once."""
        with contextlib.suppress(OSError):  # it is gone already, with words of ours still in the pipe
            self._stdin.close()
