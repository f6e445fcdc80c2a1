"""What a container may do: what Dask and bundles need, and what the settings open."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pytest_modelops.backends.docker.engine import Engine
from pytest_modelops.config.docker import ContainerSettings

DEFAULT_USER = "1000:1000"
"""The user in an image that names none, or root."""
NO_SERVER = "198.51.100.1"
"""An unused address (RFC 5737), as name server of closed networks.

Engines before 26.0 would forward their queries from the host's own network (CVE-2024-29018).
"""


def user_of(settings: ContainerSettings, image_user: str) -> str:
    """Return the user of a container: the one in the settings, else the image's own unless that is root."""
    if settings.user is not None:
        return settings.user
    return DEFAULT_USER if image_user.partition(":")[0] in {"", "0", "root"} else image_user


def cpus(settings: ContainerSettings, engine: Engine) -> float:
    """Return how many CPUs a container may use; an engine refuses more than it has. See `lowered_cpus`."""
    return float(min(settings.cpus or 2, engine.cpus))


def lowered_cpus(settings: ContainerSettings, engine: Engine) -> str:
    """Return a warning if containers may use fewer CPUs than the settings ask for; else nothing."""
    if settings.cpus is None or settings.cpus <= engine.cpus:
        return ""
    return (
        f"[tool.modelops.docker] cpus = {settings.cpus:g} is more than the {engine.cpus} that the engine has; "
        f"each container may use {engine.cpus}"
    )


def host_config(
    engine: Engine,
    settings: ContainerSettings,
    *,
    network: str,
    mounts: Mapping[str, tuple[str, str]],
    log: str = "none",
) -> Any:
    """Return the engine's `HostConfig`.

    Args:
        network: the network's name, or `none`.
        mounts: volume's name → path in the container, and `ro` or `rw`.
        log: the engine's log driver.
    """
    from docker.types import LogConfig

    closed = network == "none" or not settings.network
    return engine.api.create_host_config(
        network_mode=network,
        binds={name: {"bind": path, "mode": mode} for name, (path, mode) in mounts.items()},
        read_only=settings.read_only,
        # Like any tmpfs they count as memory. Executable, so that an opened directory works as in the image.
        tmpfs=dict.fromkeys(settings.writable, "rw,exec,nosuid,nodev,mode=1777"),
        cap_drop=["ALL"],
        cap_add=list(settings.capabilities) or None,
        security_opt=None if settings.new_privileges else ["no-new-privileges"],
        mem_limit=settings.memory,
        memswap_limit=settings.memory,
        nano_cpus=int(cpus(settings, engine) * 1e9),
        pids_limit=settings.pids,
        dns=[NO_SERVER] if closed and network != "none" else None,
        # The engine answers the cell's own names at once; other queries must not wait long.
        dns_opt=["timeout:2", "attempts:1"] if closed and network != "none" else None,
        log_config=LogConfig(type=log),
        restart_policy={"Name": "no"},
        init=False,  # the init is process 1
    )


def passed_on(settings: ContainerSettings, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the host's variables that the settings name and the host has."""
    return {name: environ[name] for name in settings.pass_env if name in environ}
