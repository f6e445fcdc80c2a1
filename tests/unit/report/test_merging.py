"""The reports of several machines as one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from pytest_modelops.__main__ import main
from pytest_modelops.matrix.plan import LeftOut
from pytest_modelops.report import directory, write
from pytest_modelops.report.merging import merge
from pytest_modelops.report.model import BUDGET, PlannedCell, RunReport, Status
from pytest_modelops.report.paper import text
from pytest_modelops.report.reading import read
from pytest_modelops.report.terminal import matrix
from pytest_modelops.report.verdict import sentence
from tests.unit.report.made import broken, cell, check, run

EXCLUDED = LeftOut(id="py3.9-dask1", reason="excluded")


def whole() -> RunReport:
    cells = [cell(f"3.{minor}", dask) for minor in (11, 12, 13, 14) for dask in ("2024.8.0", "2026.8.0")]
    return run(*cells[:-1], broken("3.14", "2026.8.0"), left_out=(EXCLUDED,))


def shards(report: RunReport, count: int) -> list[RunReport]:
    """The report as so many machines would have made it."""
    planned = tuple(PlannedCell(id=one.id, python=one.python, dask=one.dask, roles=one.roles) for one in report.cells)
    found = []
    for number in range(count):
        mine = report.cells[number::count]
        others = [LeftOut(id=one.id, reason="in another shard") for one in report.cells if one not in mine]
        shard = f"{number + 1}/{count}"
        found.append(
            dataclasses.replace(report, cells=mine, left_out=(EXCLUDED, *others), shard=shard, planned=planned)
        )
    return found


def test_eight_shards_are_the_report_of_one_run() -> None:
    parts = shards(whole(), 8)
    assert merge(parts) == whole()
    assert merge(parts[::-1]) == whole()


def test_a_shard_that_reported_nothing_leaves_its_cells_missing_and_red() -> None:
    report = merge(shards(whole(), 8)[:-2])
    assert [one.status for one in report.cells[-2:]] == [Status.MISSING] * 2
    assert not report.complete
    assert sentence(report) == "6 of 8 cells passed; 2 missing."
    shown = text(matrix(report, width=200, unicode=True))
    assert "py3.14-dask2024.8.0: report missing: no report has this cell" in shown
    assert "6 passed, 2 missing" in shown


def test_a_cell_that_each_machine_left_to_the_others_is_missing_and_red() -> None:
    mine, lost = whole().cells[:2]
    left = dataclasses.replace(lost, selected=False, checks=(check("start", Status.NOT_RUN, selected=False),))
    assert run(mine, left).complete
    report = merge([run(mine, left), later(run(mine, left), 11)])
    assert [one.status for one in report.cells] == [Status.PASSED, Status.MISSING]
    assert not report.complete


def test_a_shard_that_was_interrupted_is_seen() -> None:
    parts = shards(whole(), 8)
    stopped = tuple(
        dataclasses.replace(one, checks=(check("start", Status.NOT_RUN, "the run ended before it came to this"),))
        for one in parts[0].cells
    )
    report = merge([dataclasses.replace(parts[0], cells=stopped), *parts[1:7]])
    assert report.cells[0].status is Status.NOT_RUN
    assert not report.complete


def later(report: RunReport, hour: int) -> RunReport:
    return dataclasses.replace(report, started=f"2026-11-20T{hour}:00:00+00:00")


NOT_RUN = cell("3.13", "2024.10.0", check("start", Status.NOT_RUN))


@pytest.mark.parametrize(
    ("reports", "status"),
    [
        ([later(run(broken()), 10), later(run(cell("3.13")), 11)], Status.PASSED),
        ([later(run(broken()), 11), later(run(cell("3.13")), 10)], Status.FAILED),
        ([later(run(broken()), 10), later(run(NOT_RUN), 11)], Status.FAILED),
        ([later(run(NOT_RUN), 10), later(run(broken()), 11)], Status.FAILED),
    ],
)
def test_the_latest_verdict_on_a_cell_counts(reports: list[RunReport], status: Status) -> None:
    assert [one.status for one in merge(reports).cells] == [status]


def test_what_machines_have_in_common_is_there_once() -> None:
    first = run(cell(), host={"python": "3.12.1", "platform": "A"}, backend="process", seconds=60.0)
    second = later(run(cell("3.13"), host={"python": "3.12.1", "platform": "B"}, backend="docker", seconds=30.0), 11)
    report = merge([first, second])
    assert report.host == {"python": "3.12.1", "platform": "A, B"}
    assert report.backend == "process, docker"
    assert report.seconds == 3630.0, "from the start of the first to the end of the last"


def test_cells_beyond_the_budget_do_not_fail_a_run_that_ran_others() -> None:
    beyond = cell("3.13", "2024.10.0", check("start", Status.NOT_RUN, "no time", data={BUDGET: 60.0}))
    assert beyond.beyond_budget
    assert run(cell(), beyond).complete
    assert not run(beyond).complete
    assert not run(cell(), NOT_RUN).complete
    assert sentence(run(cell(), beyond)) == "1 of 2 cells passed; 1 not run."


# The command


def written(report: RunReport, path: Path) -> Path:
    write(report, path)
    return path


def test_the_command_merges_files_and_directories_with_their_logs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "worker.log").write_text("started\n")
    parts = shards(whole(), 2)
    written(parts[0], tmp_path / "a.json")
    logs = {parts[1].cells[0].id: {"worker-0": tmp_path / "worker.log"}}
    directory.write(parts[1], tmp_path / "artifacts/two", logs=logs, clean=str)
    (tmp_path / "artifacts/other.json").write_text("{}")
    out = tmp_path / "out"
    inputs = [str(tmp_path / "a.json"), str(tmp_path / "artifacts")]
    assert main(["merge", *inputs, "-o", str(out), "-o", str(tmp_path / "all.md")]) == 1
    assert capsys.readouterr().out == "1 of 8 cells broken; lambda failed.\n"
    merged = read(out)
    assert [one.id for one in merged.cells] == [one.id for one in whole().cells]
    logs_of = {one.id: one.logs for one in merged.cells}
    assert (out / logs_of[parts[1].cells[0].id]["worker-0"]).read_text() == "started\n"
    assert (tmp_path / "all.md").read_text().startswith("**1 of 8 cells broken")
    assert json.loads((out / "report.json").read_text())["verdict"] == "1 of 8 cells broken; lambda failed."


def green() -> RunReport:
    report = whole()
    return dataclasses.replace(report, cells=(*report.cells[:-1], cell("3.14", "2026.8.0")))


@pytest.mark.parametrize(
    ("baseline", "fail_on", "code"),
    [(None, "broken", 1), (whole, "broken", 1), (whole, "new", 0), (green, "new", 1), (None, "new", 2)],
)
def test_the_command_fails_for_what_it_is_asked_to(
    tmp_path: Path, baseline: object, fail_on: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    new = written(whole(), tmp_path / "new.json")
    old = ["--baseline", str(written(baseline(), tmp_path / "old.json"))] if callable(baseline) else []
    assert main(["merge", str(new), *old, "--fail-on", fail_on]) == code
    assert capsys.readouterr()


def test_a_missing_cell_fails_also_where_only_new_breaks_do(tmp_path: Path) -> None:
    old = written(whole(), tmp_path / "old.json")
    part = written(shards(whole(), 2)[0], tmp_path / "part.json")
    assert main(["merge", str(part), "--baseline", str(old), "--fail-on", "new"]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.json"], "none.json: No such file"),
        (["."], "there is no report in ."),
        (["a.json", "-o", "x.xml"], "pytest writes JUnit"),
        (["a.json", "-o", "x.pdf"], "-o: 'x.pdf' does not end in a report's format"),
        (["odd.json"], "odd.json is not a report"),
    ],
)
def test_what_cannot_be_merged_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "a.json":
        written(whole(), tmp_path / "a.json")
    Path("odd.json").write_text("[]")
    assert main(["merge", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_cell_of_another_schema_is_named(tmp_path: Path) -> None:
    path = written(whole(), tmp_path / "a.json")
    plain = json.loads(path.read_text())
    del plain["cells"][0]["lock"]
    path.write_text(json.dumps(plain))
    with pytest.raises(ValueError, match=r"a\.json: this version cannot read it"):
        read(path)


@pytest.mark.parametrize("wrong", ["x", 3, None, [], {}, [1], {"a": 1}, True], ids=repr)
def test_a_report_with_a_field_of_another_type_is_read_or_refused(tmp_path: Path, wrong: object) -> None:
    """No error but `ValueError` leaves, whatever a file has where a list, an object or a text should be."""
    path = written(whole(), tmp_path / "a.json")
    plain = json.loads(path.read_text())
    places = [plain, plain["cells"][0], plain["cells"][0]["checks"][0]]
    refused = dict[str, str]()
    for place in places:
        for name, right in list(place.items()):
            place[name] = wrong
            path.write_text(json.dumps(plain))
            try:
                read(path)
            except ValueError as error:
                refused[name] = str(error)
            place[name] = right
    assert all(said.startswith(f"{path}: this version cannot read it (") for said in refused.values()), refused
    if wrong not in ([], {}):
        assert {"cells", "checks"} <= refused.keys()
