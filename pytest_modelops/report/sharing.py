"""What a report may show to others: nothing of the values of variables, and the home directory as `~`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_modelops.report.model import RunReport

HIDDEN = "[…]"
_VALUES = frozenset({"variables", "config"})
"""Keys of facts whose values are those of variables, or come from them."""


class Sharing:
    """Turns what is known of a run into what others may see.

    Args:
        homes: paths of the home directory.
        hide: replaces values of variables in a text.
    """

    def __init__(self, homes: Iterable[Path], hide: Callable[[str], str]) -> None:
        paths = sorted({str(home) for home in homes if len(home.parts) > 1}, key=len, reverse=True)
        # Not a part of a longer path or name, `/root2` or `/srv/root`; but after an option, as in `-I/root/include`.
        names = "|".join(map(re.escape, paths))
        self._home = re.compile(rf"(?:(?<![\w.~-])|(?<=\s-\w))(?:{names})(?![\w.-])") if paths else None
        self._hide = hide

    def text(self, text: str) -> str:
        shown = self._hide(text)
        return self._home.sub("~", shown) if self._home else shown

    def report(self, report: RunReport) -> RunReport:
        plain: Any = report.to_json()
        for cell in plain["cells"]:
            cell["observed"] = _without_values(cell["observed"])
        return RunReport.from_json(self._shared(plain))

    def _shared(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Path):
            return self.text(str(value))
        if isinstance(value, Mapping):
            return {self._shared(key): self._shared(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._shared(one) for one in value]
        return value


def _without_values(value: Any) -> Any:
    """Return facts without the values of variables."""
    if not isinstance(value, Mapping):
        return value
    return {
        key: _hidden(one) if key in _VALUES and isinstance(one, Mapping) else _without_values(one)
        for key, one in value.items()
    }


def _hidden(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _hidden(one) for key, one in value.items()}
    return value if value is None else HIDDEN
