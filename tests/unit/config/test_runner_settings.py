"""`[tool.modelops.runner]`: how a bundle's runner is started, and how it is spoken with."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_modelops.config.model import RunnerSettings
from pytest_modelops.config.runner import RUNNER
from pytest_modelops.config.setting import Place
from pytest_modelops.errors import WrongInput


def read(directory: Path, **values: object) -> RunnerSettings:
    return RUNNER.read(values, Place(origin="pyproject.toml", directory=directory))


def test_by_default_it_is_the_reference_runner_with_frames(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert settings == RunnerSettings()
    assert (settings.protocol, settings.path) == ("json-rpc", None)
    assert "--one-shot" not in settings.command


def test_the_reference_runner_is_told_that_it_is_one_shot(tmp_path: Path) -> None:
    settings = read(tmp_path, protocol="one-shot")
    assert settings.protocol == "one-shot"
    assert settings.command == (*RunnerSettings.command, "--one-shot")


def test_a_runner_or_command_of_the_users_is_told_nothing(tmp_path: Path) -> None:
    (tmp_path / "cold.py").touch()
    assert read(tmp_path, protocol="one-shot", path="cold.py").command == RunnerSettings.command
    assert read(tmp_path, protocol="one-shot", command=["{python}", "x"]).command == ("{python}", "x")


@pytest.mark.parametrize(("value", "words"), [("cold", "'cold'"), (1, "1"), ("", "''")])
def test_another_protocol_is_refused_with_those_there_are(tmp_path: Path, value: object, words: str) -> None:
    with pytest.raises(WrongInput) as raised:
        read(tmp_path, protocol=value)
    message = str(raised.value)
    assert "protocol" in message
    assert words in message
    assert value == 1 or "json-rpc, one-shot" in message or value == ""
