"""`[tool.modelops.matrix]`, and the flags that replace its axes and select cells."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pytest_modelops.config.setting import Place, Type, Values, later, setting, table
from pytest_modelops.config.types import DASKS, GLOBS, PYTHONS

if TYPE_CHECKING:
    from pytest_modelops.matrix.cell import PythonVersion
    from pytest_modelops.matrix.versions import DaskRequest, Exclusion, Inclusion, MatrixSettings, RollingRequest


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatrixTable:
    """Which cells there are; see `MatrixSettings`."""

    python: tuple[PythonVersion, ...] = setting(
        PYTHONS,
        '`"3.12"`: the newest installed patch release of 3.12; `"3.12.1"`: that release. Write text, since TOML drops '
        "the zero of the number 3.10. By default the interpreter that runs pytest.",
        (),
        shown="",
        name="python",
        metavar="V",
        flag_help="Replace the Python axis: X.Y or X.Y.Z. Without `include` and `rolling`.",
    )
    dask: tuple[DaskRequest, ...] = setting(
        DASKS,
        'A release (`"2024.10.0"`), `"latest"` of the index, `"installed"` beside pytest, or a range '
        '(`">=2024.8,<2025"`: every final release in it).',
        (),
        shown='"installed"',
        name="dask",
        metavar="V",
        flag_help="Replace the Dask axis: a release, latest, installed or a range. Without `include` and `rolling`.",
    )
    exclude: tuple[Exclusion, ...] = setting(
        later("matrix_entries", "EXCLUDE"),
        'Entries with `python`, `dask` (a release or range) or both; `"3.13"` means every 3.13. An entry that matches '
        "nothing is allowed.",
        (),
    )
    include: tuple[Inclusion, ...] = setting(
        later("matrix_entries", "INCLUDE"),
        "Cells to add: entries with `python` and `dask`. For a skew cell, `client`, `scheduler` or `worker` have a "
        "`python` or `dask` of their own.",
        (),
    )
    rolling: tuple[RollingRequest, ...] = setting(
        later("matrix_entries", "ROLLING"),
        "Cells that are upgraded while they run, role by role: entries with `from`, `to` and `order`. See "
        "[rolling upgrades](rolling.md).",
        (),
    )
    select: tuple[str, ...] = setting(
        GLOBS, "Run only the cells whose id matches, such as `'py3.13-*'`.", (), key="", name="cell", metavar="GLOB"
    )


def _matrix(found: MatrixTable, _: Values, place: Place) -> MatrixSettings:
    from pytest_modelops.matrix.versions import MatrixSettings

    def origin(option: str) -> str:
        given = place.strongest(option)
        return given.origin if given else str(place.key(option))

    axis_given = place.strongest("python") or place.strongest("dask")
    selection = place.strongest("cell")
    return MatrixSettings(
        python=found.python,
        dask=found.dask,
        exclude=found.exclude,
        include=() if axis_given else found.include,
        rolling=() if axis_given else found.rolling,
        select=found.select,
        replaced=axis_given is not None,
        python_origin=origin("python"),
        dask_origin=origin("dask"),
        exclude_origin=str(place.key("exclude")),
        select_origin=selection.origin if selection else "",
    )


MATRIX: Type[MatrixSettings] = table(MatrixTable, _matrix, section=True)
