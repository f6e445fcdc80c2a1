"""What can be set for containers; imports nothing of the engine's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pytest_modelops.matrix.cell import Role

DEFAULT_IMAGE = "python:{python}-slim"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContainerSettings:
    """What cells in containers are made of, and what they may do. The defaults let them do nothing that Dask needs not.

    Attributes:
        images: by role, the base image to which packages are added; `{python}` and `{dask}` stand for the role's own.
        prebuilt: by role, the image that is run as it is; a role has one or the other.
        require_modules: modules that must be found in every image.
        memory: bytes that a container may use, swap included.
        cpus: CPUs that a container may use; `None`: two, or as many as the engine has.
        pids: processes and threads that a container may have.
        disk: bytes of a container's writable space, which then lies in memory; `None`: on the engine's disk.
        user: `UID:GID` or a name in the image; `None`: the image's own unless that is root, else 1000:1000.
        network: whether there is a way out of the cell's network.
        read_only: whether the image's files can only be read.
        writable: directories of the image that can be written to all the same.
        capabilities: Linux capabilities that a container gets.
        new_privileges: whether a process may gain privileges (setuid programs).
        pass_env: variables of the host that go into every container.
        keep: when a cell is left up: `never`, `failed` or `always`.
    """

    images: Mapping[Role, str] = dataclasses.field(default_factory=lambda: dict.fromkeys(Role, DEFAULT_IMAGE))
    prebuilt: Mapping[Role, str] = dataclasses.field(default_factory=dict)
    require_modules: tuple[str, ...] = ()
    memory: int = 2 * 2**30
    cpus: float | None = None
    pids: int = 512
    disk: int | None = None
    user: str | None = None
    network: bool = False
    read_only: bool = True
    writable: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    new_privileges: bool = False
    pass_env: tuple[str, ...] = ()
    keep: str = "never"

    def image_of(self, role: Role) -> tuple[str, bool]:
        """The template of a role's image, and whether it is a prebuilt one."""
        if role in self.prebuilt:
            return self.prebuilt[role], True
        return self.images[role], False

    @property
    def variants(self) -> Mapping[Role, str]:
        """What tells the roles' environments apart besides versions: empty while all have the same image."""
        if len({self.image_of(role) for role in Role}) == 1:
            return {}
        return {role: role.value for role in Role}
