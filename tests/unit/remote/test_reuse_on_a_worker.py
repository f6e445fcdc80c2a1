"""Uses of an environment, with real processes, by a runner that never installs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.remote.shared import canary
from pytest_modelops.remote.shared.canary_messages import Variant
from pytest_modelops.remote.worker.reuse import Reuse, took_too_long

RUNNER = Path(__file__).parents[2] / "servers" / "users_runner.py"
WIRE = "def wire(entrypoint, params, seed):\n    return {}\n" + canary.code("wire", variant="A")


@pytest.fixture
def reuse(tmp_path: Path) -> Reuse:
    (tmp_path / "A").mkdir()
    (tmp_path / "A" / "wire.py").write_text(WIRE)
    (tmp_path / "wheels").mkdir()
    location: Any = {
        "name": "b",
        "digest": "0" * 64,
        "directory": str(tmp_path / "worker-0"),
        "runner": str(RUNNER),
        "command": [
            *("{python}", "{runner}", "--bundle-path", "{bundle}", "--venv-path", "{venv}"),
            *("--bundle-digest", "{digest}"),
        ],
        "protocol": "json-rpc",
        "installs": True,
        "install": "isolated",
        "wheels": str(tmp_path / "wheels"),
    }
    (tmp_path / "worker-0" / "reuse").mkdir(parents=True)
    variant: Variant = {"source": str(tmp_path / "A"), "wheels": str(tmp_path / "wheels"), "digest": "0" * 64}
    return Reuse(location, variants={"A": variant, "B": variant}, forced=None, seconds=120)


def test_a_killed_runner_counts_only_if_its_install_was_seen(reuse: Reuse) -> None:
    assert "result" in reuse._first_use()["uses"][0]["answers"][0]
    second = reuse._second_use()
    assert (second["install_seconds"], second["files"] > 0) == (0.0, True)
    assert reuse._dead_holder() == {"untried": "nothing of an install was seen, so that none was interrupted"}


def took(*seconds: float) -> Any:
    return [{"seconds": each, "answers": [{"result": {}}]} for each in seconds]


def test_a_second_use_is_slow_only_against_a_first_that_was_mostly_an_install() -> None:
    unanswered: Any = [{"seconds": 9.0, "answers": []}]
    assert took_too_long(took(4.0), 4.0, 2.1)
    assert not took_too_long(took(3.9), 4.0, 2.1)
    assert not took_too_long(took(9.0), 4.0, 2.0)
    assert not took_too_long(took(9.0, 1.0), 4.0, 3.0)
    assert not took_too_long(unanswered, 4.0, 3.0)
