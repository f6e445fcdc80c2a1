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
        self._exchange.join(deadline.remaining)
        if self._exchange.is_alive():
            process = self._process
            raise TimedOut(f"{process.name} did not answer within {deadline.seconds:g} s.{tail(process.log)}")
        try:
            return json.loads(b"".join(self._output))
        except ValueError:
            ending = self._process.wait(deadline)
            raise ProcessExited(f"{self._process.name} {ending}.{tail(self._process.log)}") from None
