"""What `dask worker` of the installed Dask understands of its arguments, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_modelops.cluster.started_parts import misunderstood
from pytest_modelops.remote.worker.options import look_at, nearest

TAKES_ARGUMENTS = "import click\n@click.command()\n@click.option('--ledger')\ndef dask_setup(worker, ledger): ...\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--resources", "gpu=1,aggregation=2", "--lifetime=1 hour"],
        ["--memory-limit", "-1"],
        ["--no-dashboard"],
        ["--death-timeout", "9", "--preload-nanny", "json"],
    ],
)
def test_options_of_dask_s_own_are_understood(arguments: list[str]) -> None:
    assert misunderstood(look_at(arguments)) == ""


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--lifetimes", "9"], ["No such option: --lifetimes 9.", "`--lifetime`"]),
        (["--no-bokeh"], ["No such option: --no-bokeh.", "`--no-dashboard`"]),
        (["--resource=gpu=1"], ["--resource=gpu=1.", "`--resource`", "`--resources`"]),
        (["--memory-limit", "1GiB", "--xyz"], ["No such option: --xyz."]),
        (["--nprocs", "1"], ["No such option: --nprocs 1.", "`--nworkers`"]),
        (["gpu=1"], ["No option takes gpu=1."]),
        (["--resources", "gpu=1", "aggregation=1"], ["No option takes aggregation=1."]),
        (["--resources"], ["--resources", "requires an argument"]),
    ],
)
def test_what_dask_does_not_understand_is_named(arguments: list[str], parts: list[str]) -> None:
    message = misunderstood(look_at(arguments))
    for part in (*parts, "Dask 20", "`worker-args`"):
        assert part in message


def test_arguments_of_a_preload_are_the_preload_s(tmp_path: Path) -> None:
    takes = tmp_path / "takes_arguments.py"
    takes.write_text(TAKES_ARGUMENTS)
    takes_none = tmp_path / "takes_none.py"
    takes_none.write_text("def dask_setup(worker): ...\n")
    raises = tmp_path / "raises.py"
    raises.write_text("1 / 0\n")
    assert look_at(["--preload", str(takes), "--ledger", "x"])["ignored"] == []
    assert look_at(["--preload", str(takes_none), "--ledger", "x"])["ignored"] == ["--ledger", "x"]
    assert look_at(["--preload", str(raises), "--ledger", "x"])["ignored"] == [], "the worker says it better"


def test_a_renamed_option_is_only_suggested_where_dask_has_the_new_one() -> None:
    assert nearest("--no-bokeh", ["--no-dashboard", "--no-book"]) == "--no-dashboard"
    assert nearest("--no-bokeh", ["--resources", "--no-book"]) == "--no-book"
    assert nearest("--zzz", ["--resources"]) == ""
