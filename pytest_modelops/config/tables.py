"""Tables of `pyproject.toml`, with the place of each value for messages. What a value means, `settings` says."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pytest_modelops.config import readers
from pytest_modelops.config.options import not_one_of
from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.versions import said_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "pyproject.toml"
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the file, with no keys but valid ones.

    Attributes:
        place: `pyproject.toml: [tool.modelops.matrix]`, or with ` include[0]` behind it.
        path: its name (`tool.modelops.matrix`), or that of the table that it is an entry of.
        entry: which entry it is, if it is one.
    """

    values: Mapping[str, Any]
    path: str
    entry: str = ""

    @classmethod
    def checked(cls, values: object, keys: Collection[str], path: str, entry: str = "") -> Table:
        """A table that has no keys but these; raises `WrongInput`."""
        table = cls(values if isinstance(values, dict) else {}, path, entry)
        if not isinstance(values, dict):
            raise WrongInput(
                f"{table.place}: {readers.shown(values)} is not a table; its keys are {', '.join(sorted(keys))}"
            )
        for key in values:
            if key not in keys:
                raise WrongInput(f"{table.place}: {not_one_of(key, 'a key', keys)}")
        return table

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{FILE}: [{self.path}]" + (f" {self.entry}" if self.entry else "")

    def name(self, key: str) -> str:
        """The place of a key, for messages."""
        return f"{self.place}{'.' if self.entry else ' '}{key}"

    def get(self, key: str, read: Callable[[Any], T], otherwise: T) -> T:
        """Read the key's value, if it is there."""
        if key not in self.values:
            return otherwise
        with said_of(self.name(key)):
            return read(self.values[key])

    def section(self, key: str, keys: Collection[str]) -> Table:
        """The table `[….key]`, empty if it is not there."""
        return Table.checked(self.values.get(key, {}), keys, f"{self.path}.{key}")

    def entries(self, key: str, keys: Collection[str]) -> list[Table]:
        """The tables in the list `key`."""
        found = self.values.get(key, [])
        if not isinstance(found, list):
            raise WrongInput(f"{self.name(key)}: {readers.shown(found)} is not a list of tables")
        return [Table.checked(value, keys, self.path, f"{key}[{index}]") for index, value in enumerate(found)]

    def inner(self, key: str, keys: Collection[str]) -> Table:
        """The table `key` in an entry."""
        return Table.checked(self.values[key], keys, self.path, f"{self.entry}.{key}")


def read_file(rootdir: Path, keys: Collection[str]) -> Table:
    """The table `[tool.modelops]` of the file in a directory, empty if there is none; it may have these keys.

    Raises:
        WrongInput: the file cannot be read, or the table has another key.
    """
    try:
        content = tomllib.loads((rootdir / FILE).read_bytes().decode())
    except FileNotFoundError:
        content = {}
    except OSError as error:
        raise WrongInput(f"{FILE}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # also of text that is not UTF-8
        raise WrongInput(f"{FILE}: not valid TOML: {error}") from None
    tool = content.get("tool", {})
    modelops = tool.get("modelops", {}) if isinstance(tool, dict) else {}
    return Table.checked(modelops, keys, "tool.modelops")
