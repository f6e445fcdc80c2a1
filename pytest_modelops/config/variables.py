"""Variables of a cell's processes: the host's and the cell's directory named in them, and what of them is never shown.

Settings keep a value as it is in the file. It is filled in only where processes start, so that no plan, report or
message can hold more than the file does.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from pytest_modelops.config.setting import leaf
from pytest_modelops.config.types import variable_name, variables
from pytest_modelops.errors import WrongInput, said_of

T = TypeVar("T")

HIDDEN = "[…]"
CELL_DIRECTORY = "{cell-dir}"
_OF_HOST = re.compile(r"\{env:([^{}]*)\}")
_SECRET = re.compile(
    r"(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|(^|_|API|SSH|ACCESS|PRIVATE)KEY|(^|_)(PASS|PWD|AUTH|COOKIE))"
    r"S?(?=_|\d|$)",
    re.IGNORECASE,
)
"""A word of a variable's name that says that its value is a secret. `TOKENIZERS_PARALLELISM` has none."""
_LEAST, _LONG = 4, 8
"""A value with fewer characters is hidden beside its name only; a long one is hidden inside words, too."""
_ORDINARY = {"true", "false", "none", "null", "info", "debug"}


def is_secret(name: str) -> bool:
    """Whether a variable's name says that its value is a secret. `PWD` itself is the working directory."""
    return name != "PWD" and _SECRET.search(name) is not None


def expanded(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return a value with the host's variables filled in; `WrongInput` if the host does not have one."""

    def content(match: re.Match[str]) -> str:
        name = variable_name(match[1])
        if name not in environ:
            raise WrongInput(f"{match[0]}: this machine has no variable {name}; set it where pytest is started")
        return environ[name]

    return _OF_HOST.sub(content, text)


def in_cell(variables: Mapping[str, str], directory: str) -> dict[str, str]:
    """Return variables with the cell's directory filled in."""
    return {name: value.replace(CELL_DIRECTORY, directory) for name, value in variables.items()}


@dataclasses.dataclass(frozen=True)
class Secrets:
    """Values that are not shown, by the names of their variables.

    Attributes:
        all_values: whether they are all values, and not only secret ones: those of up to seven characters, which may
            be any word, are then hidden beside their name only.
    """

    values: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    all_values: bool = False

    @classmethod
    def of(cls, variables: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> Secrets:
        """Return the secrets among variables, which are as in the file: what is the host's, or is named as a secret."""
        found = {}
        for name, text in variables.items():
            of_host = {environ[one] for one in _OF_HOST.findall(text)}
            found[name] = of_host | _in_value(name, expanded(text, environ))
        return cls({name: frozenset(values - {""}) for name, values in found.items() if values - {""}})

    @classmethod
    def passed(cls, names: Iterable[str], environ: Mapping[str, str] = os.environ) -> Secrets:
        """Return the secrets among variables of the host that are passed on as they are."""
        found = {name: _in_value(name, environ[name]) - {""} for name in names if name in environ}
        return cls({name: frozenset(values) for name, values in found.items() if values})

    @classmethod
    def everything(cls, variables: Iterable[tuple[str, str]], environ: Mapping[str, str] = os.environ) -> Secrets:
        """Return all values, which are as in the file: of what others may see."""
        found: dict[str, set[str]] = {}
        for name, text in variables:
            found.setdefault(name, set()).update(expanded(text, environ).split(CELL_DIRECTORY))
        return cls({name: frozenset(values - {""}) for name, values in found.items()}, all_values=True)

    def __or__(self, other: Secrets) -> Secrets:
        names = {*self.values, *other.values}
        none: frozenset[str] = frozenset()
        return Secrets({name: self.values.get(name, none) | other.values.get(name, none) for name in names})

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        named = ((name, value) for name, values in self.values.items() for value in values)
        parts = {part for name, value in named for part in _parts(name, value, is_anywhere=self._is_anywhere)}
        return re.compile("|".join(sorted(parts, key=len, reverse=True))) if parts else None

    @functools.cached_property
    def _long(self) -> list[str]:
        of_name = [(name, value) for name, values in self.values.items() for value in values]
        return [value for name, value in of_name if len(value) >= 2 * _LONG and self._is_anywhere(name, value)]

    def _is_anywhere(self, name: str, value: str) -> bool:
        """Return whether a value is hidden wherever it stands, or only beside its name."""
        return len(value) >= _LONG if self.all_values else _is_anywhere(name, value)

    def hide(self, text: str) -> str:
        """Return a text with `[…]` in the place of each secret."""
        if self._pattern is None:
            return text
        text = self._pattern.sub(lambda match: f"{_beside(match)}{HIDDEN}", text)
        for secret in self._long:  # of a long one, a part may be at the end of a shortened line
            half = len(secret) // 2
            while (at := text.find(secret[:half])) >= 0:
                end = next(at + n for n in range(len(secret), 0, -1) if text.startswith(secret[:n], at))
                text = f"{text[:at]}{HIDDEN}{text[end:]}"
        return text

    def hide_in(self, value: T) -> T:
        """Return plain data, or a result made of it, with `[…]` in the place of each secret."""
        return self._hidden(value) if self.values else value

    def _hidden(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, Mapping):
            return {
                key: HIDDEN if key in self.values and isinstance(one, str) else self._hidden(one)
                for key, one in value.items()
            }
        if isinstance(value, list | tuple):
            return type(value)(self._hidden(one) for one in value)
        return value


def _beside(match: re.Match[str]) -> str:
    """Return the name with its equals sign, where a value is hidden beside it only."""
    return next((text for text in match.groups() if text), "")


def _is_anywhere(name: str, value: str) -> bool:
    """Return whether a value is hidden wherever it stands, or only beside its name."""
    is_path = value.startswith(os.sep) and not is_secret(name)
    return len(value) >= _LEAST and value.lower() not in _ORDINARY and not is_path


def _parts(name: str, value: str, *, is_anywhere: Callable[[str, str], bool]) -> Iterator[str]:
    """Yield patterns of a secret, also of how `repr` and JSON show it, and of each line of a long text."""
    for form in {value, repr(value)[1:-1], json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}:
        literal = re.escape(form)
        if not is_anywhere(name, form):
            yield rf"""(\b{re.escape(name)}["']?\s?(?:[=:]|is\b)\s?["']?){literal}(?![\w/.-])"""
        else:
            yield literal if len(form) >= _LONG else rf"(?<!\w){literal}(?!\w)"
    yield from (re.escape(line.strip()) for line in value.splitlines()[1:] if len(line.strip()) >= _LONG)
    if first := next(iter(value.splitlines()[:-1]), "").strip():
        yield from [re.escape(first)] if len(first) >= _LONG else []


def _in_value(name: str, value: str) -> set[str]:
    """Return what is secret in a value: all of it if its name says so, else the password of an address."""
    if is_secret(name):
        return {value}
    try:
        password = urlsplit(value).password or ""
    except ValueError:
        return set()
    return {password, unquote(password)}


def _variables(value: object) -> Mapping[str, str]:
    if isinstance(value, dict):
        for name, one in value.items():
            if is_secret(name) and not isinstance(one, str):  # the message on it holds the value
                raise WrongInput(f"{name}: its value is not a string; write it in quotes")
    found = variables(value)
    for name, text in found.items():
        with said_of(name):
            expanded(text)
    return found


CELL_VARIABLES = leaf(_variables, {"type": "object", "additionalProperties": {"type": "string"}})
