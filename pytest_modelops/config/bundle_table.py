"""What `[tool.modelops]` says of bundles and their runner, and what `--modelops-bundle` does."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_modelops.bundles import archive
from pytest_modelops.bundles.bundle import INSTALLS, Bundle
from pytest_modelops.bundles.containers import SUFFIXES
from pytest_modelops.config import readers
from pytest_modelops.config.model import FAILED_WHEN, PROTOCOLS, RunnerSettings
from pytest_modelops.config.options import Given, not_one_of
from pytest_modelops.config.tables import FILE, Table
from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.versions import said_of

_KEYS = (
    *("path", "entrypoint", "params", "seed", "target", "target-data", "imports", "expect"),
    *("aggregation", "install"),
)
_OF_ENTRYPOINT = {
    "params": "that would take them",
    "seed": "that would take it",
    "target": "whose replicates it would aggregate",
    "expect": "that would return it",
}
"""Keys of a bundle that mean nothing without an entry point."""
_PLACEHOLDERS = ("{python}", "{runner}", "{bundle}", "{venv}", "{digest}", "{wheels}", "{version}")
RUNNER_KEYS = ("command", "path", "protocol", "installs", "fresh-env")
_TO_INSTALL = ("--install-from", "{wheels}", "--python-version", "{version}")
"""How the reference runner is reported to install by itself."""
_FRESH_ENV = {"MODELOPS_FORCE_FRESH_VENV": "true"}


def bundles(table: Table, rootdir: Path, sources: Sequence[Given]) -> tuple[Bundle, ...]:
    """The bundles of a run: those of the file, or those that were given elsewhere, the strongest source first.

    Raises:
        WrongInput: one is neither a directory nor an archive, is named as another, or has a setting that
            cannot be meant.
    """
    configured = _distinct(tuple(_configured(table, rootdir)), table.name("bundles"))
    for source in sources:
        with said_of(source.origin):
            found = tuple(at(text, source.directory, configured) for text in source.texts)
        return _distinct(found, source.origin)
    return configured


def at(text: str, directory: Path, configured: Sequence[Bundle]) -> Bundle:
    """The bundle of a path, or with the name, of a configured one with its settings; else one of its own.

    Raises:
        WrongInput: there is no such directory or archive.
    """
    for bundle in configured:
        if text == bundle.name:
            return bundle
    path = _directory(text, directory)
    for bundle in configured:
        if path.resolve() == bundle.path.resolve():
            return bundle
    return Bundle(name=_name(path), path=path)


def others(bundles: Sequence[Bundle], more: Sequence[Bundle]) -> list[Bundle]:
    """Of more bundles, those whose names are free."""
    names = {bundle.name for bundle in bundles}
    return [bundle for bundle in more if bundle.name not in names]


def _configured(table: Table, rootdir: Path) -> list[Bundle]:
    found = table.values.get("bundles", [])
    if not isinstance(found, list):
        raise WrongInput(f"{table.name('bundles')}: {readers.shown(found)} is not a list of paths or tables")
    entries = []
    for index, value in enumerate(found):
        as_table = {"path": value} if isinstance(value, str) else value
        entries.append(Table.checked(as_table, _KEYS, table.path, f"bundles[{index}]"))
    return [_bundle(entry, rootdir) for entry in entries]


def _bundle(entry: Table, rootdir: Path) -> Bundle:
    if "path" not in entry.values:
        raise WrongInput(f"{entry.place}: has no path")
    path = entry.get("path", lambda value: _directory(value, rootdir), rootdir)
    with said_of(entry.name("path")):
        name = _name(path)
    job = entry.inner("aggregation", ["params", "replicates"]) if "aggregation" in entry.values else None
    bundle = Bundle(
        name=name,
        path=path,
        entrypoint=entry.get("entrypoint", _entrypoint, None),
        params=entry.get("params", _plain_table, {}),
        seed=entry.get("seed", _seed, 0),
        targets=entry.get("target", lambda value: readers.each(value, _target), ()),
        target_data=entry.get("target-data", _plain_table, {}),
        imports=entry.get("imports", lambda value: readers.each(value, _module), ()),
        expect=entry.get("expect", _expect, {}),
        install=entry.get("install", _install, Bundle.install),
    )
    if job is not None and (not bundle.targets or bundle.entrypoint is None):
        raise WrongInput(f"{entry.place}: has aggregation, for which it needs an entrypoint and a target")
    for key, why in _OF_ENTRYPOINT.items():
        if key in entry.values and bundle.entrypoint is None:
            raise WrongInput(f"{entry.place}: has {key} and no entrypoint {why}")
    if "target-data" in entry.values and not bundle.targets:
        raise WrongInput(f"{entry.place}: has target-data and no target that would take it")
    if job is None:
        return bundle
    return dataclasses.replace(
        bundle,
        aggregation_params=job.get("params", readers.count, bundle.aggregation_params),
        aggregation_replicates=job.get("replicates", readers.count, bundle.aggregation_replicates),
    )


def runner(table: Table, rootdir: Path) -> RunnerSettings:
    """What `[tool.modelops.runner]` says."""
    path = table.get("path", lambda value: _runner_path(value, rootdir), None)
    protocol = table.get("protocol", _protocol, RunnerSettings.protocol)
    installs = table.get("installs", readers.switch, RunnerSettings.installs)
    if "fresh-env" in table.values and not installs:
        raise WrongInput(f"{table.name('fresh-env')}: means nothing without installs = true")
    if "fresh-env" in table.values and protocol != PROTOCOLS[0]:
        raise WrongInput(
            f"{table.name('fresh-env')}: means nothing with protocol = {protocol!r}, whose runner uses no environment "
            f"again; leave it out, or use protocol = {PROTOCOLS[0]!r}"
        )
    command = RunnerSettings.command
    if path is None:  # the reference runner has to be reported
        command += ("--one-shot",) if protocol == "one-shot" else ()
        command += _TO_INSTALL if installs else ()
    command = table.get("command", _command, command)
    if path is not None and not any("{runner}" in word for word in command):
        raise WrongInput(
            f"{table.name('path')}: means nothing with a command that does not have {{runner}}, which is this path; "
            f"put it into {table.name('command').removeprefix(f'{FILE}: ')}, or leave the path out"
        )
    return RunnerSettings(
        command=command,
        path=path,
        protocol=protocol,
        installs=installs,
        fresh_env=table.get("fresh-env", readers.variables, _FRESH_ENV if installs and path is None else None),
    )


def failed_when(value: object) -> tuple[str, ...]:
    """Conditions under which a replicate counts as failed."""
    conditions = readers.each(value, readers.text)
    for condition in conditions:
        if condition not in FAILED_WHEN:
            raise WrongInput(not_one_of(condition, "a condition", FAILED_WHEN))
    if not conditions:
        raise WrongInput(f"[] would let every replicate pass. Valid: {', '.join(sorted(FAILED_WHEN))}")
    return conditions


def _distinct(found: tuple[Bundle, ...], origin: str) -> tuple[Bundle, ...]:
    by_name: dict[str, Bundle] = {}
    for bundle in found:
        if bundle.name not in by_name:
            by_name[bundle.name] = bundle
            continue
        other = by_name[bundle.name]
        if other.path.resolve() == bundle.path.resolve():
            raise WrongInput(f"{origin}: the bundle {bundle.path} is there twice; name it once")
        raise WrongInput(
            f"{origin}: {bundle.name!r} is the name of two bundles, {other.path} and {bundle.path}; rename one"
        )
    return found


def _directory(value: object, directory: Path) -> Path:
    found = readers.path(value, directory)
    if not found.is_dir() and not (found.is_file() and archive.suffix_of(found)):
        raise WrongInput(f"{value!r} is neither a bundle's directory nor an archive ({', '.join(SUFFIXES)}): {found}")
    return found


def _name(path: Path) -> str:
    """A bundle's name, from its directory's or archive's; it stands in node ids and in paths of the cell."""
    name = path.resolve().name if path.is_dir() else archive.name_of(path)
    if not re.fullmatch(r"[\w.+-]+", name, re.ASCII):
        raise WrongInput(f"{name!r} cannot be a bundle's name: letters, digits, and any of . + - _ are; rename {path}")
    return name


def _entrypoint(value: object) -> str:
    text = readers.text(value)
    if not re.fullmatch(r"[\w.]+[:/][\w.-]+", text):
        raise WrongInput(f"{text!r} is not an entry point; write package.module/scenario or package.module:object")
    return text


def _target(value: object) -> str:
    text = readers.text(value)
    if not re.fullmatch(r"[\w.]+[:/][\w.]+", text):
        raise WrongInput(f"{text!r} is not a target; write package.module:function")
    return text


def _module(value: object) -> str:
    text = readers.text(value)
    if not all(part.isidentifier() for part in text.split(".")):
        raise WrongInput(f"{text!r} is not a module's name, such as package.module")
    return text


def _seed(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongInput(f"{readers.shown(value)} is not a whole number")
    return value


def _plain_table(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise WrongInput(f"{readers.shown(value)} is not a table, such as {{ beta = 0.3 }}")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise WrongInput(f"{readers.shown(value)} cannot be sent as JSON: {error}") from None
    return value


def _expect(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or not value:
        raise WrongInput(
            f'{readers.shown(value)} is not a table of artifacts, such as {{ "result.json" = "…" }} with text or '
            "sha256:<hex>"
        )
    for name, content in value.items():
        with said_of(name):
            text = readers.string(content)
            if text.startswith("sha256:") and not re.fullmatch(r"sha256:[0-9a-fA-F]{64}", text):
                raise WrongInput(f"{text!r} is not sha256: and 64 hexadecimal digits")
    return value


def _install(value: object) -> str:
    text = readers.text(value)
    if text not in INSTALLS:
        raise WrongInput(not_one_of(text, "a way to install", INSTALLS))
    return text


def _protocol(value: object) -> str:
    text = readers.text(value)
    if text not in PROTOCOLS:
        raise WrongInput(not_one_of(text, "a protocol", PROTOCOLS))
    return text


def _command(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise WrongInput(f'{readers.shown(value)} is not a command line, such as ["{{python}}", "{{runner}}"]')
    words = readers.each(value, readers.string)
    for word in words:
        for named in re.findall(r"\{\w*\}", word):
            if named not in _PLACEHOLDERS:
                raise WrongInput(not_one_of(named, "a placeholder", _PLACEHOLDERS))
    return words


def _runner_path(value: object, rootdir: Path) -> Path | str:
    """A file of the host's, a directory with a `__main__.py`, or `module:file` of the workers' environment."""
    text = readers.text(value)
    module, colon, file = text.partition(":")
    if colon and all(part.isidentifier() for part in module.split(".")) and file.endswith(".py"):
        return text
    found = readers.path(text, rootdir)
    if found.is_file() or (found / "__main__.py").is_file():
        return found
    raise WrongInput(
        f"{text!r} is neither a runner's file, nor a directory with a __main__.py ({found}), nor module:file.py"
    )
