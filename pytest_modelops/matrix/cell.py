"""A cell: one point of the matrix. Ids are printed for people and never parsed."""

from __future__ import annotations

import dataclasses
import enum
import functools
import re
from collections.abc import Collection, Mapping

from packaging.version import Version

from pytest_modelops.errors import WrongInput


class Role(enum.Enum):
    """The three parts of a Dask deployment."""

    CLIENT = "client"
    SCHEDULER = "scheduler"
    WORKER = "worker"


@functools.total_ordering
@dataclasses.dataclass(frozen=True)
class PythonVersion:
    """A Python that was asked for: `3.12` (any installed patch release) or `3.12.1` (that one).

    Attributes:
        release: two or three numbers.
        pre: pre-release suffix such as `rc1`, only with three numbers; empty for a final release.
    """

    release: tuple[int, ...]
    pre: str = ""

    _PATTERN = re.compile(r"(\d+)\.(\d+)(?:\.(\d+)((?:a|b|rc)\d+)?)?")

    @classmethod
    def parse(cls, text: str) -> PythonVersion:
        """Read `X.Y` or `X.Y.Z`; `ValueError` if the text is neither."""
        match = cls._PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a Python version")
        numbers = tuple(int(part) for part in match.groups()[:3] if part is not None)
        return cls(numbers, match[4] or "")

    def admits(self, actual: Version) -> bool:
        """Return whether an interpreter of that version satisfies the request."""
        if len(self.release) == 2:  # noqa: PLR2004 - X.Y
            return actual.release[:2] == self.release
        return actual == Version(str(self))

    def __str__(self) -> str:
        return ".".join(map(str, self.release)) + self.pre

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, PythonVersion):
            return NotImplemented
        return (Version(str(self)), len(self.release)) < (Version(str(other)), len(other.release))


@functools.total_ordering
@dataclasses.dataclass(frozen=True)
class Versions:
    """The Python and the Dask of a role.

    Attributes:
        python: the Python that was asked for.
        dask: the release of dask and distributed; `None` when no index could be asked what `latest` or a range is.
        dask_request: what the user wrote (`latest`, `>=2024.8`, `2024.10.0`, `installed`).
        as_is: the role runs in the host's own interpreter with the packages it has; nothing is built.
        variant: tells a backend's environments for the same versions apart; empty where all roles share one.
    """

    python: PythonVersion
    dask: Version | None
    dask_request: str = ""
    as_is: bool = False
    variant: str = ""

    @functools.cached_property
    def dask_text(self) -> str:
        """The Dask release, or the request if no index could be asked."""
        return str(self.dask) if self.dask is not None else self.dask_request

    @functools.cached_property
    def key(self) -> tuple[PythonVersion, Version, str, str]:
        """What versions are ordered and compared by."""
        unknown = Version("99999") if self.dask is None else self.dask
        return self.python, unknown, self.dask_text, self.variant

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Versions) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Versions):
            return NotImplemented
        return self.key < other.key

    def __str__(self) -> str:
        return f"py{self.python}-dask{self.dask_text}"


@dataclasses.dataclass(frozen=True)
class Rolling:
    """An upgrade of a cell while it runs.

    Attributes:
        to: the versions that every role has at the end.
        order: of the roles, in which they are replaced; each is there once.
    """

    to: Versions
    order: tuple[Role, ...]

    @property
    def states(self) -> tuple[tuple[Role, ...], ...]:
        """The roles that are replaced in each state, the first state having one of them."""
        return tuple(self.order[: count + 1] for count in range(len(self.order)))


@functools.total_ordering
@dataclasses.dataclass(frozen=True)
class Cell:
    """One point of the matrix: the versions of each role.

    `base` is its place in the table. A cell whose roles differ is a skew cell. One with `rolling` starts with these
    versions and is upgraded.
    """

    base: Versions
    client: Versions
    scheduler: Versions
    worker: Versions
    rolling: Rolling | None = None

    @classmethod
    def uniform(cls, versions: Versions) -> Cell:
        return cls(versions, versions, versions, versions)

    def with_variants(self, variants: Mapping[Role, str]) -> Cell:
        """Return the cell for a backend whose roles have environments of their own (see `Versions.variant`)."""
        changed = {role.value: dataclasses.replace(self[role], variant=variant) for role, variant in variants.items()}
        return dataclasses.replace(self, **changed)  # type: ignore[arg-type] # only roles

    def __getitem__(self, role: Role) -> Versions:
        return {Role.CLIENT: self.client, Role.SCHEDULER: self.scheduler, Role.WORKER: self.worker}[role]

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Cell):
            return NotImplemented
        return self._place < other._place

    @property
    def _place(self) -> tuple[object, ...]:
        rolling = (self.rolling.to, [role.value for role in self.rolling.order]) if self.rolling is not None else ()
        return self.base, self.client, self.scheduler, self.worker, rolling

    def upgraded(self, role: Role) -> Versions:
        """Return what a role has at the end of the upgrade; what it has, if there is none."""
        if self.rolling is None:
            return self[role]
        return dataclasses.replace(self.rolling.to, variant=self[role].variant)

    def after(self, replaced: Collection[Role]) -> Cell:
        """Return the cell that this one is when these roles have been replaced."""
        now = {role: self.upgraded(role) if role in replaced else self[role] for role in Role}
        return Cell(self.base, now[Role.CLIENT], now[Role.SCHEDULER], now[Role.WORKER])

    @property
    def needed(self) -> tuple[Versions, ...]:
        """The distinct versions of its roles, also of the upgraded ones."""
        return tuple(dict.fromkeys([*map(self.__getitem__, Role), *map(self.upgraded, Role)]))

    @property
    def skew(self) -> bool:
        return len({(role.python, role.dask_text) for role in (self.client, self.scheduler, self.worker)}) > 1

    @functools.cached_property
    def id(self) -> str:
        """`py3.12-dask2024.10.0`, and for each role that differs `+worker-py3.13` or `+worker-dask2024.8.0`.

        With an upgrade: `py3.12-dask2024.10.0..2026.8.0-worker-scheduler-client`.
        """
        if self.rolling is not None:
            pythons = dict.fromkeys([str(self.base.python), str(self.rolling.to.python)])
            dasks = dict.fromkeys([self.base.dask_text, self.rolling.to.dask_text])
            order = (role.value for role in self.rolling.order)
            return "-".join([f"py{'..'.join(pythons)}", f"dask{'..'.join(dasks)}", *order])
        parts = [str(self.base)]
        for role in Role:
            versions = self[role]
            differs = []
            if versions.python != self.base.python:
                differs.append(f"py{versions.python}")
            if versions.dask_text != self.base.dask_text:
                differs.append(f"dask{versions.dask_text}")
            if differs:
                parts.append("-".join([role.value, *differs]))
        return "+".join(parts)

    def __str__(self) -> str:
        return self.id


OLDEST_PYTHON = PythonVersion((3, 9))
"""Oldest Python of a scheduler or worker; the preload supports it."""
OLDEST_CLIENT_PYTHON = PythonVersion((3, 10))
"""Oldest Python of a client; the agent supports it."""


def check_role(role: Role, versions: Versions) -> None:
    """Raise `WrongInput` if the code that runs in the cell does not support this Python."""
    oldest = OLDEST_CLIENT_PYTHON if role is Role.CLIENT else OLDEST_PYTHON
    if versions.python < oldest:
        raise WrongInput(
            f"Python {versions.python} for the {role.value}: a cell's {role.value} needs {oldest} or newer"
        )
