"""The model of a report: what follows from the checks, and that nothing is lost on the way through JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_modelops.matrix.plan import LeftOut
from pytest_modelops.report.model import SCHEMA, CellReport, CheckResult, RunReport, Status
from pytest_modelops.report.news import merge_checks

P, F, T, B, U, S, N, K, M = (
    Status  # passed, failed, timed-out, blocked, unavailable, skipped, not-run, known-broken, missing
)


def check(status: Status, name: str = "lambda", *, message: str = "", bundle: str | None = None) -> CheckResult:
    return CheckResult(name=name, status=status, message=message, bundle=bundle)


def cell(*checks: CheckResult | Status, selected: bool = True) -> CellReport:
    """A cell with these checks; a bare status becomes a check, and `not-run` one that was selected."""
    made = [
        part
        if isinstance(part, CheckResult)
        else check(part, f"check-{number}", message="stopped" if part is N else "")
        for number, part in enumerate(checks)
    ]
    return CellReport(id="py3.12-dask1", python="3.12", dask="1", selected=selected, checks=tuple(made))


def run(*cells: CellReport) -> RunReport:
    return RunReport(started="2026-11-20T10:00:00+00:00", seconds=1.0, host={}, backend="process", cells=cells)


# Status of a check


def test_statuses_are_the_words_of_the_report() -> None:
    assert [status.value for status in Status] == [
        "passed", "failed", "timed-out", "blocked", "unavailable", "skipped", "not-run",
        "known-broken", "missing",
    ]  # fmt: skip


def test_a_check_breaks_its_cell_or_lets_through_or_neither() -> None:
    assert {status for status in Status if status.broke} == {F, T, U}
    assert {status for status in Status if status.lets_through} == {P, S}


def test_label_names_the_bundle() -> None:
    assert check(P, "handshake", bundle="seir").label == "handshake[seir]"
    assert check(P, "lambda").label == "lambda"


# Status of a cell


@pytest.mark.parametrize(
    ("checks", "status"),
    [
        pytest.param([P, P], P, id="all passed"),
        pytest.param([P, S], P, id="skipped counts as passed"),
        pytest.param([P, F, B], F, id="what broke outweighs what it blocked"),
        pytest.param([P, T, F], T, id="the first that broke decides"),
        pytest.param([U, B, B], U, id="unavailable"),
        pytest.param([P, N], N, id="selected, and stopped before its end"),
        pytest.param([N, F], F, id="what broke outweighs what did not run"),
        pytest.param([P, B], B, id="blocked by something unseen"),
        pytest.param([P, N, B], N, id="interrupted, and its followers blocked"),
        pytest.param([], N, id="nothing was tried"),
        pytest.param([P, K, S], K, id="known to be broken"),
        pytest.param([K, F], F, id="what broke outweighs what is known"),
        pytest.param([K, N], N, id="known to be broken, and stopped before its end"),
        pytest.param([K, B], B, id="blocked by something else"),
        pytest.param(
            [check(K, "start"), CheckResult(name="lambda", status=B, blocked_by="start")],
            K,
            id="blocked by what is known",
        ),
    ],
)
def test_status_of_a_cell(checks: list[Status | CheckResult], status: Status) -> None:
    assert cell(*checks).status is status


def test_deselected_checks_are_not_asked_of_a_cell() -> None:
    deselected = dataclasses.replace(check(N, "versions"), selected=False)
    assert cell(P, deselected).status is P
    assert cell(deselected).status is N


def test_what_was_selected_and_did_not_run_counts_without_a_message_too() -> None:
    assert cell(P, check(N, "versions")).status is N


@given(st.lists(st.sampled_from(Status)))
def test_a_cell_passes_with_nothing_but_passed_and_skipped(statuses: list[Status]) -> None:
    if cell(*statuses).status is P:
        assert set(statuses) <= {P, S}
    if P in statuses and set(statuses) <= {P, S}:
        assert cell(*statuses).status is P


@given(st.lists(st.sampled_from(Status)))
def test_a_cell_is_broken_where_its_status_says_so(statuses: list[Status]) -> None:
    report = cell(*statuses)
    assert report.status.broke == (report.broken is not None)
    if report.broken:
        assert report.status is report.broken.status
        assert not any(before.status.broke for before in report.checks[: report.checks.index(report.broken)])


def test_first_broken_is_named_with_its_bundle() -> None:
    broken = cell(P, check(F, "handshake", bundle="seir"), check(F, "runtime"))
    assert broken.to_json()["first_broken"] == "handshake[seir]"
    assert cell(P).to_json()["first_broken"] is None


def test_checks_that_ran_are_those_with_another_status() -> None:
    assert [ran.status for ran in cell(P, N, F, B).ran] == [P, F, B]


def test_skew_is_when_roles_differ() -> None:
    base = {"python": "3.12", "dask": "2024.10.0"}

    def with_worker(worker: dict[str, str]) -> CellReport:
        roles = {"client": base, "scheduler": base, "worker": worker}
        return CellReport(id="x", python="3.12", dask="2024.10.0", roles=roles)

    assert with_worker({**base, "python": "3.13"}).skew
    assert with_worker({**base, "dask": "2024.8.0"}).skew
    assert not with_worker({"dask": "2024.10.0", "python": "3.12"}).skew
    assert not cell(P).skew


# Status of a run


@pytest.mark.parametrize("status", [F, T, B, U, N, M])
def test_a_run_is_complete_when_every_selected_cell_passed(status: Status) -> None:
    assert run(cell(P), cell(P, S)).complete
    assert not run(cell(P), cell(P, status)).complete
    assert run(cell(P), cell(P, K)).complete


def test_a_cell_that_was_not_selected_does_not_count() -> None:
    assert run(cell(P), cell(selected=False)).complete
    assert not run(cell(P), cell(selected=True)).complete


# Merging


SEIR, NUMBERS = check(F, "handshake", bundle="seir"), check(P, "handshake", bundle="numbers")


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        pytest.param(
            [check(P, "start"), check(F, "lambda"), check(P, "aggregation")],
            [check(P, "lambda")],
            [check(P, "start"), check(P, "lambda"), check(P, "aggregation")],
            id="a later result replaces the earlier one in its place",
        ),
        pytest.param([check(P, "start")], [check(F)], [check(P, "start"), check(F)], id="new results follow the old"),
        pytest.param([SEIR], [NUMBERS], [SEIR, NUMBERS], id="of another bundle"),
        pytest.param([check(P, "handshake")], [SEIR], [check(P, "handshake"), SEIR], id="of a bundle and of none"),
        pytest.param([check(F)], [check(N)], [check(F)], id="not-run replaces nothing"),
    ],
)
def test_merging(old: list[CheckResult], new: list[CheckResult], merged: list[CheckResult]) -> None:
    assert merge_checks(iter(old), iter(new)) == tuple(merged)


# JSON


def test_another_schema_is_refused() -> None:
    with pytest.raises(ValueError, match=r"report of schema 2; this version reads 1"):
        RunReport.from_json({**run().to_json(), "schema": SCHEMA + 1})


def test_what_is_derived_is_derived_again() -> None:
    plain = {**cell(F).to_json(), "status": "passed", "first_broken": None}
    assert CellReport.from_json(plain).status is F


names = st.text()
# Times are rounded to milliseconds on the way out.
seconds = st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000)
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
plain_data = st.dictionaries(names, plain_values, max_size=3)
check_results = st.builds(
    CheckResult,
    name=names,
    status=st.sampled_from(Status),
    seconds=seconds,
    message=names,
    bundle=st.none() | names,
    blocked_by=st.none() | names,
    reproduce=names,
    data=plain_data,
)
cell_reports = st.builds(
    CellReport,
    id=names,
    python=names,
    dask=names,
    roles=st.dictionaries(names, st.dictionaries(names, names, max_size=2), max_size=3),
    selected=st.booleans(),
    seconds=seconds,
    checks=st.lists(check_results, max_size=3).map(tuple),
    observed=plain_data,
    lock=st.lists(names, max_size=3).map(tuple),
    environments=st.lists(plain_data, max_size=2).map(tuple),
    logs=st.dictionaries(names, names, max_size=2),
)
run_reports = st.builds(
    RunReport,
    started=names,
    seconds=seconds,
    host=st.dictionaries(names, names, max_size=2),
    backend=names,
    cells=st.lists(cell_reports, max_size=2).map(tuple),
    left_out=st.lists(st.builds(LeftOut, id=names, reason=names), max_size=2).map(tuple),
)


@given(check_results)
def test_check_survives_the_way_through_json(result: CheckResult) -> None:
    assert CheckResult.from_json(json.loads(json.dumps(result.to_json()))) == result


@given(cell_reports)
def test_cell_survives_the_way_through_json(report: CellReport) -> None:
    plain = json.loads(json.dumps(report.to_json()))
    again = CellReport.from_json(plain)
    assert again == report
    assert again.to_json() == plain


@given(run_reports)
def test_run_survives_the_way_through_json(report: RunReport) -> None:
    again = RunReport.from_json(json.loads(json.dumps(report.to_json())))
    assert again == report
    assert again.complete is report.complete
