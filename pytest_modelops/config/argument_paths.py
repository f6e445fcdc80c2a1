"""Paths in `worker-args`: which arguments are paths of the project, relative to the file that sets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pytest_modelops.errors import WrongInput

_PRELOADS = ("--preload", "--preload-nanny")


def check(arguments: Sequence[str], directory: Path) -> None:
    """Raise `WrongInput` for a preload that is the path of a file which does not exist."""
    before = ""
    for argument in arguments:
        option, value = _split(argument)
        if (option or before) in _PRELOADS and _is_relative(value) and value.endswith(".py"):
            found = directory / value
            if not found.is_file():
                raise WrongInput(
                    f"{option or before} {value!r} is not a file ({found}); a path is relative to the directory of the "
                    "file that sets it"
                )
        before = argument


def placed(arguments: Sequence[str], directory: Path, put: Callable[[Path, str], str]) -> Iterator[str]:
    """Yield arguments with each path of the project replaced by what `put` returns for it.

    Args:
        directory: what relative paths are relative to.
        put: copies a file or directory into the cell, under a name; returns its path there.
    """
    for number, argument in enumerate(arguments):
        option, value = _split(argument)
        path = directory / value
        inside = directory in path.parents  # another absolute path is the environment's own, such as an image's
        looks = _is_relative(value) and ("/" in value or path.suffix != "")
        if value and (looks or (inside and not _is_relative(value))) and path.exists():
            argument = (f"{option}=" if option else "") + put(path, f"worker-args/{number}/{path.name}")  # noqa: PLW2901
        yield argument


def _split(argument: str) -> tuple[str, str]:
    """Return option and value of `--option=value`; no option for a value alone, and no value for an option alone."""
    if not argument.startswith("-"):
        return "", argument
    option, _, value = argument.partition("=")
    return option, value


def _is_relative(value: str) -> bool:
    return value != "" and not value.startswith("/") and "://" not in value and "\n" not in value
