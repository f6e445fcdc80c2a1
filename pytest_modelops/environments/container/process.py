"""One process of a cell, in a container of its own."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Sequence
from pathlib import Path

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.container.engine import Engine, NotFound, in_our_words
from pytest_modelops.environments.container.link import Gone, Link
from pytest_modelops.errors import ModelopsError, TimedOut
from pytest_modelops.incell.kept import ending_in_words

_START_SECONDS = 30.0
"""The anchor starts in a tenth of a second; on a machine under heavy load give it this long."""
_DOCUMENTED = {
    125: "the engine could not run it",
    126: "the image's command cannot be executed",
    127: "the image has no such command",
}
"""Exit codes that a shell or an engine gives, not the program: https://tldp.org/LDP/abs/html/exitcodes.html."""


class ContainerProcess:
    """A process that a container's anchor started (see `base.Process`)."""

    def __init__(self, engine: Engine, name: str, container: str, link: Link, log: Path) -> None:
        self._engine = engine
        self._container = container
        self._link = link
        self._ending: str | None = None
        self.closing = False
        self.name = name
        self.log = log

    @property
    def pid(self) -> int:
        """As the container counts it; 0 when it was never started."""
        told = self._link.told
        self._link.wait(lambda: "started" in told or "failed" in told or self._link.ended, _START_SECONDS)
        return int(told.get("started", 0))

    @property
    def ending(self) -> str | None:
        """`None` while it runs, else how it ended, in words."""
        if self._ending is None and (self._link.ended or {"exited", "failed"} & self._link.told.keys()):
            self._ending = self._in_words()
        return self._ending

    def _in_words(self) -> str:
        told = self._link.told
        if "failed" in told:
            return f"could not be started: {told['failed']}"
        if "exited" in told:
            if told.get("memory"):
                return f"was killed by the kernel for memory at {mebibytes(told['memory'])}"
            return ending_in_words(told["exited"])
        if self.closing:
            return f"was killed by {signal.SIGKILL.name}"
        return self._as_the_engine_says()

    def _as_the_engine_says(self) -> str:
        """The container ended before its anchor could say how."""
        try:
            with in_our_words(self._engine, f"ask how {self.name} ended"):
                try:
                    facts = self._engine.api.inspect_container(self._container)
                except NotFound:
                    return "was removed from the engine by somebody else"
        except ModelopsError as error:
            return f"was lost together with its engine: {error}" if _is_lost(error) else str(error)
        state, limit = facts["State"], facts["HostConfig"]["Memory"]
        if state["Running"]:
            return "was lost: the connection to its container was cut, though that still runs"
        return ending_of(state, limit)

    def wait(self, deadline: Deadline) -> str:
        """Wait for the end and return it in words; raises `TimedOut`."""
        told = self._link.told
        self._link.wait(
            lambda: self._link.ended or "exited" in told or "failed" in told, deadline.remaining
        )
        ending = self.ending
        if ending is None:
            raise TimedOut(f"{self.name} (pid {self.pid}) did not end within {deadline.seconds:g} s")
        # What it printed last may still be on its way.
        self._link.wait(lambda: self._link.ended, min(1.0, max(deadline.remaining, 0.2)))
        return ending

    def signal(self, number: int, *, pid: int | None = None) -> bool:
        """Send a signal to it, or to one of its descendants; `False` when that is gone."""
        if self.ending is not None:
            return False
        with contextlib.suppress(Gone):
            return bool(self._link.ask(op="signal", pid=pid or 0, number=int(number))["sent"])
        return False

    def descendants(self) -> Sequence[int]:
        """Pids of what it has started, and what that has started, parents first."""
        with contextlib.suppress(Gone):
            return [int(pid) for pid in self._link.ask(op="descendants", pid=0)["pids"]]
        return []

    def state(self, *, pid: int | None = None) -> str:
        """Where the kernel says it stands."""
        if self._link.ended or "exited" in self._link.told:
            return "gone"
        with contextlib.suppress(Gone):
            return str(self._link.ask(op="state", pid=pid or 0)["state"])
        return "gone"

    def keep(self) -> None:
        """Have it outlive pytest; raises `Gone` if it is over."""
        self._link.ask(op="keep")


def mebibytes(count: int) -> str:
    """`512 MiB`."""
    return f"{count / 2**20:.0f} MiB"


def ending_of(state: dict[str, object], limit: int) -> str:
    """How a container ended, in words, from what the engine says of it."""
    code = int(str(state["ExitCode"]))
    if state.get("OOMKilled") and code == 128 + signal.SIGKILL:
        return f"was killed by the kernel for memory at {mebibytes(limit)}"
    if code > 128 and code - 128 in {item.value for item in signal.Signals}:  # noqa: PLR2004
        return f"was killed by {signal.Signals(code - 128).name}"
    detail = str(state.get("Error") or _DOCUMENTED.get(code, ""))
    return f"exited with code {code}" + (f" ({detail})" if detail else "")


def _is_lost(error: ModelopsError) -> bool:
    return "does not answer" in str(error)
