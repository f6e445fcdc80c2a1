"""What runs have made on an engine: who owns it, by its labels, and how things of dead runs are found and removed.

An owner is one pytest process: its machine, that machine's boot, its pid namespace, its pid and when it started. Only
things of an owner that is certainly dead are removed: it ran on this machine in an earlier boot, or in this boot and
this pid namespace and its pid is gone or now another process. Things of another machine that shares the engine, or of a
pytest inside another container, cannot be judged from here and stay.
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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from pytest_modelops.backends.docker.engine import APIError, Engine, NotFound, translated
from pytest_modelops.errors import ModelopsError

PREFIX = "modelops."
RUN, CELL, ROLE = f"{PREFIX}run", f"{PREFIX}cell", f"{PREFIX}part"
IMAGE, SESSION = f"{PREFIX}image", f"{PREFIX}session"
"""Labels of an image that was built for cells: the key of its content, and the run that built it."""
_OWNER = tuple(PREFIX + part for part in ("machine", "boot", "namespace", "pid", "started"))
KEPT = "modelops-kept-"
"""Prefix that a container's name gets when its cell is left up: only `prune` removes it."""
LATER = "`python -m pytest_modelops prune` removes it once the engine answers"


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


@functools.cache
def _machine() -> tuple[str, str, str]:
    """Return opaque names of this machine, its boot and our pid namespace.

    Cloned machines may share a machine-id, so host name and network address count as well.
    """
    identity = f"{_read('/etc/machine-id')} {socket.gethostname()} {uuid.getnode()}"
    boot = _read("/proc/sys/kernel/random/boot_id") or str(int(psutil.boot_time()))
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = platform.system()
    return hashlib.sha256(identity.encode()).hexdigest()[:16], boot, namespace


def _started(pid: int) -> str:
    """Return when a process started, in ticks since boot where /proc has it; empty if there is no such process."""
    stat = _read(f"/proc/{pid}/stat")
    if stat:
        return stat[stat.rindex(")") + 2 :].split()[19]
    with contextlib.suppress(psutil.Error):
        return f"{psutil.Process(pid).create_time():.2f}"
    return ""


def labels(run: str) -> dict[str, str]:
    """Return the labels of everything that this process makes.

    Args:
        run: the run's id, which all processes of a pytest run share.
    """
    values = (*_machine(), str(os.getpid()), _started(os.getpid()))
    return {RUN: run, **dict(zip(_OWNER, values, strict=True))}


def is_dead(owner: Mapping[str, str]) -> bool:
    """Return whether the process of these labels is certainly gone; `False` if that cannot be known."""
    machine, boot, namespace, pid, started = (owner.get(label, "") for label in _OWNER)
    here, this_boot, this_namespace = _machine()
    if machine != here or not pid.isdecimal():
        return False
    if boot != this_boot:
        return True
    return namespace == this_namespace and _started(int(pid)) != started


@dataclasses.dataclass(frozen=True)
class Thing:
    """A container, network, volume or image on an engine; its text is kind and name.

    Attributes:
        kind: `container`, `network`, `volume` or `image`.
        id: by which the engine finds it.
        name: for people.
    """

    kind: str
    id: str
    name: str
    labels: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def kept(self) -> bool:
        return self.kind == "container" and self.name.startswith(KEPT)


@dataclasses.dataclass(frozen=True)
class Removed:
    """What was removed, and what could not be and why, for people."""

    things: tuple[str, ...]
    left: tuple[str, ...]


def things(engine: Engine, *filters: str) -> list[Thing]:
    """Return containers, networks and volumes with these labels (`NAME` or `NAME=VALUE`); containers come first."""
    only = {"label": list(filters)}
    return [
        *(
            Thing("container", thing["Id"], (thing["Names"] or [thing["Id"][:12]])[0].lstrip("/"), thing["Labels"])
            for thing in engine.api.containers(all=True, filters=only)
        ),
        *(Thing("network", thing["Id"], thing["Name"], thing["Labels"]) for thing in engine.api.networks(filters=only)),
        *(
            Thing("volume", thing["Name"], thing["Name"], thing["Labels"])
            for thing in engine.api.volumes(filters=only)["Volumes"] or ()
        ),
    ]


def dead(engine: Engine, *, kept_too: bool = False) -> list[Thing]:
    """Return what belongs to dead runs, of any age.

    Args:
        kept_too: include cells that were left up on purpose.
    """
    with translated(engine, "list what earlier runs left"):
        found = [thing for thing in things(engine, RUN) if is_dead(thing.labels)]
    kept_cells = set() if kept_too else {thing.labels.get(CELL) for thing in found if thing.kept}
    # Containers of a kept cell that were not renamed go; the others stay, with the cell's network and volumes.
    return [
        thing
        for thing in found
        if (kept_too or not thing.kept) and (thing.kind == "container" or thing.labels.get(CELL) not in kept_cells)
    ]


def sweep(engine: Engine, *, kept_too: bool = False) -> Removed:
    """Remove what belongs to dead runs (see `dead`)."""
    return _remove_all(engine, dead(engine, kept_too=kept_too))


def remove_images(engine: Engine) -> Removed:
    """Remove every image that was built for cells; those in use stay."""
    with translated(engine, "list the images that were built"):
        images = engine.api.images(filters={"label": [IMAGE]})
    names = ((image["RepoTags"] or [image["Id"]])[0] for image in images)
    return _remove_all(engine, (Thing("image", name, name, {}) for name in names))


def _remove_all(engine: Engine, doomed: Iterable[Thing]) -> Removed:
    gone, left = [], []
    for thing in doomed:
        try:
            remove(engine, thing.kind, thing.id)
            gone.append(str(thing))
        except ModelopsError as error:
            left.append(f"{thing} ({error})")
    return Removed(tuple(gone), tuple(left))


def remove(engine: Engine, kind: str, identity: str) -> None:
    """Remove a thing by force; it may be gone already."""
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
    try:
        engine.api.remove_container(identity, force=True, v=True)
    except APIError as error:
        if error.status_code != 409:  # noqa: PLR2004 - it is being removed already
            raise
        with contextlib.suppress(NotFound):
            engine.api.wait(identity, condition="removed", timeout=20)


def of_cell(engine: Engine, run: str, cell: str) -> Sequence[str]:
    """Return what there is of a cell now, for people."""
    return [str(thing) for thing in things(engine, f"{RUN}={run}", f"{CELL}={cell}")]
