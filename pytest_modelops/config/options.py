"""Register the flags and ini settings, and gather what was given for each option.

Imported whenever pytest starts, so it needs nothing but pytest and the standard library.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pytest

from pytest_modelops.config.file import ConfigFile, named, nearest
from pytest_modelops.config.parsing import parse
from pytest_modelops.config.setting import VARIABLE_PREFIX, Declaration, Given, Kind, not_one_of, options
from pytest_modelops.config.settings import Settings
from pytest_modelops.config.types import PATH, SWITCH
from pytest_modelops.errors import WrongInput

MATRIX: Declaration[object] = Declaration(
    type_=SWITCH, name="matrix", help="Run the matrix: real Dask clusters for every Python × Dask cell.", variable=False
)
CONFIG: Declaration[Path] = Declaration(
    type_=PATH,
    name="config",
    metavar="PATH",
    help="The file whose `[tool.modelops]` is read. By default the nearest `pyproject.toml` that has it, from where "
    "pytest is called upwards. Paths in it are relative to its directory.",
    ini=True,
    path=True,
)
OPTIONS: tuple[Declaration[object], ...] = (MATRIX, CONFIG, *options(Settings))
PLAN_FORMS = ("json", "github", "gitlab")
PLAN_HELP = (
    "Print which cells would run, and why not the rest; start, pull and remove nothing. All of it as `json`, "
    "or the matrix of a CI service with a job for each cell as `github` and `gitlab` take it."
)


def load(config: pytest.Config) -> Settings:
    """Read all settings of this run.

    Raises:
        WrongInput: a value, key, variable or file is not valid.
    """
    sources = given(config, os.environ)
    return parse(_file(config, sources), sources)


def start_of(config: pytest.Config) -> Path:
    """Return the directory in which pytest was called; in an xdist worker, that of the controller."""
    handed = getattr(config, "workerinput", {}).get("modelops")
    return Path(handed["start"]) if handed else config.invocation_params.dir


def _file(config: pytest.Config, sources: Mapping[str, Sequence[Given]]) -> ConfigFile:
    start = start_of(config)
    if asked := next(iter(sources[CONFIG.name]), None):
        return named(PATH.read_given(asked), start)
    tests = [argument.partition("::")[0] for argument in config.args]
    places = [start / test for test in tests] + [
        place for test in tests if config.option.pyargs and (place := _directory_of_package(test))
    ]
    return nearest(start, otherwise=[*places, config.rootpath], directory=config.rootpath)


def _directory_of_package(name: str) -> Path | None:
    """Return where the package or module of an argument for `--pyargs` is; `None` if it was installed from a wheel."""
    try:
        spec = importlib.util.find_spec(name)
    except Exception:  # noqa: BLE001 - a parent package is imported and may raise anything; pytest reports it
        return None
    origin = (spec.origin or next(iter(spec.submodule_search_locations or ()), None)) if spec else None
    installed = origin is None or any(
        Path(origin).is_relative_to(sysconfig.get_path(n)) for n in ("purelib", "platlib")
    )
    return None if origin is None or installed else Path(origin).parent


class _PlanAction(argparse.Action):
    """Store what follows `=` in the flag itself, or `text`.

    An optional value (`nargs="?"`) would swallow the path in `--modelops-plan tests/`, so argparse knows
    `--modelops-plan=json` as a second flag.
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
    """Register flags and ini settings. `config.option.modelops_plan` is `None`, `"text"` or a form."""
    group = parser.getgroup("modelops", "Dask version matrix (pytest-modelops)")
    for option in OPTIONS:
        _add_flag(group, option)
        if option.ini:
            # Text that `settings` reads: other types, and their errors, differ between versions of pytest.
            ini_type: Literal["linelist", "string"] = "linelist" if option.kind is Kind.MANY else "string"
            parser.addini(option.dest, f"As {option.flag}.", type=ini_type)
    group.addoption(
        "--modelops-plan",
        *(f"--modelops-plan={form}" for form in PLAN_FORMS),
        dest="modelops_plan",
        action=_PlanAction,
        nargs=0,
        help=PLAN_HELP,
    )


def _add_flag(group: pytest.OptionGroup, option: Declaration[object]) -> None:
    help_text = option.flag_help or option.help
    if option.kind is Kind.MANY:
        help_text += " Repeatable."
    if option.variable:
        help_text += f" Variable: {option.variable_name}."
    # Of a help with one character that stdout cannot show, pytest escapes everything, line breaks included.
    help_text = help_text.replace("×", "x").replace("%", "%%")
    if option.kind is Kind.SWITCH:
        group.addoption(option.flag, dest=option.dest, action="store_true", help=help_text)
    else:
        action = "append" if option.kind is Kind.MANY else "store"
        group.addoption(
            option.flag, dest=option.dest, action=action, metavar=option.metavar, default=None, help=help_text
        )


def given(config: pytest.Config, environ: Mapping[str, str]) -> dict[str, tuple[Given, ...]]:
    """Return what was given for each option, by its name; the strongest first: command line, variable, ini.

    Raises:
        WrongInput: a variable is unknown, or it or an ini setting has the wrong form.
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


def _from_command_line(option: Declaration[object], config: pytest.Config) -> Given | None:
    value = config.getoption(option.dest)
    if value in (None, False):
        return None
    texts = {Kind.SWITCH: ["true"], Kind.ONE: [value], Kind.MANY: value}[option.kind]
    return Given(texts=tuple(texts), origin=option.flag, directory=start_of(config))


def _from_variable(option: Declaration[object], config: pytest.Config, environ: Mapping[str, str]) -> Given | None:
    text = environ.get(option.variable_name, "").strip() if option.variable else ""
    if not text:
        return None
    try:
        texts = shlex.split(text) if option.kind is Kind.MANY else [text]
    except ValueError as error:
        raise WrongInput(f"{option.variable_name}: {text!r} is not quoted as in a shell: {error}") from None
    return Given(texts=tuple(texts), origin=option.variable_name, directory=start_of(config))


def _from_ini(option: Declaration[object], config: pytest.Config) -> Given | None:
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
        value = _native(option, config)
        if value is None:
            raise WrongInput(f"{origin}: {error}") from None
    if not value:
        return None
    if isinstance(value, str):
        value = [value.strip()]
    elif option.kind is not Kind.MANY:
        raise WrongInput(f"{origin}: {value!r} is a list; it takes one value")
    directory = config.inipath.parent if config.inipath else start_of(config)
    return Given(texts=tuple(map(str, value)), origin=origin, directory=directory)


def _native(option: Declaration[object], config: pytest.Config) -> str | list[str] | None:
    """Return the texts of a number, a boolean or a single text, which pytest 9 refuses in its native TOML tables."""
    from pytest_modelops.storage.toml import tomllib

    if config.inipath is None or config.inipath.suffix != ".toml":
        return None
    try:
        content = tomllib.loads(config.inipath.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    for table in (content.get("tool", {}).get("pytest", {}), content.get("pytest", {})):
        value = table.get(option.dest)
        values = value if isinstance(value, list) else [value]
        if values and all(isinstance(one, str | int | float) for one in values):
            texts = [str(one).lower() if isinstance(one, bool) else str(one) for one in values]
            return texts if option.kind is Kind.MANY or isinstance(value, list) else texts[0]
    return None
