"""Which orders of a rolling upgrade are safe, in every kind of report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from importlib import resources

import pytest
from jsonschema import Draft202012Validator

from pytest_modelops.report import html, markdown
from pytest_modelops.report import json as report_json
from pytest_modelops.report.merging import merge
from pytest_modelops.report.model import CellReport, CheckResult, PlannedCell, RollingReport, RunReport, Status
from pytest_modelops.report.paper import text
from pytest_modelops.report.terminal import matrix
from pytest_modelops.report.upgrades import Safety, upgrades
from tests.unit.report.made import cell, check, run

P, F, T, N, B, K = (Status.PASSED, Status.FAILED, Status.TIMED_OUT, Status.NOT_RUN, Status.BLOCKED, Status.KNOWN_BROKEN)


def upgraded(order: str, *statuses: Status, start: Status = P) -> CellReport:
    """A cell that was upgraded in this order; `statuses` are those of its states."""
    roles = order.split()
    checks: list[CheckResult] = [check("start", start)]
    for number, status in enumerate(statuses, start=1):
        blocked_by = "start" if status is B else None
        checks.append(check("rolling", status, variant="+".join(roles[:number]), blocked_by=blocked_by))
    rolling = RollingReport(python="3.12", dask="2026.8.0", order=tuple(roles))
    cell_id = f"py3.12-dask2024.10.0..2026.8.0-{'-'.join(roles)}"
    return dataclasses.replace(cell("3.12", "2024.10.0", *checks), rolling=rolling, id=cell_id)


TITLE = "Rolling upgrade py3.12-dask2024.10.0 → py3.12-dask2026.8.0: "


@pytest.mark.parametrize(
    ("cells", "verdict", "others"),
    [
        ([upgraded("worker scheduler client", P, P, P)], "safe in the order worker, scheduler, client.", []),
        (
            [upgraded("worker scheduler client", P, F, P), upgraded("client worker scheduler", P, P, P)],
            "safe in the order client, worker, scheduler.",
            ["worker, scheduler, client: breaks at rolling[worker+scheduler]"],
        ),
        (
            [upgraded("worker scheduler client", T, P, P)],
            "this order is not safe.",
            ["worker, scheduler, client: breaks at rolling[worker]"],
        ),
        (
            [upgraded("worker scheduler client", P, P, K), upgraded("client worker scheduler", F, P, P)],
            "none of these orders is safe.",
            [
                "worker, scheduler, client: breaks at rolling[worker+scheduler+client]",
                "client, worker, scheduler: breaks at rolling[client]",
            ],
        ),
        (
            [upgraded("worker scheduler client", B, B, B, start=F)],
            "no order is known to be safe.",
            ["worker, scheduler, client: not known, see start"],
        ),
        (
            [upgraded("worker scheduler client", P, P, N)],
            "no order is known to be safe.",
            ["worker, scheduler, client: not known, see rolling[worker+scheduler+client]"],
        ),
    ],
)
def test_an_order_is_safe_if_each_state_passed(cells: Sequence[CellReport], verdict: str, others: list[str]) -> None:
    report = run(cell("3.12", "2024.10.0"), *cells)
    [upgrade] = upgrades(report)
    assert upgrade.verdict == TITLE + verdict
    assert upgrade.others == others
    [plain] = json.loads(report_json.render(report))["upgrades"]
    assert [one["at"] is None for one in plain["orders"]] == [one.safety is Safety.SAFE for one in upgrade.orders]


def test_every_report_names_it() -> None:
    report = run(
        cell("3.12", "2024.10.0"),
        upgraded("worker scheduler client", P, F, P),
        upgraded("client worker scheduler", P, P, P),
    )
    lines = text(matrix(report, width=200, unicode=True)).splitlines()
    at = lines.index(f"{TITLE}safe in the order client, worker, scheduler.")
    assert lines[at + 1] == "  worker, scheduler, client: breaks at rolling[worker+scheduler]"
    assert "3.12          ✓" in lines, "an upgrade has no place in the table"
    assert "safe in the order client, worker, scheduler." in markdown.render(report)
    assert "| 3.12 | 2024.10.0 → 2026.8.0 (worker, scheduler, client) |" in markdown.render(report)
    assert "Rolling upgrades" in html.render(report)
    plain = json.loads(report_json.render(report))
    schema = json.loads(resources.files("pytest_modelops.report").joinpath("schema.json").read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(plain)
    assert RunReport.from_json(plain) == report
    assert "Rolling" not in html.render(run(cell("3.12", "2024.10.0")))


def test_an_upgrade_that_no_machine_reported_is_missing_and_not_safe() -> None:
    there, lost = upgraded("worker scheduler client", P, P, P), upgraded("client worker scheduler", P, P, P)
    merged = merge([run(there, planned=(PlannedCell.of_report(there), PlannedCell.of_report(lost)))])
    [upgrade] = upgrades(merged)
    assert [one.order for one in upgrade.of(Safety.SAFE)] == [("worker", "scheduler", "client")]
    assert upgrade.others == ["client, worker, scheduler: not known, see report"]
