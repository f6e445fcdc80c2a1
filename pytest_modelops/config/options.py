"""The options: one table that flags, ini settings and variables come from, and what was written for them.

Imported whenever pytest starts, so it needs nothing but pytest and the standard library. What a text means is
for `settings` to say.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

import pytest

from pytest_modelops.errors import WrongInput

VARIABLE_PREFIX = "PYTEST_MODELOPS_"


class Kind(enum.Enum):
    """What an option is given with: nothing, one value, or one value each time."""

    SWITCH = enum.auto()
    ONE = enum.auto()
    MANY = enum.auto()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """One option, and where besides the command line it may be given.

    Attributes:
        name: what its flag, ini setting and variable are named after.
        metavar: what stands for the value in the help; empty for a switch.
        ini: whether there is an ini setting; several values are one a line there.
        variable: whether there is a variable; several values are separated by spaces there, quoted as in a
            shell (a Dask range has commas). An empty one is as good as none.
        path: whether its values are paths.
    """

    name: str
    kind: Kind
    help: str
    metavar: str = ""
    ini: bool = False
    variable: bool = True
    path: bool = False

    @property
    def flag(self) -> str:
        """`--modelops-workers`."""
        return f"--modelops-{self.name}"

    @property
    def dest(self) -> str:
        """`modelops_workers`: the name in `config.option`, and that of the ini setting."""
        return f"modelops_{self.name}"

    @property
    def variable_name(self) -> str:
        """`PYTEST_MODELOPS_WORKERS`."""
        return VARIABLE_PREFIX + self.name.upper()


OPTIONS = (
    Option(
        name="matrix",
        kind=Kind.SWITCH,
        help="Run the matrix: real Dask clusters for every Python × Dask cell.",
        variable=False,
    ),
    Option(
        name="backend",
        kind=Kind.ONE,
        metavar="auto|docker|process",
        help="What cells are made of: containers (docker), local virtual environments (process), or the best at "
        "hand (auto).",
        ini=True,
    ),
    Option(
        name="python",
        kind=Kind.MANY,
        metavar="V",
        help="Replace the Python axis: X.Y or X.Y.Z (repeatable). Included cells fall away.",
    ),
    Option(
        name="dask",
        kind=Kind.MANY,
        metavar="V",
        help="Replace the Dask axis: a release, latest, installed or a range (repeatable). Included cells fall away.",
    ),
    Option(
        name="cell",
        kind=Kind.MANY,
        metavar="GLOB",
        help="Keep the cells whose id matches, such as 'py3.13-*' (repeatable).",
    ),
    Option(
        name="bundle",
        kind=Kind.MANY,
        metavar="PATH",
        path=True,
        help="Replace the configured bundles: a bundle's directory, or the name of a configured one (repeatable).",
    ),
    Option(name="workers", kind=Kind.ONE, metavar="N", help="Worker processes in each cell.", ini=True),
    Option(
        name="deadline",
        kind=Kind.MANY,
        metavar="CHECK=SECONDS",
        help="How long a check may take (repeatable).",
        ini=True,
    ),
    Option(
        name="report",
        kind=Kind.MANY,
        metavar="PATH",
        help="Write a report, of the kind that its ending names: .json (repeatable).",
        ini=True,
        path=True,
    ),
    Option(
        name="keep",
        kind=Kind.ONE,
        metavar="never|failed|always",
        help="Leave cells up when they are done, and print how to get in and how to clear them.",
        ini=True,
    ),
    Option(name="fresh", kind=Kind.SWITCH, help="Trust no cached environment.", ini=True),
    Option(
        name="cache",
        kind=Kind.ONE,
        metavar="PATH",
        help="Where environments are kept between runs.",
        ini=True,
        path=True,
    ),
)


class _PlanAction(argparse.Action):
    """Store what stands behind `=` in the flag itself, `text` without.

    An optional value (`nargs="?"`) would swallow the path in `--modelops-plan tests/`. So there is none:
    argparse knows `--modelops-plan=json` as a second flag.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - argparse's signature
        namespace: argparse.Namespace,
        values: object,  # noqa: ARG002
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, (option_string or "").partition("=")[2] or "text")


def add_options(parser: pytest.Parser) -> None:
    """Register flags and ini settings. `config.option.modelops_plan` is `None`, `"text"` or `"json"`."""
    group = parser.getgroup("modelops", "Dask version matrix (pytest-modelops)")
    for option in OPTIONS:
        _add_flag(group, option)
        if option.ini:
            # Text that `settings` reads: other types, and their errors, differ between versions of pytest.
            ini_type: Literal["linelist", "string"] = "linelist" if option.kind is Kind.MANY else "string"
            parser.addini(option.dest, f"As {option.flag}.", type=ini_type)
    group.addoption(
        "--modelops-plan",
        "--modelops-plan=json",
        dest="modelops_plan",
        action=_PlanAction,
        nargs=0,
        help="Print which cells would run, and why not the rest; start nothing.",
    )


def _add_flag(group: pytest.OptionGroup, option: Option) -> None:
    help_text = f"{option.help} Variable: {option.variable_name}." if option.variable else option.help
    if option.kind is Kind.SWITCH:
        group.addoption(option.flag, dest=option.dest, action="store_true", help=help_text)
    else:
        action = "append" if option.kind is Kind.MANY else "store"
        group.addoption(
            option.flag, dest=option.dest, action=action, metavar=option.metavar, default=None, help=help_text
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
    """What was written for an option in one place.

    Attributes:
        texts: the values; `("true",)` for a switch on the command line.
        origin: the place, for messages: `--modelops-workers`, `PYTEST_MODELOPS_WORKERS`,
            `pytest.ini: modelops_workers`.
        directory: what a relative path is relative to.
    """

    texts: tuple[str, ...]
    origin: str
    directory: Path

    @property
    def text(self) -> str:
        """The value of an option that has only one."""
        return self.texts[-1]


def given(config: pytest.Config, environ: Mapping[str, str]) -> dict[str, tuple[Given, ...]]:
    """What was written for each option, by its name; the strongest first: command line, variable, ini.

    Raises:
        WrongInput: a variable that there is not, or one or an ini setting of the wrong form.
    """
    variables = {option.variable_name for option in OPTIONS if option.variable}
    for name in sorted(environ):
        if name.startswith(VARIABLE_PREFIX) and name not in variables:
            raise WrongInput(f"environment: {not_one_of(name, 'a variable of pytest-modelops', variables)}")
    found = {}
    for option in OPTIONS:
        sources = (
            _from_command_line(option, config),
            _from_variable(option, config, environ),
            _from_ini(option, config),
        )
        found[option.name] = tuple(source for source in sources if source is not None)
    return found


def _from_command_line(option: Option, config: pytest.Config) -> Given | None:
    value = config.getoption(option.dest)
    if value in (None, False):
        return None
    texts = {Kind.SWITCH: ["true"], Kind.ONE: [value], Kind.MANY: value}[option.kind]
    return Given(texts=tuple(texts), origin=option.flag, directory=config.invocation_params.dir)


def _from_variable(option: Option, config: pytest.Config, environ: Mapping[str, str]) -> Given | None:
    text = environ.get(option.variable_name, "").strip() if option.variable else ""
    if not text:
        return None
    try:
        texts = shlex.split(text) if option.kind is Kind.MANY else [text]
    except ValueError as error:
        raise WrongInput(f"{option.variable_name}: {text!r} is not quoted as in a shell: {error}") from None
    return Given(texts=tuple(texts), origin=option.variable_name, directory=config.invocation_params.dir)


def _from_ini(option: Option, config: pytest.Config) -> Given | None:
    if not option.ini:
        return None
    overridden = [text.partition("=")[0] for text in config.getoption("override_ini") or ()]
    if config.inipath is None or option.dest in overridden:
        origin = f"-o {option.dest}"
    else:
        origin = f"{config.inipath.name}: {option.dest}"
    try:
        value = config.getini(option.dest)
    except (TypeError, ValueError, pytest.UsageError) as error:
        raise WrongInput(f"{origin}: {error}") from None
    if not value:
        return None
    if isinstance(value, str):
        value = [value.strip()]
    elif option.kind is not Kind.MANY:
        raise WrongInput(f"{origin}: {value!r} is a list; it takes one value")
    directory = config.inipath.parent if config.inipath else config.invocation_params.dir
    return Given(texts=tuple(map(str, value)), origin=origin, directory=directory)


def not_one_of(word: str, what: str, valid: Collection[str]) -> str:
    """Say that a word is not valid, which one may be meant, and which there are."""
    import difflib

    close = difflib.get_close_matches(word, valid, n=1, cutoff=0.7)
    meant = f"did you mean {close[0]!r}? Valid" if close else "valid"
    return f"{word!r} is not {what}; {meant}: {', '.join(sorted(valid))}"
