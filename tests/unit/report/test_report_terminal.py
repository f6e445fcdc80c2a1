"""The terminal's matrix: whole pictures first, then the promises that hold for every report."""

from __future__ import annotations

import string
import textwrap
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_modelops.matrix.plan import LeftOut
from pytest_modelops.report.model import CellReport, CheckResult, EnvironmentReport, RunReport, Status
from pytest_modelops.report.paper import Line, Segment, Style, columns, text
from pytest_modelops.report.terminal import matrix
from tests.names import CELL_CHECKS

KILLED = "worker 1 did not answer: KilledWorker: 4 workers died while running 'lambda-5f2'"


def broke(name: str, status: Status, message: str = "", *, bundle: str | None = None) -> CheckResult:
    return CheckResult(
        name=name, bundle=bundle, status=status, message=message, reproduce=f"pytest -k {name.replace('-', '_')}"
    )


def all_checks(*results: CheckResult) -> list[CheckResult]:
    """The checks with these results on their checks: passed before the first of them, followers after it."""
    given = {result.name: result for result in results}
    checks: list[CheckResult] = []
    after = Status.PASSED
    for name in CELL_CHECKS:
        check = given.pop(name, CheckResult(name=name, status=after))
        checks.append(check)
        if check.status.broke:
            after = Status.BLOCKED
        elif check.status is Status.NOT_RUN:
            after = Status.NOT_RUN
    return [*checks, *given.values()]


def a_cell(
    python: str,
    dask: str,
    *results: CheckResult,
    checks: Iterable[CheckResult] | None = None,
    worker: str | None = None,
    selected: bool = True,
    environments: Iterable[EnvironmentReport] = (),
) -> CellReport:
    base = {"python": python, "dask": dask}
    return CellReport(
        id=f"py{python}-dask{dask}" + (f"+worker-py{worker}" if worker else ""),
        python=python,
        dask=dask,
        roles={"client": base, "scheduler": base, "worker": {**base, "python": worker or python}},
        selected=selected,
        checks=tuple(all_checks(*results) if checks is None else checks),
        environments=tuple(environments),
    )


def a_run(*cells: CellReport, left_out: Iterable[LeftOut] = (), seconds: float = 41.3) -> RunReport:
    return RunReport(
        started="2026-11-20T10:00:00+01:00",
        seconds=seconds,
        host={"python": "3.12.1"},
        backend="process",
        cells=cells,
        left_out=tuple(left_out),
    )


def product(broken: Mapping[tuple[str, str], CheckResult], *, pythons: str, dasks: str) -> list[CellReport]:
    return [
        a_cell(python, dask, *([broken[python, dask]] if (python, dask) in broken else []))
        for python in pythons.split()
        for dask in dasks.split()
    ]


def drawn(report: RunReport, *, width: int = 80, unicode: bool = True) -> str:
    return text(matrix(report, width=width, unicode=unicode))


def looks_like(picture: str) -> str:
    return textwrap.dedent(picture).removeprefix("\n")


def style_of(lines: Iterable[Line], shown: str) -> Style:
    return next(segment.style for line in lines for segment in line if segment.text.strip() == shown)


# Pictures


def test_all_green_is_a_table_and_one_line() -> None:
    report = a_run(*product({}, pythons="3.12 3.13", dasks="2024.8.0 2024.10.0 2026.8.0"))
    assert drawn(report) == looks_like("""
        Python   Dask 2024.8.0   2024.10.0   2026.8.0
        3.12          ✓          ✓           ✓
        3.13          ✓          ✓           ✓

        6 cells in 41 s: 6 passed
        """)


def test_broken_cell_says_check_reason_and_command() -> None:
    broken = {("3.13", "2024.8.0"): broke("lambda", Status.FAILED, f"{KILLED}\nsecond line")}
    report = a_run(*product(broken, pythons="3.12 3.13", dasks="2024.8.0 2024.10.0"))
    assert drawn(report) == looks_like("""
        Python   Dask 2024.8.0   2024.10.0
        3.12          ✓          ✓
        3.13          ✗ lambda   ✓

        py3.13-dask2024.8.0: lambda failed: worker 1 did not answer: KilledWorker: 4
          workers died while running 'lambda-5f2'
            pytest -k lambda

        4 cells in 41 s: 3 passed, 1 failed
        """)


def test_without_unicode_the_same_is_said_in_ascii() -> None:
    broken = {
        ("3.12", "2024.8.0"): broke("start", Status.TIMED_OUT, "1 of 2 workers – after 120 s…"),
        ("3.13", "2024.8.0"): broke("lambda", Status.FAILED, "naïve “quotes” ≥ 3"),
    }
    report = a_run(*product(broken, pythons="3.12 3.13", dasks="2024.8.0 2024.10.0"))
    assert drawn(report, unicode=False) == looks_like(r"""
        Python   Dask 2024.8.0   2024.10.0
        3.12          T start    ok
        3.13          X lambda   ok

        T timed out

        py3.12-dask2024.8.0: start timed out: 1 of 2 workers - after 120 s...
            pytest -k start
        py3.13-dask2024.8.0: lambda failed: na\xefve "quotes" >= 3
            pytest -k lambda

        4 cells in 41 s: 2 passed, 1 failed, 1 timed out
        """)


def test_row_that_is_unavailable_tells_its_reason_once() -> None:
    missing = broke("resolve", Status.UNAVAILABLE, "no Python 3.14 here; get it with: uv python install 3.14")
    broken = dict.fromkeys([("3.14", "2024.8.0"), ("3.14", "2024.10.0")], missing)
    report = a_run(*product(broken, pythons="3.13 3.14", dasks="2024.8.0 2024.10.0"))
    assert drawn(report) == looks_like("""
        Python   Dask 2024.8.0    2024.10.0
        3.13          ✓           ✓
        3.14          ? resolve   ? resolve

        ? unavailable

        py3.14-dask2024.8.0: resolve unavailable: no Python 3.14 here; get it with: uv
          python install 3.14
            pytest -k resolve
        py3.14-dask2024.10.0: resolve unavailable: as above
            pytest -k resolve

        4 cells in 41 s: 2 passed, 2 unavailable
        """)


def test_skew_cells_are_listed_under_the_table() -> None:
    report = a_run(
        a_cell("3.12", "2024.10.0"),
        a_cell("3.12", "2024.10.0", broke("versions", Status.FAILED, "worker 0 is silent"), worker="3.13"),
        a_cell("3.13", "2024.10.0", worker="3.9"),
    )
    assert drawn(report) == looks_like("""
        Python   Dask 2024.10.0
        3.12          ✓

        py3.12-dask2024.10.0+worker-py3.13   ✗ versions
        py3.13-dask2024.10.0+worker-py3.9    ✓

        py3.12-dask2024.10.0+worker-py3.13: versions failed: worker 0 is silent
            pytest -k versions

        3 cells in 41 s: 2 passed, 1 failed
        """)


def test_skew_cells_alone_need_no_table() -> None:
    report = a_run(a_cell("3.12", "2024.10.0", worker="3.13"))
    assert drawn(report).startswith("py3.12-dask2024.10.0+worker-py3.13   ✓\n\n1 cell in")


def test_passed_in_part_does_not_look_passed() -> None:
    deselected = {"versions", "aggregation"}
    some = [
        CheckResult(
            name=name, status=Status.NOT_RUN if name in deselected else Status.PASSED, selected=name not in deselected
        )
        for name in CELL_CHECKS
    ]
    report = a_run(a_cell("3.12", "2024.8.0", checks=some), a_cell("3.12", "2024.10.0"))
    passed = f"{len(CELL_CHECKS) - len(deselected)}/{len(CELL_CHECKS)}"
    assert drawn(report) == looks_like(f"""
        Python   Dask 2024.8.0   2024.10.0
        3.12          ✓ {passed}      ✓

        ✓ n/m only n of m checks were run

        2 cells in 41 s: 1 passed in part, 1 passed
        """)


def test_skipped_checks_do_not_make_a_cell_partial() -> None:
    checks = [
        CheckResult(name="lambda", status=Status.PASSED),
        CheckResult(name="runtime", status=Status.SKIPPED, message="no worker plugin"),
    ]
    assert "3.12          ✓\n" in drawn(a_run(a_cell("3.12", "2024.8.0", checks=checks)))


def test_stopped_run_names_what_did_not_run_and_what_was_left_out() -> None:
    stopped = "pytest stopped after the first failure"
    report = a_run(
        a_cell("3.12", "2024.8.0", broke("lambda", Status.FAILED, "41 + 1 is 43")),
        a_cell("3.12", "2024.10.0", broke("start", Status.NOT_RUN, stopped)),
        a_cell("3.12", "2026.8.0", broke("resolve", Status.NOT_RUN, stopped)),
        a_cell("3.13", "2024.8.0", checks=(), selected=False),
        a_cell("3.13", "2024.10.0", checks=()),
        left_out=[
            LeftOut(id="py3.13-dask2024.2.0", reason='excluded by { python = "3.13", dask = "<2024.8" }'),
            LeftOut(id="py3.12-dask2023.1.0", reason="not selected by --modelops-cell *2024*"),
            LeftOut(id="py3.12-dask2023.2.0", reason="not selected by --modelops-cell *2024*"),
        ],
    )
    assert drawn(report) == looks_like("""
        Python   Dask 2024.8.0   2024.10.0   2026.8.0
        3.12          ✗ lambda   · start     · resolve
        3.13          ·          · not run   –

        · not run, – not planned

        py3.12-dask2024.8.0: lambda failed: 41 + 1 is 43
            pytest -k lambda

        not run, pytest stopped after the first failure: py3.12-dask2024.10.0,
          py3.12-dask2026.8.0
        not run: py3.13-dask2024.10.0
        left out: py3.13-dask2024.2.0: excluded by { python = "3.13", dask = "<2024.8" }
        left out: 2 cells: not selected by --modelops-cell *2024*
        4 cells in 41 s: 1 failed, 3 not run, 1 not selected
        """)


def test_all_that_broke_in_one_cell_is_said() -> None:
    report = a_run(
        a_cell(
            "3.12",
            "2024.10.0",
            broke("aggregation", Status.TIMED_OUT, "397 of 400 tasks after 60 s"),
            broke("handshake", Status.FAILED, "exited with code 1", bundle="seir"),
            CheckResult(name="execute", bundle="seir", status=Status.BLOCKED, blocked_by="handshake[seir]"),
            broke("bundle-install", Status.FAILED, bundle="numbers"),
        )
    )
    assert drawn(report) == looks_like("""
        Python   Dask 2024.10.0
        3.12          T aggregation

        T timed out

        py3.12-dask2024.10.0: aggregation timed out: 397 of 400 tasks after 60 s
          also: handshake[seir] failed, bundle-install[numbers] failed
            pytest -k aggregation

        1 cell in 41 s: 1 timed out
        """)


def test_blocked_cell_names_what_blocked_it() -> None:
    blocked = CheckResult(name="lambda", status=Status.BLOCKED, blocked_by="start")
    shown = drawn(a_run(a_cell("3.12", "2024.10.0", checks=[blocked])))
    assert "! lambda\n" in shown
    assert "\n! blocked\n" in shown
    assert "py3.12-dask2024.10.0: lambda blocked by start\n" in shown


def test_table_that_is_too_wide_becomes_even_blocks() -> None:
    broken = {("3.14", "2026.8.0"): broke("handshake", Status.FAILED, bundle="seir")}
    dasks = "2024.2.0 2024.8.0 2024.10.0 2025.1.0 2025.12.0 2026.8.0"
    report = a_run(*product(broken, pythons="3.10 3.14", dasks=dasks))
    # Filled from the left, the first block would take five columns and leave one.
    assert drawn(report, width=70).partition("\n\npy3.14")[0] == looks_like("""
        Python   Dask 2024.2.0  2024.8.0  2024.10.0
        3.10          ✓         ✓         ✓
        3.14          ✓         ✓         ✓

        Python   Dask 2025.1.0  2025.12.0  2026.8.0
        3.10          ✓         ✓          ✓
        3.14          ✓         ✓          ✗ handshake""")


def test_table_moves_closer_together_before_it_is_cut() -> None:
    report = a_run(*product({}, pythons="3.10", dasks="2024.2.0 2024.8.0 2024.10.0 2025.1.0 2025.12.0"))
    roomy = "Python   Dask 2024.2.0   2024.8.0   2024.10.0   2025.1.0   2025.12.0"
    tight = "Python   Dask 2024.2.0  2024.8.0  2024.10.0  2025.1.0  2025.12.0"
    assert drawn(report, width=len(roomy)).splitlines()[0] == roomy
    assert drawn(report, width=len(roomy) - 1).splitlines()[0] == tight


def test_bundle_is_in_the_table_where_there_is_room() -> None:
    bundle = "needs-newer-python"
    report = a_run(a_cell("3.12", "2024.8.0", broke("handshake", Status.FAILED, bundle=bundle)))
    assert "3.12          ✗ handshake[needs-newer-python]\n" in drawn(report)
    assert "3.12          ✗ handshake\n" in drawn(report, width=40)


def test_long_names_are_cut_in_the_table_and_whole_under_it() -> None:
    test = "tests/upgrade/test_pipelines.py::test_that_all_pipelines_survive[large]"
    report = a_run(
        a_cell("3.12", "2024.8.0", CheckResult(name=test, status=Status.FAILED, message="assert 1 == 2")),
        a_cell("3.12", "2024.10.0"),
    )
    assert drawn(report) == looks_like("""
        Python   Dask 2024.8.0                                   2024.10.0
        3.12          ✗ test_that_all_pipelines_survive[large]   ✓

        py3.12-dask2024.8.0:
          tests/upgrade/test_pipelines.py::test_that_all_pipelines_survive[large]
          failed: assert 1 == 2

        2 cells in 41 s: 1 passed, 1 failed
        """)
    assert drawn(report, width=60).startswith(
        looks_like("""
        Python   Dask 2024.8.0                 2024.10.0
        3.12          ✗ test_that_all_pipel…   ✓
        """)
    )


def test_list_stands_in_where_no_table_fits() -> None:
    no_index = "could not be asked"
    report = a_run(
        a_cell("3.12", "!=2024.9.0,>=2024.8,<2025.1", broke("resolve", Status.FAILED, no_index)),
        a_cell("3.12", "2024.10.0"),
    )
    assert drawn(report, width=40).partition("\n\n")[0] == looks_like("""
        py3.12-dask!=2024.9.0,>=2024.8,<2025.1
          ✗ resolve
        py3.12-dask2024.10.0   ✓""")


def test_nothing_planned_is_said() -> None:
    left_out = [LeftOut(id=f"py3.1{n}-dask2024.8.0", reason=f"reason {n}") for n in range(5)]
    assert drawn(a_run(left_out=left_out, seconds=0.04)) == looks_like("""
        no cell was planned

        left out: py3.10-dask2024.8.0: reason 0
        left out: py3.11-dask2024.8.0: reason 1
        left out: py3.12-dask2024.8.0: reason 2
        left out: 2 more cells for 2 other reasons
        0 cells in 0.0 s
        """)


# Particulars


def test_versions_are_sorted_as_versions() -> None:
    report = a_run(*product({}, pythons="3.12 3.9 3.12.1 3.10", dasks="latest 2024.10.0 2024.8.0"))
    table = drawn(report).splitlines()
    assert table[0].split() == ["Python", "Dask", "2024.8.0", "2024.10.0", "latest"]
    assert [line.split()[0] for line in table[1:5]] == ["3.9", "3.10", "3.12", "3.12.1"]


def test_no_cell_hides_another_of_the_same_versions() -> None:
    report = a_run(
        a_cell("3.12", "2024.8.0"),
        CellReport(
            id="py3.12-dask2024.8.0+all-else",
            python="3.12",
            dask="2024.8.0",
            checks=(CheckResult(name="lambda", status=Status.FAILED),),
        ),
    )
    assert "py3.12-dask2024.8.0+all-else   ✗ lambda" in drawn(report)


def test_long_message_is_cut_and_the_command_is_not() -> None:
    check = CheckResult(name="lambda", status=Status.FAILED, message="word " * 200, reproduce="pytest " + "x" * 200)
    lines = drawn(a_run(a_cell("3.12", "2024.8.0", check, checks=[check]))).splitlines()
    message = lines[3:-3]
    assert len(message) == 4
    assert message[-1].endswith("word …")
    assert lines[-3] == "    pytest " + "x" * 200


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("'seir' exited with code 1 in cell py3.12-dask2024.8.0, worker 1", "'seir' exited with code 1, worker 1"),
        (
            "\x1b[31mred\x1b[0m\x07 tab\there \x1b]0;title\x07and\u202eback \udcff end\nmore",
            "red tab here and back end",
        ),
        ("\n  \n  the point\n", "the point"),
    ],
    ids=["its cell is named once", "nothing disturbs the terminal", "its first line with text"],
)
def test_message_is_shown(message: str, shown: str) -> None:
    report = a_run(a_cell("3.12", "2024.8.0", broke("lambda", Status.FAILED, message)))
    assert f"py3.12-dask2024.8.0: lambda failed: {shown}\n" in drawn(report)


def test_command_of_several_lines_stays_so() -> None:
    check = CheckResult(name="lambda", status=Status.FAILED, reproduce="A=1 \\\npytest")
    assert "\n    A=1 \\\n    pytest\n" in drawn(a_run(a_cell("3.12", "2024.8.0", checks=[check])))


def test_environments_are_counted_once_by_their_place() -> None:
    def env(place: str, *, reused: bool) -> EnvironmentReport:
        return {"python": "3.12.1", "dask": "2024.8.0", "reused": reused, "location": place}

    report = a_run(
        a_cell("3.12", "2024.8.0", environments=[env("/a", reused=False), env("/b", reused=True)]),
        # The second cell finds what the first built; for the run it was built.
        a_cell("3.13", "2024.8.0", environments=[env("/a", reused=True), env("/c", reused=False)]),
    )
    assert drawn(report).endswith("2 cells in 41 s: 2 passed; environments: 2 built, 1 reused\n")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "0.0 s"), (9.44, "9.4 s"), (9.6, "10 s"), (59.7, "1 min 0 s"), (192, "3 min 12 s"), (3719, "1 h 1 min")],
)
def test_time_is_said_as_people_say_it(seconds: float, said: str) -> None:
    assert f"1 cell in {said}:" in drawn(a_run(a_cell("3.12", "2024.8.0"), seconds=seconds))


def test_styles_are_what_pytest_colours() -> None:
    report = a_run(
        a_cell("3.12", "2024.8.0"),
        a_cell("3.12", "2024.10.0", broke("lambda", Status.FAILED, "41 + 1 is 43")),
        a_cell("3.12", "2026.8.0", broke("resolve", Status.UNAVAILABLE)),
    )
    lines = matrix(report, width=80, unicode=True)
    assert style_of(lines, "✓") is Style.GOOD
    assert style_of(lines, "✗ lambda") is Style.BAD
    assert style_of(lines, "? resolve") is Style.WARN
    assert style_of(lines, "41 + 1 is 43") is Style.PLAIN
    assert style_of(lines, "? unavailable") is Style.DIM
    assert Style.BAD.markup == {"red": True}
    assert Style.PLAIN.markup == {}


@pytest.mark.parametrize("unicode", [True, False])
def test_every_status_has_a_look_of_its_own(*, unicode: bool) -> None:
    def table_cell(status: Status) -> str:
        check = CheckResult(name="x", status=status, message="m", blocked_by="y")
        checks = [check] if status is not Status.SKIPPED else []
        shown = drawn(a_run(a_cell("3.12", "1", checks=checks)), unicode=unicode)
        return shown.splitlines()[1].split()[1]

    statuses = set(Status) - {Status.SKIPPED}
    assert len({table_cell(status) for status in statuses}) == len(statuses)


def test_text_joins_segments() -> None:
    assert text([(Segment("a "), Segment("b", Style.BAD)), ()]) == "a b\n\n"


@pytest.mark.parametrize(("shown", "wide"), [("abc", 3), ("模型", 4), ("e\u0301", 1), ("✓", 1), ("", 0)])
def test_columns_are_those_of_a_terminal(shown: str, wide: int) -> None:
    assert columns(shown) == wide


# Promises for every report


bundles = st.one_of(st.none(), st.sampled_from(["seir", "needs-newer-python", "模型", "ü" * 60]))
a_check = st.builds(
    CheckResult,
    name=st.sampled_from([*CELL_CHECKS, "bundle-install", "an-own-check-with-a-name-that-no-table-has-room-for"]),
    status=st.sampled_from(Status),
    message=st.one_of(st.just(""), st.just(KILLED * 5), st.text(), st.text("模 a", min_size=60)),
    bundle=bundles,
    blocked_by=st.one_of(st.none(), st.sampled_from(CELL_CHECKS)),
    reproduce=st.text(string.ascii_letters + " '[]", max_size=150).map(str.strip),
)


@st.composite
def reports(draw: st.DrawFn) -> RunReport:
    pythons = draw(st.lists(st.sampled_from(["3.9", "3.10", "3.12", "3.12.1", "3.13.0rc1"]), unique=True))
    dasks = draw(st.lists(st.sampled_from([f"20{n}.{n % 12}.0" for n in range(20, 30)] + ["latest"]), unique=True))
    workers = draw(st.lists(st.sampled_from([None, None, "3.14"]), min_size=1, max_size=2, unique=True))
    cells = [
        a_cell(python, dask, checks=draw(st.lists(a_check, max_size=5)), worker=worker, selected=draw(st.booleans()))
        for python in pythons
        for dask in dasks
        for worker in workers
        if draw(st.integers(0, 5))
    ]
    left_out = draw(st.lists(st.builds(LeftOut, id=st.just("py3.8-dask1"), reason=st.text()), max_size=5))
    return a_run(*cells, left_out=left_out, seconds=draw(st.floats(0, 1e6)))


def commands(report: RunReport) -> set[str]:
    return {f"    {check.reproduce}" for cell in report.cells for check in cell.checks if check.reproduce}


@given(reports(), st.integers(1, 200), st.booleans())
def test_promises_for_every_report(report: RunReport, width: int, unicode: bool) -> None:
    lines = drawn(report, width=width, unicode=unicode).splitlines()
    ids = {cell.id for cell in report.cells}
    for line in lines:  # no line but a command or an id is wider than the terminal, or than 40 columns
        assert columns(line) <= max(width, 40) or line in commands(report) or line.strip(" :,") in ids
        assert line == line.rstrip()
    for line_ in matrix(report, width=width, unicode=unicode):
        assert all(segment.text and len(segment.text.splitlines()) == 1 for segment in line_)
    assert unicode or "".join(lines).isascii()


@given(reports(), st.integers(40, 200), st.booleans())
def test_every_selected_cell_that_did_not_pass_is_named_and_has_its_command_whole(
    report: RunReport, width: int, unicode: bool
) -> None:
    shown = drawn(report, width=width, unicode=unicode)
    named = {word.strip(":,") for word in shown.split()}
    assert {cell.id for cell in report.cells if cell.selected and cell.status is not Status.PASSED} <= named
    for cell in report.cells:
        if cell.broken and cell.broken.reproduce:
            assert f"    {cell.broken.reproduce}" in shown.splitlines()
