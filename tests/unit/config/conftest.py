"""Settings, read from text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_modelops.config.file import nearest
from pytest_modelops.config.parsing import parse
from pytest_modelops.config.setting import Given
from pytest_modelops.config.settings import Settings
from pytest_modelops.errors import WrongInput

CHECKS = ("resolve", "install", "start", "lambda", "runtime")

Read = Callable[..., Settings]
MessageOf = Callable[..., str]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Parse a pyproject.toml (`None`: as it is), with `--modelops-bundle`s.

    `workers=("PYTEST_MODELOPS_WORKERS", "3")` is what was given elsewhere for `workers`, written in `directory`.
    """

    def read(toml: str | None = "", *bundles: str, directory: str = ".", **sources: tuple[str, ...]) -> Settings:
        if toml is not None:
            (tmp_path / "pyproject.toml").write_text(toml, encoding="utf-8")
        if bundles:
            sources["bundle"] = ("--modelops-bundle", *bundles)
        given = {
            name: (Given(texts=texts, origin=origin, directory=tmp_path / directory),)
            for name, (origin, *rest) in sources.items()
            if (texts := tuple(rest))
        }
        return parse(nearest(tmp_path, otherwise=(), directory=tmp_path), given)

    return read


@pytest.fixture
def message_of(read: Read) -> MessageOf:
    """Parse as `read` does, what is wrong; the message, which is one line."""

    def message_of(toml: str | None = "", *bundles: str, **sources: tuple[str, ...]) -> str:
        with pytest.raises(WrongInput) as raised:
            read(toml, *bundles, **sources).deadlines_of(CHECKS)
        message = str(raised.value)
        assert "\n" not in message
        return message

    return message_of
