"""What `[tool.modelops]` says of containers: their images, their limits, and what is opened to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pytest_modelops.config import readers
from pytest_modelops.config.docker import ContainerSettings
from pytest_modelops.config.tables import Table
from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.cell import Role

T = TypeVar("T")

KEEP = ("never", "failed", "always")
"""When a cell is left up."""
KEYS = (
    *("image", "prebuilt", "require-modules", "memory", "cpus", "pids", "disk", "user"),
    *("network", "read-only", "writable", "capabilities", "new-privileges", "pass-env"),
)


def containers(table: Table, *, keep: str) -> ContainerSettings:
    """Read the table of the container backend.

    Args:
        keep: when cells are left up, which has a flag and so is read elsewhere.
    """
    default = ContainerSettings()
    none: dict[Role, str] = {}
    images = table.get("image", readers.images, none)
    prebuilt = table.get("prebuilt", readers.images, none)
    if both := [role.value for role in Role if role in images and role in prebuilt]:
        raise WrongInput(
            f"{table.place}: {' and '.join(both)} have both image and prebuilt; packages are added to the one, and the "
            "other is run as it is; write one of them, for all or by role"
        )

    def each(key: str, read: Callable[[Any], T]) -> tuple[T, ...]:
        return table.get(key, lambda value: readers.each(value, read), ())

    return ContainerSettings(
        images={**default.images, **images},
        prebuilt=prebuilt,
        require_modules=each("require-modules", readers.module),
        memory=table.get("memory", readers.size, default.memory),
        cpus=table.get("cpus", readers.cpus, default.cpus),
        pids=table.get("pids", readers.count, default.pids),
        disk=table.get("disk", readers.size, default.disk),
        user=table.get("user", readers.user, default.user),
        network=table.get("network", readers.switch, default.network),
        read_only=table.get("read-only", readers.switch, default.read_only),
        writable=each("writable", readers.directory_in_image),
        capabilities=each("capabilities", readers.capability),
        new_privileges=table.get("new-privileges", readers.switch, default.new_privileges),
        pass_env=each("pass-env", readers.variable_name),
        keep=keep,
    )
