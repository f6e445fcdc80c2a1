"""What is on an engine by us: whose it is, by labels, and how that of dead runs is removed.

An owner is one pytest process: its machine, that machine's boot, its pid namespace, its pid and when that started.
Only an owner that is certainly dead is swept: of this machine, and of an earlier boot, or of this boot and this pid
namespace with a pid that is gone or somebody else's by now. What belongs to another machine that shares the engine, or
to a pytest inside another container, cannot be judged from here and is left alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import platform
import socket
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from pytest_modelops.backends.docker.engine import Engine, NotFound, translated
from pytest_modelops.errors import ModelopsError

PREFIX = "modelops."
RUN, CELL, ROLE = f"{PREFIX}run", f"{PREFIX}cell", f"{PREFIX}part"
IMAGE = f"{PREFIX}image"
"""Label of an image that we built; its value is the key of its content."""
_OWNER = tuple(PREFIX + part for part in ("machine", "boot", "namespace", "pid", "started"))
KEPT = "modelops-kept-"
"""Prefix that a container's name gets when its cell is left up: no sweep removes it, `prune` does."""
LATER = "`python -m pytest_modelops prune` removes it once the engine answers"


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


@functools.cache
def _machine() -> tuple[str, str, str]:
    """This machine, its boot and our pid namespace, as opaque words.

    Cloned machines may share a machine-id, so name and network address count as well.
    """
    identity = f"{_read('/etc/machine-id')} {socket.gethostname()} {uuid.getnode()}"
    boot = _read("/proc/sys/kernel/random/boot_id") or str(int(psutil.boot_time()))
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = platform.system()
    return hashlib.sha256(identity.encode()).hexdigest()[:16], boot, namespace


def _started(pid: int) -> str:
    """When a process started, in ticks since boot where the system tells; empty when there is none."""
    stat = _read(f"/proc/{pid}/stat")
    if stat:
        return stat[stat.rindex(")") + 2 :].split()[19]
    with contextlib.suppress(psutil.Error):
        return f"{psutil.Process(pid).create_time():.2f}"
    return ""


def labels(run: str) -> dict[str, str]:
    """What everything of this process carries.

    Args:
        run: the run's id, which all processes of a pytest run share.
    """
    values = (*_machine(), str(os.getpid()), _started(os.getpid()))
    return {RUN: run, **dict(zip(_OWNER, values, strict=True))}


def is_dead(owner: Mapping[str, str]) -> bool:
    """Whether the process of these labels is certainly gone; `False` where that cannot be known."""
    machine, boot, namespace, pid, started = (owner.get(label, "") for label in _OWNER)
    here, this_boot, this_namespace = _machine()
    if machine != here or not pid.isdecimal():
        return False
    if boot != this_boot:
        return True
    return namespace == this_namespace and _started(int(pid)) != started


@dataclasses.dataclass(frozen=True)
class Removed:
    """What a sweep did, in words."""

    things: tuple[str, ...]
    left: tuple[str, ...]


def sweep(engine: Engine, *, kept_too: bool = False) -> Removed:
    """Remove what belongs to dead runs, whatever its age.

    Args:
        kept_too: also cells that were left up on purpose.
    """
    only = {"label": [RUN]}
    with translated(engine, "list what earlier runs left"):
        containers = engine.api.containers(all=True, filters=only)
        networks = engine.api.networks(filters=only)
        volumes = engine.api.volumes(filters=only)["Volumes"] or []
    kept_cells = set()
    dead: list[tuple[str, str, str]] = []
    for container in containers:
        names = [name.lstrip("/") for name in container["Names"] or ()]
        if not is_dead(container["Labels"]):
            continue
        if any(name.startswith(KEPT) for name in names) and not kept_too:
            kept_cells.add(container["Labels"].get(CELL))
            continue
        dead.append(("container", container["Id"], names[0] if names else container["Id"][:12]))
    for kind, things, key in (("network", networks, "Id"), ("volume", volumes, "Name")):
        dead += [
            (kind, thing[key], thing["Name"])
            for thing in things
            if is_dead(thing["Labels"]) and thing["Labels"].get(CELL) not in kept_cells
        ]
    # A kept cell's parts that were not renamed yet go with the others; its own stay, network and volumes too.
    gone, left = [], []
    for kind, identity, name in dead:
        try:
            remove(engine, kind, identity)
            gone.append(f"{kind} {name}")
        except ModelopsError as error:
            left.append(f"{kind} {name} ({error})")
    return Removed(tuple(gone), tuple(left))


def remove(engine: Engine, kind: str, identity: str) -> None:
    """Remove a thing by force; that it is gone already is fine."""
    with translated(engine, f"remove {kind} {identity[:40]}"), contextlib.suppress(NotFound):
        if kind == "container":
            _remove_container(engine, identity)
        elif kind == "network":
            engine.api.remove_network(identity)
        elif kind == "volume":
            engine.api.remove_volume(identity, force=True)
        else:
            engine.api.remove_image(identity)


def _remove_container(engine: Engine, identity: str) -> None:
    from docker.errors import APIError

    try:
        engine.api.remove_container(identity, force=True, v=True)
    except APIError as error:
        if error.status_code != 409:  # noqa: PLR2004 - somebody removes it already
            raise
        with contextlib.suppress(NotFound):
            engine.api.wait(identity, condition="removed", timeout=20)


def of_cell(engine: Engine, run: str, cell: str) -> Sequence[str]:
    """What there is of a cell at this moment, in words."""
    only = {"label": [f"{RUN}={run}", f"{CELL}={cell}"]}
    found = [
        f"container {(container['Names'] or ['/' + container['Id'][:12]])[0].lstrip('/')}"
        for container in engine.api.containers(all=True, filters=only)
    ]
    found += [f"network {network['Name']}" for network in engine.api.networks(filters=only)]
    found += [f"volume {volume['Name']}" for volume in engine.api.volumes(filters=only)["Volumes"] or ()]
    return found


def remove_images(engine: Engine) -> Removed:
    """Remove every image that we built; those in use stay."""
    gone, left = [], []
    with translated(engine, "list the images that were built"):
        images = engine.api.images(filters={"label": [IMAGE]})
    for image in images:
        name = (image["RepoTags"] or [image["Id"]])[0]
        try:
            remove(engine, "image", name)
            gone.append(f"image {name}")
        except ModelopsError as error:
            left.append(f"image {name} ({error})")
    return Removed(tuple(gone), tuple(left))
