"""Finds the container engine by the SDK's own rules, and turns its errors into messages."""

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
"""How long an engine has to answer a ping."""
_CALL_SECONDS = 120
"""How long it has for any other call without a deadline."""
HOW_TO_START = (
    "Start one (`systemctl start docker`, `dockerd-rootless-setuptool.sh install`, `systemctl --user start "
    "podman.socket`, Docker Desktop), or name it in DOCKER_HOST; or use --modelops-backend process."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine that has answered.

    Attributes:
        address: where it is, for people.
        api: the SDK's low-level client.
        name: `Docker Engine 28.0` or `Podman 5.2`.
        cpus: how many it has.
        architecture: as images name it: `amd64`, `arm64`.
    """

    address: str
    api: Any
    name: str
    cpus: int
    architecture: str

    @classmethod
    def ask(cls, address: str, api: Any) -> Engine:
        """Ask an engine what it is. This starts and changes nothing."""
        version, facts = api.version(), api.info()
        parts = [part["Name"] for part in version.get("Components") or ()]
        kind = "Podman" if any("Podman" in part for part in parts) else "Docker Engine"
        machine = str(facts["Architecture"])
        return cls(
            address=address,
            api=api,
            name=f"{kind} {facts['ServerVersion']}",
            cpus=int(facts["NCPU"]),
            architecture={"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
        )


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield where an engine may be: what the user has named or, if nothing, the usual sockets."""
    from docker.context import ContextAPI
    from docker.utils import kwargs_from_env

    if environ.get("DOCKER_HOST"):
        yield f"DOCKER_HOST={environ['DOCKER_HOST']}", kwargs_from_env(environment=dict(environ))
        return
    try:
        arguments = ContextAPI.kwargs_from_context(environment=dict(environ))
    except (DockerException, OSError, ValueError) as error:
        yield f"the current context ({error})", {}
        return
    named = environ.get("DOCKER_CONTEXT") or ContextAPI.get_current_context().name
    if named != "default":
        yield f"the context {named} ({arguments.get('base_url')})", arguments
        return
    yield arguments.get("base_url", "unix:///var/run/docker.sock"), arguments
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
    """Return the first engine that answers a ping.

    Raises:
        Unavailable: none does; the message lists what was tried and how to start one.
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
            read_proxies_once(client.api, client.api.base_url)
            engine = Engine.ask(url or label, client.api)
        except (DockerException, requests.exceptions.RequestException, OSError, ValueError) as error:
            tried.append(f"{label}: {_essence(error)}")
            continue
        client.api.timeout = _CALL_SECONDS
        return engine
    raise Unavailable("no container engine answers. Tried " + "; ".join(tried) + f".\n{HOW_TO_START}")


def read_proxies_once(session: requests.Session, url: str) -> None:
    """Keep a session from going through all variables at each request.

    Cells use it in threads, and pytest removes a variable, the name of the running test, in the main thread meanwhile.
    """
    session.proxies.update(requests.utils.get_environ_proxies(url))
    session.trust_env = False


def _unreachable(path: str) -> str:
    """Return why a socket cannot be connected to, or nothing. The SDK would leave its own end open."""
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
    """Return the innermost cause of an error of the SDK, urllib3 or the system, on one line."""
    text = str(error)
    for cause in ("Permission denied", "Connection refused", "No such file or directory", "timed out"):
        if cause in text:
            return cause + (" (is your user in the group that owns it?)" if cause == "Permission denied" else "")
    return " ".join(text.split())[:300]


@contextlib.contextmanager
def translated(engine: Engine, doing: str) -> Iterator[None]:
    """Turn the SDK's errors into ours: `could not <doing>: <the engine's message>`.

    Raises:
        Unavailable: the engine does not answer any more.
        TimedOut: it did not answer in time.
        CheckFailed: it refused.
    """
    try:
        yield
    except ModelopsError:
        raise
    except APIError as error:  # it is a RequestException too
        raise CheckFailed(f"could not {doing}: {_explained(error)}") from error
    except requests.exceptions.ReadTimeout as error:
        raise TimedOut(f"the engine at {engine.address} did not {doing} in time") from error
    except requests.exceptions.RequestException as error:
        raise Unavailable(
            f"could not {doing}: the engine at {engine.address} does not answer any more "
            f"({_essence(error)}). {HOW_TO_START}"
        ) from error
    except DockerException as error:
        raise CheckFailed(f"could not {doing}: {_explained(error)}") from error


def _explained(error: Exception) -> str:
    """Return an engine's message; with the cause and the cure if they are known."""
    text = str(getattr(error, "explanation", None) or error).strip()
    if "no space left on device" in text.lower():
        return (
            f"the engine's disk is full ({text}). Free some: `python -m pytest_modelops prune --images`, "
            "`docker system df`, `docker system prune`"
        )
    if "address pool" in text or "available network" in text:
        return f"the engine has no subnet left for a network ({text}); remove some with `docker network prune`"
    return text
