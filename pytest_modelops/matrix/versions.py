"""What the settings ask for, and which releases a Dask request means.

Requests hold their text and where it was written, for messages.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Protocol

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from pytest_modelops.errors import ModelopsError, WrongInput
from pytest_modelops.matrix.cell import PythonVersion, Role


class NoIndex(ModelopsError):
    """No index answered, so nothing is known about releases."""


class Releases(Protocol):
    """The releases of Dask that an index has. Each method raises `NoIndex` if no index answers.

    A plan asks the same question several times, so implementations cache.
    """

    @property
    def note(self) -> str:
        """What limits the answers (`as of 2024-11-01`), for people; may be empty."""

    def latest(self) -> Version:
        """The newest final release."""

    def exists(self, version: Version) -> bool:
        """Return whether the release exists, final or not."""

    def within(self, specifier: SpecifierSet) -> Sequence[Version]:
        """Return the final releases in the specifier, oldest first; an empty specifier has all."""

    def near(self, version: Version) -> Sequence[Version]:
        """Return a few final releases around a version that does not exist, oldest first."""


class Keyword(enum.Enum):
    """Requests that are neither a release nor a range."""

    LATEST = "latest"
    INSTALLED = "installed"


@dataclasses.dataclass(frozen=True)
class DaskRequest:
    """A Dask that was asked for.

    Attributes:
        text: for messages and to find duplicates: a release in its normal form (`2024.10.0`), a keyword, or a range
            without spaces.
        wanted: what the text means.
    """

    text: str
    wanted: Version | SpecifierSet | Keyword

    @classmethod
    def parse(cls, text: str) -> DaskRequest:
        """Read a release, `latest`, `installed` or a range.

        Raises:
            ValueError: the text is none of these; the message lists the valid forms.
        """
        text = "".join(text.split())
        if text in {keyword.value for keyword in Keyword}:
            return cls(text, Keyword(text))
        wanted = _parse(text, f"a release such as 2024.10.0, latest, installed, or a range such as {_A_RANGE}")
        return cls(str(wanted) if isinstance(wanted, Version) else text, wanted)

    @property
    def is_range(self) -> bool:
        """Whether it may mean several releases."""
        return isinstance(self.wanted, SpecifierSet)


def parse_specifier(text: str) -> SpecifierSet:
    """Read a range, or a release as the range that holds only it; `ValueError` if the text is neither."""
    wanted = _parse("".join(text.split()), f"a release such as 2024.10.0, or a range such as {_A_RANGE}")
    return SpecifierSet(f"=={wanted}") if isinstance(wanted, Version) else wanted


_A_RANGE = ">=2024.8,<2025"


def _parse(text: str, forms: str) -> Version | SpecifierSet:
    """Read a release or a range. `==2024.10.0` is a range: the first character decides."""
    try:
        if not text[:1].isdigit():
            return SpecifierSet(text or "?")
        release = Version(text)
    except (InvalidVersion, InvalidSpecifier):
        raise ValueError(f"{text!r} is not a Dask version; write {forms}") from None
    # To pip, 2024.10 is 2024.10.0; to people who write Python 3.12 beside it, it is any release of that month.
    if len(release.release) < 3:  # noqa: PLR2004 - year, month, number
        family = ".".join(map(str, release.release))
        raise ValueError(
            f"{text!r} is not a whole release of Dask; write one such as 2024.10.0, or the range =={family}.*"
        )
    return release


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoleRequest:
    """The Python, the Dask or both that an entry of `include` has for one role."""

    python: PythonVersion | None = None
    dask: DaskRequest | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inclusion:
    """One entry of `include`: a cell to add.

    Attributes:
        roles: for each role that differs, its versions.
        origin: where the entry stands, for messages (`pyproject.toml: [tool.modelops.matrix] include[0]`).
    """

    python: PythonVersion
    dask: DaskRequest
    roles: Mapping[Role, RoleRequest] = dataclasses.field(default_factory=dict)
    origin: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class RollingRequest:
    """One entry of `rolling`: cells that are upgraded while they run.

    Attributes:
        python, dask: with which they start.
        to: versions at the end, where they differ.
        orders: in which the roles are replaced; each is a cell.
        origin: where the entry stands, for messages.
    """

    python: PythonVersion
    dask: DaskRequest
    to: RoleRequest
    orders: tuple[tuple[Role, ...], ...]
    origin: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exclusion:
    """One entry of `exclude`: cells to leave out. `None` matches everything.

    Attributes:
        python: `3.13` matches every 3.13, `3.13.1` only that one.
        text: the entry as it was written, for the reason.
    """

    python: PythonVersion | None = None
    dask: SpecifierSet | None = None
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatrixSettings:
    """Which cells were asked for.

    Attributes:
        python: the first axis; empty for the interpreter that runs pytest.
        dask: the second axis; empty for the Dask that is installed beside pytest.
        select: glob patterns of cell ids, one of which must match; empty for all cells.
        replaced: whether an axis is not the configuration's, but was given for this run.
        python_origin, dask_origin, exclude_origin, select_origin: where each was written, for messages.
    """

    python: tuple[PythonVersion, ...] = ()
    dask: tuple[DaskRequest, ...] = ()
    exclude: tuple[Exclusion, ...] = ()
    include: tuple[Inclusion, ...] = ()
    rolling: tuple[RollingRequest, ...] = ()
    select: tuple[str, ...] = ()
    replaced: bool = False
    python_origin: str = "this interpreter"
    dask_origin: str = "the installed Dask"
    exclude_origin: str = "exclude"
    select_origin: str = "--modelops-cell"


def expand(request: DaskRequest, *, releases: Releases, installed: Version | None) -> tuple[Version | None, ...]:
    """Return the releases that a request means, oldest first.

    Without an index, a release is taken as it is, and any other request is one unknown release, `None`: the cell
    exists, and its `resolve` check reports what is wrong.

    Args:
        installed: the release of Dask beside pytest, `None` if there is none.

    Raises:
        WrongInput: no such release exists; the message does not name the setting.
    """
    if request.wanted is Keyword.INSTALLED:
        if installed is None:
            raise WrongInput("no dask is installed beside pytest; install distributed, or name a release")
        return (installed,)
    try:
        found = _ask(request, releases)
        if not found:
            raise WrongInput(_missing(request, releases))
    except NoIndex:
        return (request.wanted if isinstance(request.wanted, Version) else None,)
    return found


def _ask(request: DaskRequest, releases: Releases) -> tuple[Version, ...]:
    match request.wanted:
        case Version() as release:
            return (release,) if releases.exists(release) else ()
        case SpecifierSet() as specifier:
            return tuple(releases.within(specifier))
        case _:
            return (releases.latest(),)


def _missing(request: DaskRequest, releases: Releases) -> str:
    """Return a message that the index has no such release, and which releases it has."""
    note = f" ({releases.note})" if releases.note else ""
    if isinstance(request.wanted, Version):
        near = ", ".join(map(str, releases.near(request.wanted)))
        return f"the index has no Dask {request.text}{note}; near it: {near or 'no other release'}"
    return f"no final release of Dask is in {request.text}{note}; the newest is {releases.latest()}"
