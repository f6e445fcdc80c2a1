"""What tests of bundles on a worker share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_modelops.remote.shared.bundle_messages import BundleLocation

COMMAND = (
    *("{python}", "{runner}", "--bundle-path", "{bundle}"),
    *("--venv-path", "{venv}", "--bundle-digest", "{digest}"),
)


def location_in(
    directory: Path,
    *,
    install: str = "isolated",
    runner: str = "",
    command: Sequence[str] = COMMAND,
    protocol: str = "json-rpc",
) -> BundleLocation:
    """The bundle `seir` of `worker-0`: its files in `source`, its wheels in `wheels`."""
    return {
        "name": "seir",
        "digest": "f" * 64,
        "directories": {"worker-0": str(directory / "worker-0" / "bundles" / "seir")},
        "source": str(directory / "source"),
        "wheels": str(directory / "wheels"),
        "runner": runner,
        "command": list(command),
        "protocol": protocol,
        "install": install,
    }
