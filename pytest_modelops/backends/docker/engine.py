"""Finds the container engine by the SDK's own rules, and says in words what it refuses."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from pytest_modelops.errors import CheckFailed, ModelopsError, TimedOut, Unavailable

__all__ = ["APIError", "Engine", "ImageNotFound", "NotFound", "connect", "translated"]

_ANSWER_SECONDS = 5.0
"""How long an engine has to say that it is one."""
_CALL_SECONDS = 120
"""How long it has for anything else that is not given a deadline."""
HOW_TO_START = (
    "Start one (`systemctl start docker`, `dockerd-rootless-setuptool.sh install`, `systemctl --user start "
    "podman.socket`, Docker Desktop), or name it in DOCKER_HOST; or use --modelops-backend process."
)


@dataclasses.dataclass(frozen=True)
class Engine:
    """An engine that answered.

    Attributes:
        address: where it is, for people.
        api: the SDK's low-level client.
        facts: what it says of itself.
    """

    address: str
    api: Any
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        """`Docker Engine 28.0` or `Podman 5.2`."""
        parts = [part["Name"] for part in self.facts.get("Components") or ()]
        kind = "Podman" if any("Podman" in part for part in parts) else "Docker Engine"
        return f"{kind} {self.facts['ServerVersion']}"

    @property
    def cpus(self) -> int:
        """How many it has."""
        return int(self.facts["NCPU"])

    @property
    def architecture(self) -> str:
        """As images name it: `amd64`, `arm64`."""
        reply = str(self.facts["Architecture"])
        return {"x86_64": "amd64", "aarch64": "arm64"}.get(reply, reply)


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where an engine may be: what the user has named, and only where nothing is named, the usual sockets."""
    from docker.context import ContextAPI
    from docker.utils import kwargs_from_env

    if environ.get("DOCKER_HOST"):
        yield f"DOCKER_HOST={environ['DOCKER_HOST']}", kwargs_from_env(environment=dict(environ))
        return
    try:
        reply = ContextAPI.kwargs_from_context(environment=dict(environ))
    except (DockerException, OSError, ValueError) as error:
        yield f"the current context ({error})", {}
        return
    named = environ.get("DOCKER_CONTEXT") or ContextAPI.get_current_context().name
    if named != "default":
        yield f"the context {named} ({reply.get('base_url')})", reply
        return
    yield reply.get("base_url", "unix:///var/run/docker.sock"), reply
    home = Path(environ.get("HOME") or Path.home())
    runtime = Path(environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    for usual in (
        runtime / "docker.sock",
        home / ".docker/run/docker.sock",
        home / ".docker/desktop/docker.sock",
        runtime / "podman/podman.sock",
        Path("/run/podman/podman.sock"),
    ):
        yield f"unix://{usual}", {"base_url": f"unix://{usual}"}


def connect(environ: Mapping[str, str] = os.environ) -> Engine:
    """The first engine that answers.

    Raises:
        Unavailable: none does; the message says what was tried and how to start one.
    """
    tried = []
    for label, arguments in _candidates(environ):
        url = str(arguments.get("base_url", ""))
        if url.startswith("unix://") and (why := _unreachable(url.removeprefix("unix://"))):
            tried.append(f"{label}: {why}")
            continue
        try:
            ssh = {"use_ssh_client": True} if url.startswith("ssh://") else {}
            client = docker.DockerClient(**arguments, **ssh, version="auto", timeout=_ANSWER_SECONDS, max_pool_size=32)
            facts = {**client.api.version(), **client.api.info()}
        except (DockerException, requests.exceptions.RequestException, OSError, ValueError) as error:
            tried.append(f"{label}: {_essence(error)}")
            continue
        client.api.timeout = _CALL_SECONDS
        return Engine(url or label, client.api, facts)
    raise Unavailable("no container engine answers. Tried " + "; ".join(tried) + f".\n{HOW_TO_START}")


def _unreachable(path: str) -> str:
    """Why nobody can be reached at a socket; empty if somebody can. The SDK would leave its own end open."""
    if not Path(path).exists():
        return "there is no such socket"
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_ANSWER_SECONDS)
            probe.connect(path)
    except OSError as error:
        return _essence(error)
    return ""


def _essence(error: BaseException) -> str:
    """The innermost cause of the SDK's, urllib3's and the system's errors, on one line."""
    text = str(error)
    for words in ("Permission denied", "Connection refused", "No such file or directory", "timed out"):
        if words in text:
            hint = " (is your user in the group that owns it?)" if words == "Permission denied" else ""
            return words + hint
    return " ".join(text.split())[:300]


@contextlib.contextmanager
def translated(engine: Engine, doing: str) -> Iterator[None]:
    """What an engine refuses, or that it is gone, as an error of ours: `could not <doing>: <its words>`.

    Raises:
        Unavailable: it does not answer any more.
        CheckFailed: it refused.
    """
    try:
        yield
    except ModelopsError:
        raise
    except APIError as error:  # which is a RequestException as well
        raise CheckFailed(f"could not {doing}: {words_of(error)}") from error
    except requests.exceptions.ReadTimeout as error:
        raise TimedOut(f"the engine at {engine.address} did not {doing} in time") from error
    except requests.exceptions.RequestException as error:
        raise Unavailable(
            f"could not {doing}: the engine at {engine.address} does not answer any more "
            f"({_essence(error)}). {HOW_TO_START}"
        ) from error
    except DockerException as error:
        raise CheckFailed(f"could not {doing}: {words_of(error)}") from error


def words_of(error: Exception) -> str:
    """What an engine says, with what it means where that is known."""
    text = str(getattr(error, "explanation", None) or error).strip()
    if "no space left on device" in text.lower():
        return (
            f"the engine's disk is full ({text}). Free some: `python -m pytest_modelops prune --images`, "
            "`docker system df`, `docker system prune`"
        )
    if "address pool" in text or "available network" in text:
        return f"the engine has no subnet left for a network ({text}); remove some with `docker network prune`"
    return text
