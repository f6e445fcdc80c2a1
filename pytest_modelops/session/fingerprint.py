"""What decides about the results of a cell, as hashes of named parts: a later run compares them with its own.

A report holds them, and reports are shared. So they are made with a key that stays in the cache: without it, nobody
can find out which value of a variable has a hash.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import hashlib
import importlib.metadata
import inspect
import json
import os
import secrets
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from packaging.requirements import Requirement

from pytest_modelops.backends.base import Backend
from pytest_modelops.backends.process import FROM_HOST
from pytest_modelops.bundles import contents
from pytest_modelops.config import argument_paths
from pytest_modelops.config.setting import declarations
from pytest_modelops.config.settings import Settings
from pytest_modelops.environments.base import Lock
from pytest_modelops.environments.wheels import LocalRequirement
from pytest_modelops.errors import ModelopsError
from pytest_modelops.matrix.cell import Cell, Role, Versions
from pytest_modelops.session.configured import Configured
from pytest_modelops.session.sources import Sources
from pytest_modelops.storage.files import hash_file
from pytest_modelops.storage.toml import tomllib

Parts = Mapping[str, str]
"""Name of a part, for people → hash of what it is."""

_KEY = "fingerprint.key"
_PACKAGE = Path(__file__).parents[1]
_MOST_READ = 1 << 26
"""Bytes of data files that are read for one name."""
_IN_OTHER_PARTS = {"matrix", "bundles", "deadlines", "backend", "environment"}
"""Keys of settings that are not hashed as they are."""


class Fingerprints:
    """Makes the parts of one run and of its cells.

    Args:
        cache: keeps the key.

    Raises:
        OSError: the key cannot be written.
    """

    def __init__(self, cache: Path) -> None:
        self._key = _key_in(cache)

    def of(self, value: object) -> str:
        """Return the hash of a value. A path stands for what is in its file or directory, too."""
        text = json.dumps(plain(value), sort_keys=True)
        return hashlib.blake2b(text.encode(errors="surrogateescape"), key=self._key, digest_size=8).hexdigest()

    def of_run(self, configured: Configured, *, backend: str, config: pytest.Config) -> Parts:
        """Return the parts that all cells have in common.

        Args:
            backend: name of the one that runs the cells.
        """
        settings = configured.settings
        decisive = {one.key or one.name: name for name, one in declarations(Settings).items() if one.decides != ()}
        found: dict[str, object] = {
            "pytest-modelops": _own(),
            "this machine": [sys.version, *_system(), _requirements()],
            "backend": backend,
            "deadlines": configured.deadlines,
            "variables": _variables(settings),
            "environment": [settings.environment, inputs_of_environment(settings)],
            **{f"bundle {bundle.name}": bundle for bundle in settings.bundles},
            **{key: getattr(settings, name) for key, name in decisive.items() if key not in _IN_OTHER_PARTS},
        }
        if own := sources_of_hooks(config):
            elsewhere = any(not file.is_relative_to(config.rootpath) for file in own)
            found["hooks"] = [own, _installed_here() if elsewhere else None]
        return {name: self.of(value) for name, value in found.items()}

    def of_cell(self, cell: Cell, backend: Backend, locks: Mapping[Versions, Lock]) -> Parts:
        """Return the parts of a cell, of those roles that have a lock."""
        of_role = {role.value: cell[role] for role in Role}
        if cell.rolling is not None:
            of_role |= {f"upgraded {role.value}": cell.upgraded(role) for role in Role}
        found: dict[str, object] = {"versions": [[*map(str, one.key), one.as_is] for one in of_role.values()]}
        for role, versions in of_role.items():
            lock = locks.get(versions)
            if lock is not None:
                found[f"interpreter of the {role}"] = [str(lock.python), lock.interpreter, lock.build]
                found[f"lock of the {role}"] = lock.requirements
        if locks:
            found["indexes"] = sorted(backend.indexes)
        if any(versions.as_is for versions in of_role.values()):
            found["installed packages"] = _installed_here()
        return {name: self.of(value) for name, value in found.items()}

    def of_test(self, files: Iterable[Path], config: pytest.Config) -> str:
        """Return the hash of what decides about a test of the user's: its files, and what pytest runs it with."""
        return self.of([*map(_state, files), _own_settings(config.inipath), _installed_here()])


def changed_parts(old: Parts, new: Parts) -> list[str]:
    """Return the names of the parts that differ, or that only one of them has."""
    return [name for name in dict.fromkeys([*new, *old]) if old.get(name) != new.get(name)]


def plain(value: object) -> object:
    """Return a value as JSON has it, equal for equal values, with the content of files and directories."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = declarations(type(value)) or [field.name for field in dataclasses.fields(value)]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Path):
        return [str(value), _hash(value)]
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(one) for key, one in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(str(plain(one)) for one in value)
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def inputs_of_environment(settings: Settings) -> list[Path]:
    """Return the files and directories that `requirements` and `worker-args` name."""
    environment = settings.environment
    local = map(LocalRequirement.parse, environment.requirements)
    found = [one.path for one in local if one is not None]

    def put(path: Path, name: str) -> str:
        found.append(path)
        return name

    for _ in argument_paths.placed(environment.worker_args, environment.rootdir, put):
        pass
    return found


def sources_of_hooks(config: pytest.Config) -> list[Path]:
    """Return the files of the user's that change cells or checks, with what they import; empty if nobody does."""
    hooks = (config.hook.pytest_modelops_checks, config.hook.pytest_modelops_cells)
    files = set()
    for function in (implementation.function for hook in hooks for implementation in hook.get_hookimpls()):
        with contextlib.suppress(TypeError):  # it is not written in Python
            files.add(Path(inspect.getfile(inspect.unwrap(function))))
    return sorted(Sources(config.rootpath).code_of(*files))


def _variables(settings: Settings) -> object:
    """Return the variables of each role, with the host's values filled in."""
    passed = (*FROM_HOST, *settings.containers.pass_env)
    return [{name: os.environ.get(name) for name in passed}, *settings.environment.variables()]


def _state(path: Path) -> object:
    """Return what tells whether a file or directory changed: of data, content or, once it is large, size and time."""
    if path.suffix == ".py":
        return path
    try:
        files = [path / file for file in contents.files(path)] if path.is_dir() else [path]
        found, read = list[list[object]](), 0
        for file in sorted(files):
            facts = file.stat()
            read += facts.st_size
            found.append([str(file), _hash(file) if read <= _MOST_READ else [facts.st_size, facts.st_mtime_ns]])
    except (OSError, ModelopsError):
        return secrets.token_hex(8)
    return found


def _hash(path: Path) -> str:
    """Return a hash of what is in a file or directory: empty if there is none, and another each time if unreadable."""
    try:
        if path.is_dir():
            return contents.digest(path)
        return hash_file(path) if path.is_file() else ""
    except (OSError, ModelopsError):
        return secrets.token_hex(8)


@functools.cache
def _own() -> list[str]:
    """Return our version, and the hashes of our sources."""
    sources = sorted(file for file in _PACKAGE.rglob("*.py") if "__pycache__" not in file.parts)
    return [importlib.metadata.version("pytest-modelops"), *map(hash_file, sources)]


def _own_settings(inipath: Path | None) -> object:
    """Return pytest's own settings: the file, but of a TOML file, which others use too, only its tables."""
    if inipath is None or inipath.suffix != ".toml":
        return inipath
    content = tomllib.loads(inipath.read_text(encoding="utf-8"))
    return [content.get("tool", {}).get("pytest"), content.get("pytest")]


def _system() -> tuple[str, ...]:
    """Return what the operating system is; `platform` would start a process for that."""
    system = os.uname()
    return system.sysname, system.release, system.version, system.machine


@functools.cache
def _requirements() -> Mapping[str, str]:
    """Return the versions of what this plugin requires, such as uv and pytest."""
    found = {}
    for requirement in map(Requirement, importlib.metadata.requires("pytest-modelops") or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[requirement.name] = importlib.metadata.version(requirement.name)
    return found


@functools.cache
def _installed_here() -> str:
    """Return a hash of what is installed beside this interpreter, with the sources of editable packages."""
    found: list[object] = []
    for distribution in importlib.metadata.distributions():
        # A RECORD has the hash of METADATA, which takes longer to read than all else here.
        files = distribution.read_text("RECORD") or str(distribution.metadata)
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        is_editable = origin.get("dir_info", {}).get("editable", False)
        directory = Path(unquote(urlsplit(origin["url"]).path)) if is_editable else None
        if directory is not None and _PACKAGE.is_relative_to(directory):
            directory = None  # our own sources are a part by themselves
        found.append([files, plain(directory)])
    return hashlib.sha256(repr(sorted(found, key=str)).encode()).hexdigest()


def _key_in(cache: Path) -> bytes:
    """Return the cache's key. Processes that make it at once all use the first one.

    Where it is another user's, it is new each time, so that nothing is ever equal.
    """
    file = cache / _KEY
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        made = file.with_name(f".{_KEY}-{secrets.token_hex(4)}")
        made.touch(mode=0o600)
        made.write_bytes(secrets.token_bytes(32))
        try:
            os.link(made, file)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            made.replace(file)
        made.unlink(missing_ok=True)
    try:
        return file.read_bytes()
    except PermissionError:  # another user's
        return secrets.token_bytes(32)
