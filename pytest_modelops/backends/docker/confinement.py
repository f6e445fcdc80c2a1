"""What a container may do: as little as Dask and bundles need, and what the settings open."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pytest_modelops.backends.docker.engine import Engine
from pytest_modelops.config.docker import ContainerSettings

NOBODY_IN_PARTICULAR = "1000:1000"
"""Who runs in an image that does not say: not root."""
NO_SERVER = "198.51.100.1"
"""An address that is nobody's (RFC 5737), for name servers: no question leaves a network without a way out.

Engines before 26.0 answer those from the host's own network (CVE-2024-29018).
"""


def user_of(settings: ContainerSettings, image_user: str) -> str:
    """Who runs in a container: who was asked for, else the image's own user unless that is root."""
    if settings.user is not None:
        return settings.user
    return NOBODY_IN_PARTICULAR if image_user.partition(":")[0] in {"", "0", "root"} else image_user


def cpus(settings: ContainerSettings, engine: Engine) -> float:
    """How many CPUs a container may use; an engine refuses more than it has. See `lowered_cpus`."""
    return float(min(settings.cpus or 2, engine.cpus))


def lowered_cpus(settings: ContainerSettings, engine: Engine) -> str:
    """That a container may use fewer CPUs than were asked for, in words; empty where it may use them."""
    if settings.cpus is None or settings.cpus <= engine.cpus:
        return ""
    return (
        f"[tool.modelops.docker] cpus = {settings.cpus:g} is more than the {engine.cpus} that the engine has, so that "
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
    """The engine's `HostConfig`.

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
        # Like any tmpfs they count as memory; executable, since what is opened should work.
        tmpfs=dict.fromkeys(settings.writable, "rw,exec,nosuid,nodev,mode=1777"),
        cap_drop=["ALL"],
        cap_add=list(settings.capabilities) or None,
        security_opt=None if settings.new_privileges else ["no-new-privileges"],
        mem_limit=settings.memory,
        memswap_limit=settings.memory,
        nano_cpus=int(cpus(settings, engine) * 1e9),
        pids_limit=settings.pids,
        dns=[NO_SERVER] if closed and network != "none" else None,
        # The cell's own names are answered at once; whoever asks for others shall not wait for long.
        dns_opt=["timeout:2", "attempts:1"] if closed and network != "none" else None,
        log_config=LogConfig(type=log),
        restart_policy={"Name": "no"},
        init=False,  # the init is process 1
    )


def passed_on(settings: ContainerSettings, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The host's variables that were asked for, as far as the host has them."""
    return {name: environ[name] for name in settings.pass_env if name in environ}
