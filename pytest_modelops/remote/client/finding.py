"""Finds a deployment: its scheduler's address, the cluster object if there is one, and the security of connections."""

from __future__ import annotations

import importlib
import json
import operator
import sys
import traceback
from pathlib import Path
from typing import Any

from ..shared.facts import AttachContact, Gateway
from ..worker.plugins import error_text
from .connection import Failure


def found(contact: AttachContact) -> tuple[str, Any, Any]:
    """Return the scheduler's address, the cluster or `None`, and the security; raises `Failure` that says why not."""
    from distributed.security import Security

    if "address" in contact:
        return contact["address"], None, Security()
    if "scheduler_file" in contact:
        return json.loads(Path(contact["scheduler_file"]).read_text(encoding="utf-8"))["address"], None, Security()
    if "gateway" in contact:
        what, cluster = "the gateway", _of_gateway(contact["gateway"])
    else:
        what, cluster = contact["factory"], _made(contact["factory"], contact["directory"])
    if isinstance(cluster, str):
        return cluster, None, Security()
    address = getattr(cluster, "scheduler_address", None)
    if not isinstance(address, str) or not address:
        raise Failure(f"{what} returned {cluster!r}, which is neither an address nor a Dask cluster")
    return address, cluster, getattr(cluster, "security", None) or Security()


def _made(factory: str, directory: str) -> Any:
    """Call a factory; its errors are the user's, with their traceback."""
    sys.path.append(directory)
    module, _, function = factory.partition(":")
    try:
        return operator.attrgetter(function)(importlib.import_module(module))()
    except Exception as error:
        raise Failure(f"factory {factory}: {error_text(error)}", traceback.format_exc()) from error


def _of_gateway(settings: Gateway) -> Any:
    """Connect to a cluster of a gateway that runs: the named one, or the only one."""
    try:
        make = importlib.import_module("dask_gateway").Gateway
    except ImportError as error:
        raise Failure(
            f"the client has no dask-gateway ({error}); add it to [tool.modelops.environment] requirements"
        ) from error
    name = settings.get("cluster", "")
    given = {key: value for key in ("address", "auth") if (value := settings.get(key))}
    try:
        gateway = make(**given)
        running = [cluster.name for cluster in gateway.list_clusters()]
        if not name and len(running) == 1:
            name = running[0]
        if name in running:
            return gateway.connect(name)
    except Exception as error:
        raise Failure(
            f"the gateway {settings.get('address', '')}: {error_text(error)}", traceback.format_exc()
        ) from error
    there = f"it has {', '.join(running)}" if running else "it has none that this user may see"
    asked = f"the gateway has no running cluster {name!r}" if name else "which of the gateway's clusters is not said"
    raise Failure(f"{asked}; {there}. Set `cluster` of [tool.modelops.attach.gateway] to one that runs")
