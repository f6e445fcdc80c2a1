"""A copy of a bundle is asked on a worker: what answers, from where it was imported, and what a runner installs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.remote.runner.installing import PINS
from pytest_modelops.remote.shared.bundle_messages import BundleLocation
from pytest_modelops.remote.worker.bundles import Bundles
from tests.integration.conftest import write_wheel
from tests.unit.remote.conftest import COMMAND, location_in

pytestmark = pytest.mark.usefixtures("_pip_is_there")

SECONDS = 90.0
SERVERS = Path(__file__).parents[2] / "servers"
CODE = "def wire(entrypoint, params, seed):\n    return {'answer.txt': b'42'}\n"
ENTRY = {"wire-1.dist-info/entry_points.txt": "[modelops.wire]\nw = wire:wire\n"}


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Bundles]:
    """A worker, and a flat project whose only module is installed."""
    for name in ("source", "wheels"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "wire.py").write_text(CODE)
    write_wheel(tmp_path / "wheels" / "wire-1-py3-none-any.whl", {"wire.py": CODE, **ENTRY})
    (tmp_path / "wheels" / PINS).write_text("wire==1\n")
    made = Bundles("worker-0")
    yield made
    made.close(location_in(tmp_path))


def ask(worker: Bundles, location: BundleLocation) -> Any:
    answer = worker.install(
        location, requirements=["wire==1"], modules={"wire": "installed"}, imports=[], seconds=SECONDS
    )
    assert answer["contents"] is not None, answer
    assert answer["contents"]["missing"] == []
    request = {"entrypoint": "wire/run", "params": {}, "seed": 0}
    wire = location["wire"]
    return worker.fresh(location, worker="worker-0", wire=wire, request=request, seconds=SECONDS)


def about(**more: Any) -> Any:
    return {"modules": ["wire"], "wire": {"module": "wire", "function": "wire"}, "on_path": "never", **more}


def moments(report: Any) -> int:
    return len({answer.get("moment") for answer in report["answers"]} - {None})


def test_an_installed_wire_function_is_asked_where_it_is_installed(worker: Bundles, tmp_path: Path) -> None:
    report = ask(worker, {**location_in(tmp_path), **about()})
    assert "untried" not in report, report
    assert (moments(report), report["others"], report["from_source"]) == (3, {}, [])


def test_a_runner_that_puts_the_bundle_first_is_reported(worker: Bundles, tmp_path: Path) -> None:
    report = ask(worker, {**location_in(tmp_path, runner=str(SERVERS / "users_runner.py")), **about()})
    assert "untried" not in report, report
    assert (moments(report), report["others"], report["from_source"]) == (3, {}, ["wire"])


def test_a_one_shot_runner_that_installs_is_asked_in_an_environment_of_its_own(worker: Bundles, tmp_path: Path) -> None:
    command = [*COMMAND, "--install-from", "{wheels}", "--one-shot"]
    location: BundleLocation = {**location_in(tmp_path, command=command, protocol="one-shot"), **about(installs=True)}
    report = ask(worker, location)
    assert "untried" not in report, report
    assert (moments(report), report["others"]) == (3, {})
    own = Path(location["directories"]["worker-0"]) / "own" / "venv"
    assert not (own / "modelops-installed.json").exists(), "the bundle's own stays as it was"
