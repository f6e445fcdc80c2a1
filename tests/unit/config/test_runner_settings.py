"""`[tool.modelops.runner]`: how a bundle's runner is started and asked, beyond what `test_bundle_settings` reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_modelops.config.model import RunnerSettings
from tests.unit.config.conftest import MessageOf, Read

ONE_SHOT = "[tool.modelops.runner]\nprotocol = 'one-shot'\n"


def test_by_default_it_is_the_reference_runner_with_frames(read: Read) -> None:
    settings = read().runner
    assert settings == RunnerSettings()
    assert (settings.protocol, settings.path) == ("json-rpc", None)
    assert "--one-shot" not in settings.command


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ("", (*RunnerSettings.command, "--one-shot")),
        ("path = 'cold.py'", RunnerSettings.command),
        ("command = ['{python}', 'x']", ("{python}", "x")),
    ],
)
def test_only_the_default_command_of_the_reference_runner_gets_the_flag(
    read: Read, tmp_path: Path, key: str, command: tuple[str, ...]
) -> None:
    (tmp_path / "cold.py").touch()
    settings = read(ONE_SHOT + key).runner
    assert (settings.protocol, settings.command) == ("one-shot", command)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("'cold'", "'cold' is not a protocol; valid: json-rpc, one-shot"),
        ("''", "'' is not a protocol; valid: json-rpc, one-shot"),
        ("1", '1 is a number; write it in quotes: "1"'),
    ],
)
def test_another_protocol_is_refused_with_the_valid_ones(message_of: MessageOf, value: str, message: str) -> None:
    found = message_of(f"[tool.modelops.runner]\nprotocol = {value}")
    assert found == f"pyproject.toml: [tool.modelops.runner] protocol: {message}"
