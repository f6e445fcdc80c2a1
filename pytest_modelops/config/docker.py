"""`[tool.modelops.docker]`: what cells in containers are made of, and what they may do."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_modelops.config.setting import Place, Type, Values, leaf, many, not_one_of, setting, shown, table
from pytest_modelops.config.types import COUNT, MODULE, SWITCH, mapping, matching, text, variable_name
from pytest_modelops.errors import WrongInput

if TYPE_CHECKING:
    from pytest_modelops.matrix.cell import Role

DEFAULT_IMAGE = "python:{python}-slim"
_IMAGE = re.compile(r"[a-z0-9][\w.-]*(:\d+)?(/[a-z0-9][a-z0-9._-]*)*(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?")
_LEAST_BYTES = 6 * 2**20
"""Engines refuse less."""
_LEAST_CPUS = 0.01


def _image(value: object) -> str:
    name = text(value)
    if not _IMAGE.fullmatch(name.replace("{python}", "3.12").replace("{dask}", "2024.10.0")):
        raise WrongInput(
            f"{name!r} is not an image's name; write one such as python:{{python}}-slim or registry.example/app:1.2; "
            "{python} and {dask} may stand in it"
        )
    return name


def _images(value: object) -> Mapping[Role, str]:
    """By role, the name of an image: one for all, or a table."""
    from pytest_modelops.matrix.cell import Role

    if not isinstance(value, dict):
        return dict.fromkeys(Role, _image(value))
    roles = {role.value: role for role in Role}

    def check(name: str) -> None:
        if name not in roles:
            raise WrongInput(not_one_of(name, "a role", roles))

    found = mapping(value, "images by role", check, _image, may_be_empty=True)
    return {roles[name]: content for name, content in found.items()}


def _size(value: object) -> int:
    size = value.strip() if isinstance(value, str) else ""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", size, re.IGNORECASE)
    count = int(float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " ")) if match else 0
    if count < _LEAST_BYTES:
        raise WrongInput(f'{shown(value)} is not a size from 6m up; write one such as "512m" or "2g"')
    return count


def _cpus(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not _LEAST_CPUS <= value < math.inf:
        raise WrongInput(f"{shown(value)} is not a number of CPUs from 0.01 up")
    return float(value)


def _directory_in_image(value: object) -> str:
    name = text(value)
    if not re.fullmatch(r"(/[^/:\0]+)+", name) or ".." in name.split("/") or name.startswith("/modelops"):
        raise WrongInput(f"{name!r} is not the absolute path of a directory in an image, such as /var/cache/app")
    return name


def _capability(value: object) -> str:
    name = text(value).upper().removeprefix("CAP_")
    if not re.fullmatch(r"[A-Z][A-Z_]+", name):
        raise WrongInput(f"{value!r} is not a Linux capability, such as SYS_PTRACE")
    return name


_TEXT = {"type": "string", "minLength": 1}
_BY_ROLE = {
    "type": "object",
    "properties": dict.fromkeys(("client", "scheduler", "worker"), _TEXT),
    "additionalProperties": False,
}
_IMAGES = leaf(_images, {"anyOf": [_TEXT, _BY_ROLE]})
_SIZE = leaf(_size, {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*[kKmMgGtT]?([iI]?[bB])?\s*$"})
_CPUS = leaf(_cpus, {"type": "number", "minimum": _LEAST_CPUS})
_USER = matching(r"[\w.-]+(:[\w.-]+)?", 'is not a user; write "1000:1000", or a name that is in the image')


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContainerSettings:
    """What cells in containers are made of, and what they may do. By default, only what Dask needs is allowed.

    Attributes:
        image, prebuilt: by role, each role in one of the two; see `image_of`.
        memory, disk: bytes.
        cpus: `None`: two, or as many as the engine has.
        disk: `None`: on the engine's disk.
        user: `None`: the image's own unless that is root, else 1000:1000.
        keep: when a cell is left up: `never`, `failed` or `always`; set by `[tool.modelops] keep`.
    """

    image: Mapping[Role, str] = setting(
        _IMAGES,
        "The image to which packages are added: a name, or a table by role (`client`, `scheduler`, `worker`). "
        "`{python}` and `{dask}` stand for the role's versions.",
        dict,
        shown=f'"{DEFAULT_IMAGE}"',
    )
    prebuilt: Mapping[Role, str] = setting(
        _IMAGES,
        "An image that is run as it is: a name, or a table by role. Set either `image` or `prebuilt` for a role, not "
        "both. `versions` fails if the image does not have what `requirements` and `constraints` ask for.",
        dict,
    )
    require_modules: tuple[str, ...] = setting(many(MODULE), "Modules that must be found in every image.", ())
    memory: int = setting(
        _SIZE, 'Memory of each container, swap included; from `"6m"` up.', lambda: 2 * 2**30, shown='"2g"'
    )
    cpus: float | None = setting(
        _CPUS,
        "CPUs of each container, fractions too: 2 by default, or as many as the engine has. Where the engine has fewer "
        "than you set, a note says so.",
    )
    pids: int = setting(COUNT, "Processes and threads of each container.", 512)
    disk: int | None = setting(
        _SIZE, "Size of each container's writable space, which is then in memory. Default: on the engine's disk."
    )
    user: str | None = setting(
        _USER,
        'The user of all processes, `"UID:GID"` or a name in the image. Default: the image\'s own user unless that is '
        'root, else `"1000:1000"`.',
    )
    network: bool = setting(SWITCH, "Whether containers have an outbound network.", default=False)
    read_only: bool = setting(SWITCH, "Whether the image's files are read-only.", default=True)
    writable: tuple[str, ...] = setting(
        many(leaf(_directory_in_image, {"type": "string", "pattern": "^/"})),
        "Directories of the image that stay writable.",
        (),
    )
    capabilities: tuple[str, ...] = setting(
        many(leaf(_capability, _TEXT)), "Linux capabilities that each container gets.", ()
    )
    new_privileges: bool = setting(
        SWITCH, "Whether processes may gain privileges, as setuid programs do.", default=False
    )
    pass_env: tuple[str, ...] = setting(
        many(leaf(variable_name, _TEXT)),
        "Variables of the host that are passed to every container. "
        "`pass-env` of `[tool.modelops.environment]` does that on every backend.",
        (),
    )
    keep: str = "never"

    def image_of(self, role: Role) -> tuple[str, bool]:
        """Return the template of a role's image, and whether it is a prebuilt one."""
        if role in self.prebuilt:
            return self.prebuilt[role], True
        return self.image.get(role, DEFAULT_IMAGE), False

    @property
    def variants(self) -> Mapping[Role, str]:
        """What tells the roles' environments apart besides versions: empty while all have the same image."""
        from pytest_modelops.matrix.cell import Role

        if len({self.image_of(role) for role in Role}) == 1:
            return {}
        return {role: role.value for role in Role}


def _finish(found: ContainerSettings, _: Values, place: Place) -> ContainerSettings:
    if both := sorted(role.value for role in found.image if role in found.prebuilt):
        raise WrongInput(
            f"{place}: {' and '.join(both)} have both image and prebuilt; packages are added to an image, and a "
            "prebuilt one is run as it is; set one of them, for all or by role"
        )
    return found


CONTAINERS: Type[ContainerSettings] = table(ContainerSettings, _finish, section=True)
