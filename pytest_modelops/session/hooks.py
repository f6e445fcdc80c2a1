"""Calling the hooks that change a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_modelops.errors import WrongInput


def change(config: pytest.Config, hook: str, **given: list[Any]) -> None:
    """Have a hook change the list that it is given under a name.

    Raises:
        WrongInput: an implementation returned something else, or is a generator, so it did not mean to change the list.
    """
    [(name, changed)] = given.items()
    arguments: Mapping[str, Any] = {name: changed, "config": config}
    for returned in getattr(config.hook, hook)(**arguments):
        if returned is not changed:
            raise WrongInput(
                f"{hook}: an implementation returned {returned!r}, which is ignored; change `{name}` in place"
            )
