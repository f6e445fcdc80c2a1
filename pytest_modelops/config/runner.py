"""`[tool.modelops.runner]`: how the runner of a bundle is started and asked."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from pytest_modelops.config.setting import Place, Type, Values, leaf, not_one_of, relative, setting, shown, table
from pytest_modelops.config.types import EXECUTOR, STRING, SWITCH, VARIABLES, choice, is_dotted, path, string, text
from pytest_modelops.errors import WrongInput

JSON_RPC, ONE_SHOT = PROTOCOLS = ("json-rpc", "one-shot")
"""How a runner is asked.

Frames to one process (`remote/worker/runner_process.py`), or a process a request (`remote/worker/one_shot.py`).
"""
_COMMAND = (
    *("{python}", "{runner}", "--bundle-path", "{bundle}"),
    *("--venv-path", "{venv}", "--bundle-digest", "{digest}"),
)
_PLACEHOLDERS = ("{python}", "{runner}", "{bundle}", "{venv}", "{digest}", "{wheels}", "{version}", "{worker-python}")
_TO_INSTALL = ("--install-from", "{wheels}", "--python-version", "{version}")
"""Arguments with which the reference runner installs by itself."""
_FRESH_ENV = {"MODELOPS_FORCE_FRESH_VENV": "true"}


def _command(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise WrongInput(f'{shown(value)} is not a command line, such as ["{{python}}", "{{runner}}"]')
    arguments = tuple(map(string, value))
    for argument in arguments:
        for named in re.findall(r"\{[\w-]*\}", argument):
            if named not in _PLACEHOLDERS:
                raise WrongInput(not_one_of(named, "a placeholder", _PLACEHOLDERS))
    return arguments


def _path(value: object, directory: Path) -> Path | str:
    """A file of the host's, a directory with a `__main__.py`, or `module:file` of the workers' environment."""
    name = text(value)
    module, colon, file = name.partition(":")
    if colon and is_dotted(module) and file.endswith(".py"):
        return name
    found = path(name, directory)
    if found.is_file() or (found / "__main__.py").is_file():
        return found
    raise WrongInput(
        f"{name!r} is neither a runner's file, nor a directory with a __main__.py ({found}), nor module:file.py"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunnerSettings:
    """How the runner of a bundle is started.

    Attributes:
        path: a string is `module:file`, a file beside a module of the workers' environment; `None` is the reference
            runner.
        fresh_env: `None` if there are no such variables.
    """

    path: Path | str | None = setting(
        relative(_path, STRING),
        "`{runner}` in the command: a file, a directory with a `__main__.py`, or "
        '`"package.module:file.py"`, a file beside a module of the workers\' environment. By default the reference '
        "runner.",
    )
    command: tuple[str, ...] = setting(
        leaf(_command, {"type": "array", "items": {"type": "string"}, "minItems": 1}),
        "The command that starts the runner. `{python}` is the interpreter of the bundle's environment on that worker, "
        "`{version}` the worker's Python (X.Y.Z), `{worker-python}` the worker's own interpreter, `{wheels}` a "
        "directory with the bundle's wheels.",
        _COMMAND,
    )
    protocol: str = setting(
        choice("a protocol", PROTOCOLS), 'How the runner is asked: `"json-rpc"` or `"one-shot"`, see below.', JSON_RPC
    )
    installs: bool = setting(
        SWITCH,
        "Whether the runner installs the bundle by itself, into `{venv}`, before it answers. That environment then has "
        "nothing but pip, and the check `venv-reuse` runs.",
        default=False,
    )
    python: str | None = setting(
        EXECUTOR,
        'The Python that the runner executes bundles with, as that interpreter says it itself: `"3.12"`, '
        '`"3.12.1"`, or `"any"`. Default: that of the worker, to the patch release, and for its platform.',
    )
    fresh_env: Mapping[str, str] | None = setting(
        VARIABLES,
        "Variables that make the runner install even if `{venv}` looks installed. Needs `installs = true` and "
        '`json-rpc`. For the reference runner: `{ MODELOPS_FORCE_FRESH_VENV = "true" }`.',
    )

    @property
    def reuses(self) -> bool:
        """Whether it may use an environment again. A one-shot runner has a new one for every request, if any."""
        return self.installs and self.protocol == JSON_RPC


def _finish(found: RunnerSettings, values: Values, place: Place) -> RunnerSettings:
    if "fresh-env" in values and not found.installs:
        raise WrongInput(f"{place.key('fresh-env')}: means nothing without installs = true")
    if "fresh-env" in values and found.protocol != JSON_RPC:
        raise WrongInput(
            f"{place.key('fresh-env')}: means nothing with protocol = {found.protocol!r}, whose runner uses no "
            f"environment again; leave it out, or use protocol = {JSON_RPC!r}"
        )
    if found.path is not None:
        if not any("{runner}" in argument for argument in found.command):
            raise WrongInput(
                f"{place.key('path')}: means nothing with a command that does not have {{runner}}, which is this path; "
                f"put it into {str(place.key('command')).partition(': ')[2]}, or leave the path out"
            )
        return found
    command, fresh_env = found.command, found.fresh_env
    if "command" not in values:
        command += ("--one-shot",) if found.protocol == ONE_SHOT else ()
        command += _TO_INSTALL if found.installs else ()
    if found.installs and fresh_env is None:
        fresh_env = _FRESH_ENV
    return dataclasses.replace(found, command=command, fresh_env=fresh_env)


RUNNER: Type[RunnerSettings] = table(RunnerSettings, _finish, section=True)
