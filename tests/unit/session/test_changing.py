"""From two cells of reports to changes, and from some of the changes to a cell that can be run."""

from __future__ import annotations

import pytest

from pytest_modelops.errors import WrongInput
from pytest_modelops.report.changes import Drift
from pytest_modelops.report.model import CellReport, EnvironmentReport
from pytest_modelops.session.changing import Difference
from tests.unit.report.made import broken, cell


def environment(python: str, *requirements: str, roles: str = "client scheduler worker") -> EnvironmentReport:
    lines = "".join(f"{line}\n" for line in ("dask==2024.10.0", "distributed==2024.10.0", *requirements))
    return EnvironmentReport(python=python, dask="2024.10.0", roles=roles.split(), requirements=lines)


def green(*requirements: str, python: str = "3.12.1") -> CellReport:
    return cell(environments=(environment(python, *requirements),))


def red(*requirements: str, python: str = "3.12", patch: str = "3.12.1", dask: str = "2024.10.0") -> CellReport:
    return broken(python, dask, environments=(environment(patch, *requirements),))


def changes(difference: Difference) -> list[str]:
    return [str(change) for change in difference.changes]


def test_packages_come_first_and_what_only_one_cell_has_is_no_change() -> None:
    difference = Difference(
        green("msgpack==1.1.0", "zict==3", "gone==1"),
        red("msgpack==1.2.0", "zict==3", "added==5", python="3.13", patch="3.13.0", dask="2026.8.0"),
    )
    assert changes(difference) == ["msgpack 1.1.0 → 1.2.0", "Dask 2024.10.0 → 2026.8.0", "Python 3.12 → 3.13"]
    none, msgpack = difference.mixture([]), difference.mixture(difference.changes[:1])
    assert (none.id, none.python, none.dask) == ("py3.12-dask2024.10.0", "3.12", "2024.10.0")
    assert none.constraints == ("added==5", "gone==1", "msgpack==1.1.0", "zict==3")
    assert msgpack.constraints == ("added==5", "gone==1", "msgpack==1.2.0", "zict==3")
    assert difference.mixture(difference.changes[1:]).id == "py3.13-dask2026.8.0"


def test_a_newer_patch_release_of_python_is_a_change() -> None:
    difference = Difference(green("zict==3"), red("zict==3", patch="3.12.4"))
    assert changes(difference) == ["Python 3.12.1 → 3.12.4"]
    assert difference.mixture(difference.changes).id == "py3.12.4-dask2024.10.0"


def test_the_roles_of_a_skew_cell_change_together_and_packages_are_pinned_for_each_python() -> None:
    both = (
        environment("3.12.1", "numpy==2.2", "zict==3", roles="client scheduler"),
        environment("3.9.2", "numpy==2.0", "zict==3", roles="worker"),
    )
    skew = cell(worker="3.9", environments=both)
    difference = Difference(green("numpy==2.2", "zict==3"), skew)
    assert changes(difference) == [
        "numpy 2.2 → 2.2 (Python 3.12), 2.0 (Python 3.9)",
        "Cell py3.12-dask2024.10.0 → py3.12-dask2024.10.0+worker-py3.9",
    ]
    everything = difference.mixture(difference.changes)
    assert (everything.id, everything.python) == (skew.id, "")
    assert everything.constraints == (
        "numpy==2.2 ; python_version == '3.12'",
        "numpy==2.0 ; python_version == '3.9'",
        "zict==3",
    )


def test_a_file_is_not_pinned_but_named() -> None:
    difference = Difference(
        green("zict==2", "libs @ file:///~/libs-1-py3-none-any.whl"),
        red("zict==3", "libs @ file:///~/libs-2-py3-none-any.whl"),
    )
    assert difference.mixture([]).constraints == ("zict==2",)
    assert difference.beyond == (Drift("libs", "1", "2"),)


def test_the_lock_alone_is_enough_where_install_broke() -> None:
    difference = Difference(green("msgpack==1.1.0"), broken(name="install", lock={"msgpack": "1.2.0"}))
    assert changes(difference) == ["msgpack 1.1.0 → 1.2.0", "Python 3.12 → 3.13"]


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (red("zict==3"), "nothing to bisect"),
        (CellReport(id="py3.12-dask2024.10.0", python="3.12", dask="2024.10.0"), "no lock of py3.12-dask2024.10.0"),
        (
            broken(environments=(environment("3.12.1", "zict==3"), environment("3.12.1", "zict==4"))),
            "zict 3 and 4 for Python 3.12",
        ),
    ],
)
def test_what_cannot_be_bisected_is_refused(one: CellReport, message: str) -> None:
    with pytest.raises(WrongInput, match=message):
        Difference(green("zict==3"), one)
