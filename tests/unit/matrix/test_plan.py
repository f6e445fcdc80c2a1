"""From axes, `exclude`, `include` and `--modelops-cell` to the plan, and the plan as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest
from packaging.version import Version

from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.cell import Cell, PythonVersion, Role
from pytest_modelops.matrix.making import make_plan
from pytest_modelops.matrix.plan import Plan
from pytest_modelops.matrix.versions import (
    DaskRequest,
    Exclusion,
    Inclusion,
    MatrixSettings,
    RoleRequest,
    RollingRequest,
    parse_specifier,
)
from tests.unit.matrix.index import Index

THIS_PYTHON = PythonVersion.parse("3.12.1")
RELEASES = ("2024.8.0", "2024.10.0", "2026.8.0rc1", "2026.8.0")
SILENT_INDEX = Index(reachable=False)


def matrix(
    python: Sequence[str] = (),
    dask: Sequence[str] = (),
    *,
    exclude: Sequence[tuple[str | None, str | None]] = (),
    include: Sequence[Inclusion] = (),
    rolling: Sequence[RollingRequest] = (),
    select: Sequence[str] = (),
) -> MatrixSettings:
    return MatrixSettings(
        python=tuple(map(PythonVersion.parse, python)),
        dask=tuple(map(DaskRequest.parse, dask)),
        exclude=tuple(
            Exclusion(
                python=PythonVersion.parse(python) if python else None,
                dask=parse_specifier(dask) if dask else None,
                text=f"entry {index}",
            )
            for index, (python, dask) in enumerate(exclude)
        ),
        include=tuple(include),
        rolling=tuple(rolling),
        select=tuple(select),
        python_origin="f: python",
        dask_origin="f: dask",
        exclude_origin="f: exclude",
        select_origin="--cell",
    )


def inclusion(python: str, dask: str, **roles: Mapping[str, str]) -> Inclusion:
    return Inclusion(
        python=PythonVersion.parse(python),
        dask=DaskRequest.parse(dask),
        roles={
            Role(role): RoleRequest(
                python=PythonVersion.parse(asked["python"]) if "python" in asked else None,
                dask=DaskRequest.parse(asked["dask"]) if "dask" in asked else None,
            )
            for role, asked in roles.items()
        },
        origin="f: include[0]",
    )


def upgrade(python: str, dask: str, *orders: str, to_python: str = "", to_dask: str = "") -> RollingRequest:
    return RollingRequest(
        python=PythonVersion.parse(python),
        dask=DaskRequest.parse(dask),
        to=RoleRequest(
            python=PythonVersion.parse(to_python) if to_python else None,
            dask=DaskRequest.parse(to_dask) if to_dask else None,
        ),
        orders=tuple(tuple(map(Role, order.split())) for order in orders),
        origin="f: rolling[0]",
    )


def plan_of(
    settings: MatrixSettings,
    *,
    index: Index | None = None,
    installed: str = "2026.8.0",
    this_python: PythonVersion = THIS_PYTHON,
    as_is_allowed: bool = True,
) -> Plan:
    return make_plan(
        settings,
        releases=index or Index(*RELEASES),
        installed=Version(installed),
        this_python=this_python,
        as_is_allowed=as_is_allowed,
    )


def ids(plan: Plan) -> list[str]:
    return [cell.id for cell in plan.cells]


def reasons(plan: Plan) -> dict[str, str]:
    return {left.id: left.reason for left in plan.left_out}


def message_of(settings: MatrixSettings) -> str:
    with pytest.raises(WrongInput) as raised:
        plan_of(settings)
    message = str(raised.value)
    assert "\n" not in message
    return message


def as_is(cell: Cell) -> list[str]:
    return [role.value for role in Role if cell[role].as_is]


# The product.


def test_without_configuration_it_is_this_interpreter_with_the_dask_it_has_and_no_index_is_asked() -> None:
    plan = plan_of(matrix(), index=SILENT_INDEX)
    assert ids(plan) == ["py3.12.1-dask2026.8.0"]
    assert as_is(plan.cells[0]) == ["client", "scheduler", "worker"]
    assert plan.left_out == ()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param(
            matrix(["3.13", "3.10"], ["2024.10.0", "2024.8.0"]),
            ["py3.10-dask2024.8.0", "py3.10-dask2024.10.0", "py3.13-dask2024.8.0", "py3.13-dask2024.10.0"],
            id="every Python meets every Dask, in order of version",
        ),
        pytest.param(
            matrix(["3.12"], [">=2024.10"]),
            ["py3.12-dask2024.10.0", "py3.12-dask2026.8.0"],
            id="a range has a cell for every final release in it",
        ),
        pytest.param(
            matrix(["3.12"], ["latest", "2026.8.0", ">2024.10.0"]),
            ["py3.12-dask2026.8.0"],
            id="requests for the same release make one cell",
        ),
        pytest.param(
            matrix(["3.12", "3.12.1"], ["latest"]),
            ["py3.12-dask2026.8.0", "py3.12.1-dask2026.8.0"],
            id="a Python with and one without a patch are two",
        ),
        pytest.param(
            matrix(["3.12", "3.12.1", "3.12.2"], ["latest"], exclude=[("3.12.1", None)]),
            ["py3.12-dask2026.8.0", "py3.12.2-dask2026.8.0"],
            id="exclude with a patch spares any patch and other patches",
        ),
        pytest.param(
            matrix(["3.12"], ["2026.8.0rc1", "2024.8.0"], exclude=[(None, ">=2026.1")]),
            ["py3.12-dask2024.8.0"],
            id="exclude reaches pre-releases",
        ),
        pytest.param(
            matrix(["3.8", "3.12"], ["latest"], exclude=[("3.8", None)]),
            ["py3.12-dask2026.8.0"],
            id="an excluded Python may be too old to run",
        ),
    ],
)
def test_cells_of_a_plan(settings: MatrixSettings, expected: list[str]) -> None:
    assert ids(plan_of(settings)) == expected


@pytest.mark.parametrize("request_", ["latest", ">=2024.8"])
def test_without_an_index_the_cell_exists_with_an_unknown_dask(request_: str) -> None:
    plan = plan_of(matrix(["3.12"], [request_, "2024.99.0"]), index=SILENT_INDEX)
    assert ids(plan) == ["py3.12-dask2024.99.0", f"py3.12-dask{request_}"]
    assert plan.cells[1].worker.dask is None
    assert plan.cells[1].worker.dask_request == request_


@pytest.mark.parametrize(
    ("python", "dask", "message"),
    [
        (["3.12", "3.13", "3.12"], [], "f: python: '3.12' is there twice"),
        ([], ["latest", "latest"], "f: dask: 'latest' is there twice"),
        ([], ["2024.8.0", "2024.08.0"], "f: dask: '2024.8.0' is there twice"),
        ([], [">=2024.8,<2025", ">=2024.8, <2025"], "f: dask: '>=2024.8,<2025' is there twice"),
        ([], ["2024.9.0"], "f: dask: the index has no Dask 2024.9.0; near it: 2024.8.0, 2024.10.0, 2026.8.0"),
        ([], [">=2030"], "f: dask: no final release of Dask is in >=2030; the newest is 2026.8.0"),
        (["3.9"], [], "f: python: Python 3.9 for the client: a cell's client needs 3.10 or newer"),
    ],
)
def test_a_wrong_axis_is_named(python: list[str], dask: list[str], message: str) -> None:
    assert message_of(matrix(python, dask)) == message


# As it is.


@pytest.mark.parametrize(
    ("python", "dask", "allowed", "expected"),
    [
        ("3.12", "installed", True, True),
        ("3.12.1", "installed", True, True),
        ("3.12.2", "installed", True, False),
        ("3.13", "installed", True, False),
        ("3.12", "installed", False, False),
        ("3.12", "2026.8.0", True, False),
        ("3.12", "latest", True, False),
    ],
)
def test_only_this_python_with_the_installed_dask_is_used_as_it_is(
    python: str, dask: str, allowed: bool, expected: bool
) -> None:
    (cell,) = plan_of(matrix([python], [dask]), as_is_allowed=allowed).cells
    assert as_is(cell) == (["client", "scheduler", "worker"] if expected else [])
    assert cell.worker.dask == Version("2026.8.0")


def test_a_pre_release_interpreter_is_used_as_it_is() -> None:
    (cell,) = plan_of(matrix(), this_python=PythonVersion.parse("3.15.0rc1")).cells
    assert cell.id == "py3.15.0rc1-dask2026.8.0"
    assert cell.worker.as_is


def test_only_those_roles_of_a_skew_cell_are_used_as_they_are_that_ask_for_it() -> None:
    plan = plan_of(matrix(include=[inclusion("3.12", "installed", worker={"dask": "2024.8.0"})]))
    assert ids(plan)[0] == "py3.12-dask2026.8.0+worker-dask2024.8.0"
    assert as_is(plan.cells[0]) == ["client", "scheduler"]


# exclude.


@pytest.mark.parametrize(
    ("entry", "left"),
    [
        (("3.12", None), ["py3.13.0-dask2024.10.0", "py3.13.0-dask2024.8.0"]),
        (("3.13", None), ["py3.12-dask2024.10.0", "py3.12-dask2024.8.0"]),
        (("3.13.0", None), ["py3.12-dask2024.10.0", "py3.12-dask2024.8.0"]),
        ((None, "2024.8.0"), ["py3.12-dask2024.10.0", "py3.13.0-dask2024.10.0"]),
        ((None, ">2024.8.0"), ["py3.12-dask2024.8.0", "py3.13.0-dask2024.8.0"]),
        (("3.13", "<2024.9"), ["py3.12-dask2024.10.0", "py3.12-dask2024.8.0", "py3.13.0-dask2024.10.0"]),
    ],
)
def test_an_entry_of_exclude_takes_what_it_matches_and_is_quoted(
    entry: tuple[str | None, str | None], left: list[str]
) -> None:
    settings = matrix(["3.12", "3.13.0"], ["2024.8.0", "2024.10.0"])
    everything = ids(plan_of(settings))
    plan = plan_of(matrix(["3.12", "3.13.0"], ["2024.8.0", "2024.10.0"], exclude=[entry]))
    assert sorted(ids(plan)) == left
    assert reasons(plan) == {id_: "excluded by entry 0" for id_ in everything if id_ not in left}


def test_the_first_entry_that_matches_is_the_reason() -> None:
    plan = plan_of(matrix(["3.12", "3.13"], ["latest"], exclude=[("3.11", None), ("3.13", None), ("3.13", ">2024")]))
    assert reasons(plan) == {"py3.13-dask2026.8.0": "excluded by entry 1"}


def test_a_dask_that_no_index_could_tell_is_not_excluded_by_a_range() -> None:
    plan = plan_of(matrix(["3.12"], ["latest", "2024.8.0"], exclude=[(None, ">=2024")]), index=SILENT_INDEX)
    assert ids(plan) == ["py3.12-dasklatest"]


def test_excluding_everything_is_wrong_input() -> None:
    assert message_of(matrix(["3.12", "3.13"], ["latest"], exclude=[(None, ">=2024")])) == (
        "f: exclude: no cell is left of py3.12-dask2026.8.0, py3.13-dask2026.8.0"
    )


# include.


@pytest.mark.parametrize(
    ("entry", "id_", "worker"),
    [
        (inclusion("3.13", "2024.10.0"), "py3.13-dask2024.10.0", "py3.13-dask2024.10.0"),
        (
            inclusion("3.12", "2024.10.0", worker={"python": "3.13"}),
            "py3.12-dask2024.10.0+worker-py3.13",
            "py3.13-dask2024.10.0",
        ),
        (
            inclusion("3.12", "latest", worker={"python": "3.13", "dask": "2024.8.0"}, client={"dask": "2024.10.0"}),
            "py3.12-dask2026.8.0+client-dask2024.10.0+worker-py3.13-dask2024.8.0",
            "py3.13-dask2024.8.0",
        ),
    ],
)
def test_include_adds_a_cell_whose_roles_may_differ(entry: Inclusion, id_: str, worker: str) -> None:
    plan = plan_of(matrix(["3.12"], ["2024.8.0"], include=[entry]))
    assert sorted(ids(plan)) == sorted(["py3.12-dask2024.8.0", id_])
    assert str(next(cell for cell in plan.cells if cell.id == id_).worker) == worker


def test_a_worker_may_be_older_than_a_client_may() -> None:
    entry = inclusion("3.12", "2024.8.0", worker={"python": "3.9"})
    assert "py3.12-dask2024.8.0+worker-py3.9" in ids(plan_of(matrix(include=[entry])))


def test_an_excluded_cell_that_is_included_again_is_in() -> None:
    plan = plan_of(
        matrix(
            ["3.12", "3.13"], ["2024.8.0", "latest"], exclude=[("3.13", None)], include=[inclusion("3.13", "latest")]
        )
    )
    assert "py3.13-dask2026.8.0" in ids(plan)
    assert reasons(plan) == {"py3.13-dask2024.8.0": "excluded by entry 0"}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([inclusion("3.12", "2024.8.0")], "py3.12-dask2024.8.0 is in the matrix already; remove the entry"),
        ([inclusion("3.12", "latest")], "py3.12-dask2026.8.0 is in the matrix already; remove the entry"),
        (
            [inclusion("3.12", "2024.8.0", worker={"python": "3.12"})],
            "py3.12-dask2024.8.0 is in the matrix already; remove the entry",
        ),
        (
            [inclusion("3.12", "latest", worker={"python": "3.13"})] * 2,
            "py3.12-dask2026.8.0+worker-py3.13 is in the matrix already; remove the entry",
        ),
        ([inclusion("3.13", ">=2024.8")], "'>=2024.8' is a range; include takes one release, latest or installed"),
        (
            [inclusion("3.13", "latest", worker={"dask": "==2024.8.0"})],
            "'==2024.8.0' is a range; include takes one release, latest or installed",
        ),
        (
            [inclusion("3.12", "2024.10.0", **{role.value: {"python": "3.13"} for role in Role})],
            "client, scheduler and worker are all the same; write their versions once, for the entry",
        ),
        ([inclusion("3.13", "2024.9.0")], "the index has no Dask 2024.9.0; near it: 2024.8.0, 2024.10.0, 2026.8.0"),
        (
            [inclusion("3.12", "latest", scheduler={"python": "3.8"})],
            "Python 3.8 for the scheduler: a cell's scheduler needs 3.9 or newer",
        ),
    ],
)
def test_a_wrong_entry_of_include_is_named(entries: list[Inclusion], message: str) -> None:
    settings = matrix(["3.12"], ["2024.8.0", "latest"], include=entries)
    assert message_of(settings) == f"f: include[0]: {message}"


@pytest.mark.parametrize("dask", ["2026.8.0", ">2024.10.0"])
def test_an_included_release_that_the_product_has_by_another_name_is_merged(dask: str) -> None:
    plan = plan_of(matrix(["3.12"], [dask], include=[inclusion("3.12", "latest")]))
    assert ids(plan) == ["py3.12-dask2026.8.0"]


@pytest.mark.parametrize("dask", ["latest", "2026.8.0"])
def test_both_of_two_merged_requests_are_duplicates_when_included(dask: str) -> None:
    settings = matrix(["3.12"], ["latest", "2026.8.0"], include=[inclusion("3.12", dask)])
    assert message_of(settings).endswith("is in the matrix already; remove the entry")


@pytest.mark.parametrize(("dask", "expected"), [(["installed", "latest"], True), (["latest", "installed"], False)])
def test_merged_cells_are_as_the_first_request_made_them(dask: list[str], expected: bool) -> None:
    (cell,) = plan_of(matrix(["3.12"], dask)).cells
    assert cell.worker.as_is is expected


# --modelops-cell.


def test_only_the_cells_that_match_a_pattern_are_kept() -> None:
    plan = plan_of(matrix(["3.12", "3.13"], ["2024.8.0", "latest"], select=["py3.13-*", "*2024.8.0"]))
    assert ids(plan) == ["py3.12-dask2024.8.0", "py3.13-dask2024.8.0", "py3.13-dask2026.8.0"]
    assert reasons(plan) == {"py3.12-dask2026.8.0": "not selected by --cell py3.13-* *2024.8.0"}


@pytest.mark.parametrize(
    ("pattern", "kept", "left"),
    [
        ("*+worker-*", "py3.12-dask2026.8.0+worker-py3.13", "py3.12-dask2026.8.0"),
        ("*2026.8.0", "py3.12-dask2026.8.0", "py3.12-dask2026.8.0+worker-py3.13"),
    ],
)
def test_an_included_cell_is_selected_as_any_other(pattern: str, kept: str, left: str) -> None:
    entry = inclusion("3.12", "latest", worker={"python": "3.13"})
    plan = plan_of(matrix(["3.12"], ["latest"], include=[entry], select=[pattern]))
    assert ids(plan) == [kept]
    assert list(reasons(plan)) == [left]


def test_a_cell_that_is_excluded_stays_excluded_when_it_is_selected() -> None:
    plan = plan_of(matrix(["3.12", "3.13"], ["latest"], exclude=[("3.13", None)], select=["*"]))
    assert reasons(plan) == {"py3.13-dask2026.8.0": "excluded by entry 0"}


def test_what_is_left_out_is_in_the_order_of_the_cells() -> None:
    plan = plan_of(
        matrix(["3.10", "3.9", "3.12"], ["2024.10.0", "2024.8.0"], exclude=[("3.9", None)], select=["py3.12-*"])
    )
    assert [left.id for left in plan.left_out] == [
        "py3.9-dask2024.8.0",
        "py3.9-dask2024.10.0",
        "py3.10-dask2024.8.0",
        "py3.10-dask2024.10.0",
    ]


def test_a_pattern_that_matches_nothing_is_wrong_input_with_the_ids_there_are() -> None:
    settings = matrix(["3.12", "3.13"], ["latest"], exclude=[("3.13", None)], select=["PY3.12-*", "py3.13-*"])
    assert message_of(settings) == (
        "--cell: no cell's id matches 'PY3.12-*' or 'py3.13-*'; there are py3.12-dask2026.8.0"
    )


def test_of_many_ids_a_dozen_is_listed() -> None:
    settings = matrix([f"3.{minor}" for minor in range(10, 24)], ["latest"], select=["x"])
    message = message_of(settings)
    assert message.count("dask2026.8.0") == 12
    assert message.endswith("py3.21-dask2026.8.0 and 2 more")


# rolling.


def test_each_order_of_an_upgrade_is_a_cell_and_each_state_of_it_a_skew_cell() -> None:
    orders = ("worker scheduler client", "client worker scheduler")
    plan = plan_of(matrix(["3.12"], ["2024.8.0"], rolling=[upgrade("3.12", "2024.8.0", *orders, to_dask="latest")]))
    assert ids(plan) == [
        "py3.12-dask2024.8.0",
        "py3.12-dask2024.8.0..2026.8.0-client-worker-scheduler",
        "py3.12-dask2024.8.0..2026.8.0-worker-scheduler-client",
    ]
    old, _, rolling = plan.cells
    assert rolling.rolling is not None
    assert [rolling.after(state).id for state in ((), *rolling.rolling.states)] == [
        "py3.12-dask2024.8.0",
        "py3.12-dask2024.8.0+worker-dask2026.8.0",
        "py3.12-dask2024.8.0+scheduler-dask2026.8.0+worker-dask2026.8.0",
        "py3.12-dask2024.8.0+client-dask2026.8.0+scheduler-dask2026.8.0+worker-dask2026.8.0",
    ]
    assert old.after(()) == old == rolling.after(())
    assert list(map(str, rolling.needed)) == ["py3.12-dask2024.8.0", "py3.12-dask2026.8.0"]
    in_images = rolling.with_variants({role: role.value for role in Role})
    assert [versions.variant for versions in in_images.needed] == ["client", "scheduler", "worker"] * 2


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            [upgrade("3.12", "2024.8.0", "worker scheduler client", to_dask="2024.8.0")],
            "f: rolling[0]: from and to are both py3.12-dask2024.8.0; nothing would be upgraded",
        ),
        (
            [upgrade("3.12", "2024.8.0", "worker scheduler client", to_dask="latest")] * 2,
            (
                "f: rolling[0]: py3.12-dask2024.8.0..2026.8.0-worker-scheduler-client is in the matrix already; "
                "remove the entry, or this order"
            ),
        ),
        (
            [upgrade("3.12", "2024.8.0", "worker scheduler client", to_dask=">=2025")],
            "f: rolling[0]: '>=2025' is a range; rolling takes one release, latest or installed",
        ),
        (
            [upgrade("3.12", "2024.8.0", "worker scheduler client", to_python="3.9")],
            "f: rolling[0]: Python 3.9 for the client: a cell's client needs 3.10 or newer",
        ),
    ],
)
def test_a_wrong_entry_of_rolling_is_named(entries: list[RollingRequest], message: str) -> None:
    assert message_of(matrix(["3.12"], ["2024.8.0"], rolling=entries)) == message


# The plan as data and as text.


@pytest.fixture
def rich() -> Plan:
    """A plan with everything that could be lost on the way to a worker."""
    return plan_of(
        matrix(
            ["3.12", "3.13.0rc1"],
            ["installed", "latest", "2025.1.0rc1"],
            exclude=[("3.13", "2025.1.0rc1")],
            include=[inclusion("3.12", "installed", worker={"python": "3.13"})],
            rolling=[upgrade("3.12", "installed", "worker scheduler client", to_python="3.13")],
        ),
        index=SILENT_INDEX,
    )


def test_the_plan_survives_json_exactly(rich: Plan) -> None:
    back = Plan.from_json(json.loads(json.dumps(rich.to_json())))
    assert back == rich
    assert repr(back) == repr(rich)  # equality does not look at `as_is` and the request


def test_the_json_can_be_a_ci_matrix(rich: Plan) -> None:
    plain = rich.to_json()
    assert plain["schema"] == 1
    assert [(cell["id"], cell["python"], cell["dask"], cell["skew"]) for cell in plain["cells"]] == [
        ("py3.12-dask2025.1.0rc1", "3.12", "2025.1.0rc1", False),
        ("py3.12-dask2026.8.0", "3.12", "2026.8.0", False),
        ("py3.12..3.13-dask2026.8.0-worker-scheduler-client", "3.12", "2026.8.0", False),
        ("py3.12-dask2026.8.0+worker-py3.13", "3.12", "2026.8.0", True),
        ("py3.12-dasklatest", "3.12", None, False),
        ("py3.13.0rc1-dask2026.8.0", "3.13.0rc1", "2026.8.0", False),
        ("py3.13.0rc1-dasklatest", "3.13.0rc1", None, False),
    ]
    assert plain["cells"][2]["rolling"] == {
        "to": {"python": "3.13", "dask": "2026.8.0", "dask_request": "installed", "as_is": False},
        "order": ["worker", "scheduler", "client"],
    }
    assert plain["cells"][3]["roles"] == {
        "client": {"python": "3.12", "dask": "2026.8.0", "dask_request": "installed", "as_is": True},
        "scheduler": {"python": "3.12", "dask": "2026.8.0", "dask_request": "installed", "as_is": True},
        "worker": {"python": "3.13", "dask": "2026.8.0", "dask_request": "installed", "as_is": False},
    }
    assert plain["left_out"] == [{"id": "py3.13.0rc1-dask2025.1.0rc1", "reason": "excluded by entry 0"}]


def test_json_of_another_schema_is_refused(rich: Plan) -> None:
    with pytest.raises(ValueError, match=r"^plan of schema 2; this version reads 1$"):
        Plan.from_json({**rich.to_json(), "schema": 2})


def test_the_text_shows_cells_roles_and_reasons(rich: Plan) -> None:
    skew = (
        "client: Python 3.12, Dask 2026.8.0 (installed, as it is); "
        "scheduler: Python 3.12, Dask 2026.8.0 (installed, as it is); "
        "worker: Python 3.13, Dask 2026.8.0 (installed)"
    )
    rolling = (
        "Python 3.12, Dask 2026.8.0 (installed, as it is); "
        "upgraded to Python 3.13, Dask 2026.8.0 (installed): worker, scheduler, client"
    )
    assert rich.to_text(unavailable={}).splitlines() == [
        "7 cells:",
        "  py3.12-dask2025.1.0rc1                             Python 3.12, Dask 2025.1.0rc1",
        "  py3.12-dask2026.8.0                                Python 3.12, Dask 2026.8.0 (installed, as it is)",
        "  py3.12..3.13-dask2026.8.0-worker-scheduler-client  " + rolling,
        "  py3.12-dask2026.8.0+worker-py3.13                  " + skew,
        "  py3.12-dasklatest                                  Python 3.12, Dask latest (no index to ask)",
        "  py3.13.0rc1-dask2026.8.0                           Python 3.13.0rc1, Dask 2026.8.0 (installed)",
        "  py3.13.0rc1-dasklatest                             Python 3.13.0rc1, Dask latest (no index to ask)",
        "left out:",
        "  py3.13.0rc1-dask2025.1.0rc1  excluded by entry 0",
    ]


def test_a_plan_of_one_cell_says_so_and_nothing_of_what_is_not_left_out() -> None:
    text = plan_of(matrix(["3.13"], ["latest"])).to_text(unavailable={})
    assert text == "1 cell:\n  py3.13-dask2026.8.0  Python 3.13, Dask 2026.8.0 (latest)"
