"""Commands of images, each run to its end in a container of its own that is removed afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_modelops.backends.docker import belongings, confinement
from pytest_modelops.backends.docker.engine import Engine, translated
from pytest_modelops.backends.docker.images import Image
from pytest_modelops.backends.docker.process import ending_of
from pytest_modelops.config.docker import ContainerSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import TimedOut


@dataclasses.dataclass(frozen=True)
class Ran:
    """A container that has ended.

    Attributes:
        code: exit code; ending: the same for people, as in `exited with code 1`.
    """

    code: int
    ending: str
    stdout: str
    stderr: str


class OneOff:
    """Runs commands of images to their end.

    Args:
        labels: of this run, for the containers.
    """

    def __init__(self, engine: Engine, settings: ContainerSettings, labels: Mapping[str, str]) -> None:
        self._engine = engine
        self._settings = settings
        self._labels = labels

    def run(self, image: Image, command: Sequence[str], *, user: str, deadline: Deadline) -> Ran:
        """Run a command through the image's entry point, in a container without network and with all limits.

        Raises:
            CheckFailed: it could not be started.
            TimedOut: the deadline passed.
        """
        config = confinement.host_config(self._engine, self._settings, network="none", mounts={}, log="json-file")
        with self.container(image, command, user=user, host_config=config) as container:
            return self.to_its_end(container, f"{image.name}: {command[0]}", deadline)

    @contextlib.contextmanager
    def container(
        self,
        image: Image,
        command: Sequence[str],
        *,
        user: str,
        host_config: Any,
        entry_point: Sequence[str] | None = None,
    ) -> Iterator[str]:
        """Create a container, without starting it; yield its id. It is removed at the end.

        Args:
            entry_point: instead of the image's own.
        """
        with translated(self._engine, f"make a container of {image.name}"):
            created = self._engine.api.create_container(
                image.id,
                list(command),
                labels=dict(self._labels),
                stdin_open=False,
                user=user,
                entrypoint=entry_point,
                host_config=host_config,
            )
        try:
            yield created["Id"]
        finally:
            belongings.remove(self._engine, "container", created["Id"])

    def to_its_end(self, container: str, what: str, deadline: Deadline) -> Ran:
        """Start a container and wait until it ends; `what` names it in messages."""
        api = self._engine.api
        with translated(self._engine, f"start {what}"):
            api.start(container)
        began = time.monotonic()
        while True:  # not the SDK's `wait`: its timeout does not tell a slow engine from a slow command
            with translated(self._engine, f"look at {what}"):
                state = api.inspect_container(container)["State"]
            if not state["Running"] and state["Status"] != "created":
                break
            if deadline.passed:
                with translated(self._engine, f"read what {what} printed"):
                    text = api.logs(container, tail=5).decode(errors="replace").strip()
                printed = f"; it printed {text[-500:]!r}" if text else " and printed nothing"
                raise TimedOut(f"{what} did not end within {deadline.seconds:g} s{printed}.")
            time.sleep(0.05 if time.monotonic() - began < 2 else 0.3)  # noqa: PLR2004
        with translated(self._engine, f"read what {what} printed"):
            stdout = api.logs(container, stdout=True, stderr=False).decode(errors="replace")
            stderr = api.logs(container, stdout=False, stderr=True).decode(errors="replace")
        return Ran(int(state["ExitCode"]), ending_of(state, self._settings.memory), stdout, stderr)
