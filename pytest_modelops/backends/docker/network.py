"""The network of a cell: without a way out, unless the settings open it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping

from pytest_modelops.backends.docker.engine import Engine, translated
from pytest_modelops.errors import CheckFailed

_SUBNET_TRIES = 20
"""An engine refuses a subnet that is in use."""


def make_network(engine: Engine, name: str, cell: str, labels: Mapping[str, str], *, opened: bool) -> str:
    """Create a cell's network and return its id.

    A closed network gets a subnet for tests that nobody routes (RFC 2544). The engine's own choice may be a subnet of
    another engine on the machine, whose firewall rules would then apply to traffic within the cell.
    """
    if not opened:
        for _ in range(_SUBNET_TRIES):
            subnet = f"198.{18 + secrets.randbelow(2)}.{secrets.randbelow(256)}.0/24"
            with contextlib.suppress(CheckFailed), translated(engine, "make a network"):
                return _create(engine, name, labels, subnet=subnet, internal=True)
    with translated(engine, f"make the network of cell {cell}"):
        return _create(engine, name, labels, subnet="", internal=not opened)


def _create(engine: Engine, name: str, labels: Mapping[str, str], *, subnet: str, internal: bool) -> str:
    from docker.types import IPAMConfig, IPAMPool

    created = engine.api.create_network(
        name,
        driver="bridge",
        internal=internal,
        ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)]) if subnet else None,
        # Without an address of the host on the network, the cell cannot reach the host's services either.
        options={"com.docker.network.bridge.inhibit_ipv4": "true"} if internal else None,
        labels=dict(labels),
    )
    return str(created["Id"])
