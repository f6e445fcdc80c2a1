"""The host's side of the agent: calls over JSON-RPC that end with a result, an error, or the agent's death."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import queue
import reprlib
import threading
import time
from collections.abc import Mapping
from typing import IO, Any

from pytest_modelops.backends.base import Process, Sandbox
from pytest_modelops.cluster.logs import tail
from pytest_modelops.cluster.starting import AGENT
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment
from pytest_modelops.errors import ProcessExited, RemoteError, TimedOut
from pytest_modelops.remote.shared import jsonrpc
from pytest_modelops.remote.shared.waiting import wait_until

GRACE_SECONDS = 1.0
"""The agent keeps deadlines itself, for better messages; this long after a deadline it counts as frozen."""

_CLOSE_SECONDS = 0.5
_KEPT_CALLS = 20
_SHORT = reprlib.Repr()
_SHORT.maxstring = 80
_SHORT.maxlevel = 3


@dataclasses.dataclass
class Call:
    """A call of the agent.

    Attributes:
        method: the agent's.
        params: its parameters, shortened.
        before: seconds between the call and now.
        took: seconds until it was answered; `None` if it was not.
        answer: what was answered, shortened.
    """

    method: str
    params: str
    before: float
    took: float | None = None
    answer: str = ""

    def __str__(self) -> str:
        ended = "no answer" if self.took is None else f"answered after {self.took:.2f} s: {self.answer}"
        return f"{self.before:.2f} s ago: {self.method} {self.params}: {ended}"


class Agent:
    """The cell's agent, or another process that answers as it does. Calls may be made from any thread.

    Args:
        title: what it is, for people.
    """

    def __init__(
        self, process: Process, stdin: IO[bytes], stdout: IO[bytes], *, title: str = "the agent (the cell's client)"
    ) -> None:
        self.process = process
        self._title = title
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._ids = itertools.count()
        self._changed = threading.Condition()
        self._answers: dict[int, jsonrpc.Message] = {}
        self._dead: str | None = None
        self._calls: dict[int, Call] = {}
        threading.Thread(target=self._read, args=(stdout,), name="agent", daemon=True).start()
        # An agent that has stopped reading its stdin blocks this thread, but no caller beyond its deadline.
        self._sender = threading.Thread(target=self._send, args=(stdin,), name="to the agent", daemon=True)
        self._sender.start()

    @classmethod
    def start(
        cls,
        sandbox: Sandbox,
        environment: Environment,
        *,
        seconds: float,
        variables: Mapping[str, str],
        module: str = "agent",
        name: str = AGENT,
        contact: Mapping[str, object] | None = None,
    ) -> Agent:
        """Start the agent. It begins to connect at once and gives up after `seconds`.

        Args:
            module: of `remote/client`.
            name: of its process.
            contact: how it finds the scheduler; by default that of the sandbox.
        """
        found = json.dumps(contact if contact is not None else dict(sandbox.client_contact()))
        path = sandbox.remote, variables.get("PYTHONPATH")
        process, stdin, stdout = sandbox.start_attached(
            name,
            environment,
            ["-m", f"modelops_remote.client.{module}", found, str(seconds)],
            variables={**variables, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        )
        return cls(process, stdin, stdout)

    def _read(self, stdout: IO[bytes]) -> None:
        reason = "closed its stdout"
        with stdout:
            try:
                while (message := jsonrpc.read_message(stdout)) is not None:
                    with self._changed:
                        self._answers[message["id"]] = message
                        self._note_answer(message)
                        self._changed.notify_all()
            except (ValueError, OSError) as error:
                reason = f"sent something that is no answer ({error})"
        self._die(reason)

    def _send(self, stdin: IO[bytes]) -> None:
        with contextlib.suppress(OSError), stdin:  # it ended with requests still in the pipe
            try:
                while (frame := self._outgoing.get()) is not None:
                    stdin.write(frame)
                    stdin.flush()
            except (OSError, ValueError):
                self._die("closed its stdin")

    def _note_answer(self, message: jsonrpc.Message) -> None:
        if (call := self._calls.get(message["id"])) is not None:
            call.took = time.monotonic() - call.before
            call.answer = _SHORT.repr(message.get("result", message.get("error")))

    def calls(self) -> list[Call]:
        """Return the latest calls, the earliest first."""
        now = time.monotonic()
        with self._changed:
            return [dataclasses.replace(call, before=now - call.before) for call in self._calls.values()]

    def _die(self, reason: str) -> None:
        with self._changed:
            self._dead = self._dead or reason
            self._changed.notify_all()

    def call(self, method: str, *, deadline: Deadline, **params: Any) -> Any:
        """Call a method of the agent.

        Raises:
            RemoteError: it failed there.
            ProcessExited: the agent died; the message says how, and holds its last output.
            TimedOut: no answer by the deadline and its grace, whatever the reason; or the scheduler did not answer the
                agent.
        """
        __tracebackhide__ = True
        number = next(self._ids)
        with self._changed:
            self._calls[number] = Call(method, _SHORT.repr(params), time.monotonic())
            if len(self._calls) > _KEPT_CALLS:
                del self._calls[next(iter(self._calls))]
        self._outgoing.put(jsonrpc.encode({"id": number, "method": method, "params": params}))
        with self._changed:
            answered = wait_until(
                self._changed,
                lambda: number in self._answers or self._dead is not None,
                deadline.remaining + GRACE_SECONDS,
            )
            answer = self._answers.pop(number, None)
        if answer is None:
            if answered:
                raise ProcessExited(self._death(deadline))
            raise TimedOut(f"{self._title.partition(' (')[0]} did not answer {method!r} within {deadline.seconds:g} s")
        if "error" in answer:
            error = answer["error"]
            if error["code"] == jsonrpc.TIMED_OUT:
                raise TimedOut(error["message"])
            raise RemoteError(error["message"], error.get("data", {}).get("traceback", ""))
        return answer["result"]

    def _death(self, deadline: Deadline) -> str:
        try:
            how = self.process.wait(deadline.at_most(GRACE_SECONDS))
        except TimedOut:
            how = f"{self._dead} and still runs"
        return f"{self._title} {how}.{tail(self.process.log)}"

    def close(self) -> None:
        """Close its stdin: it exits at once. If it does not read, it is killed with the sandbox."""
        self._outgoing.put(None)
        self._sender.join(_CLOSE_SECONDS)
