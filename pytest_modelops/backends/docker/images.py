"""Images: found on the engine, or pulled."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import requests
from docker.errors import DockerException

from pytest_modelops.backends.docker.engine import Engine, ImageNotFound, NotFound, translated
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Progress
from pytest_modelops.errors import CheckFailed, Unavailable

_REGISTRY_SECONDS = 15.0
"""How long an engine has to learn from a registry whether there is an image."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image:
    """An image on the engine.

    Attributes:
        name: as it was asked for.
        id: a hash of its content.
        digest: the registry's name of this content; the id if no registry has it.
        architecture: `amd64`, `arm64`.
        config: its own configuration (`Entrypoint`, `User`, `Env`, …), as the engine's API returns it.
    """

    name: str
    id: str
    digest: str
    architecture: str
    config: Mapping[str, Any]

    @property
    def entry_point(self) -> str:
        """For people."""
        return " ".join(self.config.get("Entrypoint") or ())

    @property
    def user(self) -> str:
        """Its own user; empty for root."""
        return str(self.config.get("User") or "")

    @property
    def warning(self) -> str:
        """Why its name should be another one; empty if it should not."""
        last = self.name.rpartition("/")[2]
        if "@" in last or (":" in last and not last.endswith(":latest")):
            return ""
        return f"image {self.name}: `latest` is another image tomorrow; name a version or a digest ({self.digest})"

    @property
    def path(self) -> str:
        """PATH of its processes."""
        for variable in self.config.get("Env") or ():
            if variable.startswith("PATH="):
                return str(variable).removeprefix("PATH=")
        return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def describe(engine: Engine, name: str) -> Image:
    """Return the engine's image of this name; raises `ImageNotFound`."""
    facts = engine.api.inspect_image(name)
    return Image(
        name=name,
        id=facts["Id"],
        digest=(facts.get("RepoDigests") or [facts["Id"]])[0],
        architecture=facts["Architecture"],
        config=facts.get("Config") or {},
    )


def pull(engine: Engine, name: str, deadline: Deadline) -> str:
    """Have the engine pull an image; return its error, or nothing. Raises `TimedOut`."""
    tag = None if "@" in name else name.rpartition("/")[2].partition(":")[2] or "latest"
    for step in engine.api.pull(name, tag=tag, stream=True, decode=True):
        deadline.check(f"pulling the image {name}")
        if "error" in step:
            return f"could not pull the image {name}: {step['error']}"
    return ""


def cannot_be_pulled(engine: Engine, name: str) -> str:
    """Return why the engine cannot get an image that it lacks; empty if it has it or can. Pulls nothing.

    Also empty where that is not known: of an image that no registry has, and of engines that cannot ask a registry.
    Using the image then says what is wrong.
    """
    try:
        describe(engine, name)
    except ImageNotFound:
        pass
    except (requests.exceptions.RequestException, DockerException):
        return ""
    else:
        return ""
    usual, engine.api.timeout = engine.api.timeout, _REGISTRY_SECONDS
    try:
        engine.api.inspect_distribution(name)
    except NotFound:
        return ""
    except requests.exceptions.ReadTimeout:
        return f"it cannot pull {name}: no registry answered it within {_REGISTRY_SECONDS:.0f} s"
    except (requests.exceptions.RequestException, DockerException) as error:
        why = " ".join(str(getattr(error, "explanation", None) or error).split())
        return "" if "not supported" in why else f"it cannot pull {name}: {why}"
    finally:
        engine.api.timeout = usual
    return ""


class Images:
    """The images of an engine, each looked for once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._found: dict[str, Image | str] = {}

    def find(self, name: str, *, deadline: Deadline, progress: Progress) -> Image:
        """Return the image of this name; pull it if the engine does not have it.

        Raises:
            Unavailable: neither worked; the message quotes the engine.
        """
        if name not in self._found:
            self._found[name] = self._find(name, deadline, progress)
        found = self._found[name]
        if isinstance(found, str):
            raise Unavailable(found)
        return found

    def _find(self, name: str, deadline: Deadline, progress: Progress) -> Image | str:
        with translated(self._engine, f"look for the image {name}"):
            try:
                return describe(self._engine, name)
            except ImageNotFound:
                pass
        progress(f"pulling {name}")
        try:
            with translated(self._engine, f"pull the image {name}"):
                refused = pull(self._engine, name, deadline)
                if not refused:
                    return describe(self._engine, name)
        except CheckFailed as error:
            refused = str(error)
        return (
            f"there is no image {name} on the engine at {self._engine.address}, and it could not be pulled: {refused}\n"
            "Name another one (`image` or `prebuilt` in [tool.modelops.docker]), or load it yourself: `docker pull`, "
            "`docker load`, `docker import`."
        )
