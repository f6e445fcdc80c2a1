"""Asking an environment of the cell something, in a process of its own that answers and ends."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

from pytest_modelops.backends.base import Sandbox
from pytest_modelops.cluster.logs import tail
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment
from pytest_modelops.errors import ProcessExited, TimedOut

_POLL_SECONDS = 0.02
_LAST_SECONDS = 1.0


class Question:
    """A process of an environment that runs a module of `remote/` and answers one JSON document with another.

    Args:
        name: of the process, and of its log.
        module: in `remote/`, with dots.
        variables: those of the role.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        environment: Environment,
        name: str,
        module: str,
        content: object,
        *,
        variables: Mapping[str, str],
    ) -> None:
        path = [sandbox.remote, *filter(None, [variables.get("PYTHONPATH")])]
        self._process, stdin, stdout = sandbox.start_attached(
            name,
            environment,
            ["-m", f"modelops_remote.{module}"],
            variables={**variables, "PYTHONPATH": ":".join(path)},
        )
        self._output: list[bytes] = []

        def exchange() -> None:
            with stdout:
                try:
                    with stdin:
                        stdin.write(json.dumps(content).encode())
                except OSError:
                    pass  # it ended; its log says why
                self._output.append(stdout.read())

        self._exchange = threading.Thread(target=exchange, name=name, daemon=True)
        self._exchange.start()

    def answer(self, deadline: Deadline) -> Any:
        """Wait for the answer.

        Raises:
            ProcessExited: it ended without one.
            TimedOut: the deadline passed.
        """
        process, exchange = self._process, self._exchange
        deadline.until(lambda: not exchange.is_alive() or process.ending is not None, every=_POLL_SECONDS)
        exchange.join(deadline.at_most(_LAST_SECONDS).remaining)  # what it wrote last may be on its way
        if exchange.is_alive() and process.ending is None:
            raise TimedOut(f"{process.name} did not answer within {deadline.seconds:g} s.{tail(process.log)}")
        try:
            return json.loads(b"".join(self._output))
        except ValueError:
            raise ProcessExited(f"{process.name} {process.wait(deadline)}.{tail(process.log)}") from None
