"""A process of a cell, in a container of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import signal
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, TimeoutError  # noqa: A004 - Python 3.10's is not the builtin
from pathlib import Path
from typing import Any

from pytest_modelops.backends.docker.engine import Engine, NotFound, translated
from pytest_modelops.backends.docker.link import Gone, Link
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import ModelopsError, TimedOut
from pytest_modelops.remote.shared.process_messages import ChildStack
from pytest_modelops.remote.shared.supervised import ending_in_words

_START_SECONDS = 60.0
"""A container starts in half a second; this is for machines under heavy load."""
_SETTLE_SECONDS = 3.0
"""How long an engine may take to notice the end of a container after its streams are closed."""
_DOCUMENTED = {
    125: "the engine could not run it",
    126: "the image's command cannot be executed",
    127: "the image has no such command",
}
"""Exit codes of a shell or engine, not of the program: https://tldp.org/LDP/abs/html/exitcodes.html."""


@dataclasses.dataclass(frozen=True)
class Container:
    """A container that was started, and the link to its init."""

    id: str
    link: Link


class ContainerProcess:
    """A process that a container's init starts (see `base.Process`).

    Containers are made in the background, so that those of a cell start at once.
    """

    def __init__(self, engine: Engine, name: str, starting: Future[Container], log: Path) -> None:
        self._engine = engine
        self._starting = starting
        self._ending: str | None = None
        self.closing = False
        self.name = name
        self.log = log

    def _container(self, seconds: float = _START_SECONDS) -> Container | None:
        """Wait until the container is started and return it; `None` if that failed or takes longer."""
        with contextlib.suppress(ModelopsError, TimeoutError, CancelledError):
            return self._starting.result(seconds)
        return None

    def link(self) -> Link:
        """Wait for the link to its init and return it; raises `Gone` if the container was not started."""
        container = self._container()
        if container is None:
            raise Gone(f"{self.name} was not started")
        return container.link

    @property
    def pid(self) -> int:
        """Its pid in the container; 0 if it was not started."""
        try:
            link = self.link()
        except Gone:
            return 0
        link.wait(lambda: bool({"started", "failed"} & link.events.keys()) or link.ended, _START_SECONDS)
        return int(link.events.get("started", 0))

    @property
    def ending(self) -> str | None:
        if self._ending is None and self._starting.done():
            container = self._container()
            if container is None:
                self._ending = self._not_started()
            elif container.link.ended or {"exited", "failed"} & container.link.events.keys():
                self._ending = self._in_words(container)
        return self._ending

    def _not_started(self) -> str:
        if self._starting.cancelled():
            return "was not started before its cell was closed"
        return f"could not be started: {self._starting.exception()}"

    def _in_words(self, container: Container) -> str:
        events = container.link.events
        if "failed" in events:
            return f"could not be started: {events['failed']}"
        if "exited" in events:
            if events.get("memory"):
                return f"was killed by the kernel for memory at {mebibytes(events['memory'])}"
            return ending_in_words(events["exited"])
        if self.closing:
            return f"was killed by {signal.SIGKILL.name}"
        return self._as_the_engine_says(container)

    def _as_the_engine_says(self, container: Container) -> str:
        """Describe the end of a container whose init did not report it."""
        try:
            with translated(self._engine, f"ask how {self.name} ended"):
                facts = self._settled(container)
        except ModelopsError as error:
            return f"was lost together with its engine: {error}"
        if facts is None:
            return "was removed from the engine by another program"
        if facts["State"]["Running"]:
            return "was lost: the connection to its container was cut, but the container still runs"
        return ending_of(facts["State"], facts["HostConfig"]["Memory"])

    def _settled(self, container: Container) -> Any:
        """Return the engine's facts once it knows of the end, at most a moment later; `None` if it was removed."""
        inspect = functools.partial(self._engine.api.inspect_container, container.id)
        try:
            Deadline(_SETTLE_SECONDS).until(lambda: not inspect()["State"]["Running"], every=0.05)
            return inspect()
        except NotFound:
            return None

    def wait(self, deadline: Deadline) -> str:
        container = self._container(deadline.remaining)
        if container is not None:
            link = container.link
            link.wait(lambda: link.ended or bool({"exited", "failed"} & link.events.keys()), deadline.remaining)
        ending = self.ending
        if ending is None:
            pid = container.link.events.get("started") if container is not None else None
            where = f"pid {pid}" if pid else "starting"
            raise TimedOut(f"{self.name} ({where}) did not end within {deadline.seconds:g} s")
        if container is not None:  # its last output may still be on its way
            link.wait(lambda: link.ended, min(1.0, max(deadline.remaining, 0.2)))
        return ending

    def signal(self, number: int, *, pid: int | None = None) -> bool:
        if self.ending is not None:
            return False
        with contextlib.suppress(Gone):
            return self.link().ask({"op": "signal", "pid": pid or 0, "number": int(number)})["sent"]
        return False

    def descendants(self) -> Sequence[int]:
        with contextlib.suppress(Gone):
            return self.link().ask({"op": "descendants", "pid": 0})["pids"]
        return []

    def abort_children(self, *, pid: int | None = None) -> Sequence[ChildStack]:
        with contextlib.suppress(Gone):
            return self.link().ask({"op": "abort_children", "pid": pid or 0})["children"]
        return []

    def state(self, *, pid: int | None = None) -> str:
        with contextlib.suppress(Gone):
            if self.ending is None:
                return self.link().ask({"op": "state", "pid": pid or 0})["state"]
        return "gone"

    def keep(self) -> None:
        """Have it outlive pytest; raises `Gone` if it has ended."""
        self.link().ask({"op": "keep"})


def mebibytes(count: int) -> str:
    """`512 MiB`."""
    return f"{count / 2**20:.0f} MiB"


def ending_of(state: dict[str, object], limit: int) -> str:
    """Describe how a container ended, from the engine's facts and its memory limit in bytes."""
    code = int(str(state["ExitCode"]))
    if state.get("OOMKilled") and code == 128 + signal.SIGKILL:
        return f"was killed by the kernel for memory at {mebibytes(limit)}"
    if code > 128 and code - 128 in {item.value for item in signal.Signals}:  # noqa: PLR2004
        return f"was killed by {signal.Signals(code - 128).name}"
    detail = str(state.get("Error") or _DOCUMENTED.get(code, ""))
    return f"exited with code {code}" + (f" ({detail})" if detail else "")
