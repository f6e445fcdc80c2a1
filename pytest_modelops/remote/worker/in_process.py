"""A bundle in a process that runs already, a worker's or the client's: what is put on its path, found there, and run.

Installing is done by `bundles.py`; here nothing but this process is changed, and that can be taken back as far as
Python allows: what has been imported from a bundle is forgotten, but not what it did. Python 3.9 and up.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import sys
import traceback
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..runner import inspection, runner
from ..shared import causes


class Inside:
    """One bundle in this process.

    Args:
        bundle: its directory, which comes first on the path, as for a runner.
        site: what was installed for it, which comes next.
    """

    def __init__(self, *, bundle: str, site: str, digest: str) -> None:
        self.bundle, self.site, self.digest = bundle, site, digest
        self._wire: Any = None
        sys.path[:0] = [bundle, site]
        importlib.invalidate_caches()

    def take_away(self) -> None:
        """Take it off the path, and forget what was imported from it."""
        sys.path[:] = [path for path in sys.path if path not in {self.bundle, self.site}]
        for name, module in list(sys.modules.items()):
            if self._is_ours(module):
                del sys.modules[name]
        importlib.invalidate_caches()

    def look(self, modules: Sequence[str], packages: Mapping[str, str]) -> dict[str, Any]:
        """What this process finds of it, without importing anything.

        Args:
            modules: dotted names of all that it has.
            packages: canonical name → version of all that was installed for it.

        Returns:
            `{"python", "version", "packages": {name: version} of what was installed, "missing": [module], "hidden":
            {module: file of another that is imported already}, "conflicts": [{"name", "here", "wanted", "imported"}]}`.
        """
        tops = dict.fromkeys(module.partition(".")[0] for module in modules)
        hidden = {name: _file_of(sys.modules[name]) for name in tops if name in sys.modules}
        return {
            "python": sys.executable,
            "version": ".".join(map(str, sys.version_info[:3])),
            "packages": {_name(found): found.version for found in _distributions([self.site])},
            "missing": [module for module in modules if not inspection.found(module, sys.path)],
            "hidden": {name: file for name, file in hidden.items() if file and not self._is_ours(sys.modules[name])},
            "conflicts": list(self._conflicts(packages)),
        }

    def import_all(self, modules: Sequence[str]) -> dict[str, str]:
        """Import modules into this process; why it failed, in words, of each that does."""
        failures = {}
        for module in modules:
            try:
                importlib.import_module(module)
            except BaseException as error:  # noqa: BLE001 - also a SystemExit is an answer
                text = traceback.format_exc()
                failures[module] = causes.first_cause(text) or f"{type(error).__name__}: {error}"
        return failures

    def _conflicts(self, packages: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Packages that this process has from elsewhere in another version."""
        elsewhere = [path for path in sys.path if path not in {self.bundle, self.site}]
        for found in _distributions(elsewhere):
            wanted = packages.get(_name(found))
            if wanted is not None and wanted != found.version:
                imported = [
                    name for name in _modules_of(found) if name in sys.modules and not self._is_ours(sys.modules[name])
                ]
                yield {"name": _name(found), "here": found.version, "wanted": wanted, "imported": bool(imported)}

    def _is_ours(self, module: object) -> bool:
        file = _file_of(module)
        if not file:
            return any(_below(path, self.bundle, self.site) for path in getattr(module, "__path__", ()))
        return _below(file, self.bundle, self.site)

    # What the `direct` executor of a deployment does. ----------------------------------------------------------------

    def answer(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """What a runner would answer, as in `running.Outcome`: `{"result"}` or `{"error"}`."""
        failed = runner.EXECUTE_FAILED if method == "execute" else runner.AGGREGATE_FAILED
        try:
            with runner.reported_as(failed, "the bundle"):
                if self._wire is None:
                    self._wire = runner.find_wire(self.bundle)
        except runner.Refused as refused:
            error = {"code": refused.code, "message": str(refused), "data": refused.data}
            return {"error": error, "outside": ""}
        served = runner.Runner(self._wire, venv=self.site, digest=self.digest)
        answered = runner.answer(served, {"id": None, "method": method, "params": params})
        del answered["id"]
        return {**answered, "outside": ""}


def _distributions(paths: list[str]) -> list[importlib.metadata.Distribution]:
    """What is installed in these directories; the first of each name, which is the one that counts."""
    found: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions(path=paths):
        if distribution.metadata["Name"]:
            found.setdefault(_name(distribution), distribution)
    return list(found.values())


def _name(distribution: importlib.metadata.Distribution) -> str:
    return re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()


def _modules_of(distribution: importlib.metadata.Distribution) -> set[str]:
    """Names of the top-level modules that it has brought."""
    tops = {file.parts[0] for file in distribution.files or () if len(file.parts) > 1 or file.suffix == ".py"}
    return {top.partition(".")[0] for top in tops if not top.endswith((".dist-info", ".egg-info"))}


def _file_of(module: object) -> str:
    file = getattr(module, "__file__", None) if isinstance(module, types.ModuleType) else None
    if file:
        return str(file)
    spec = getattr(module, "__spec__", None)
    return "Python itself" if getattr(spec, "origin", None) in {"built-in", "frozen"} else ""


def _below(path: object, *directories: str) -> bool:
    return any(str(path).startswith(directory + os.sep) for directory in directories)


def listing(directories: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Size and time of every file in an environment's directories, bytecode apart, which running it may add."""
    found = {}
    for top in directories:
        for directory, _, files in os.walk(top):
            if os.path.basename(directory) == "__pycache__":
                continue
            for file in files:
                path = os.path.join(directory, file)
                try:
                    status = os.lstat(path)
                except OSError:
                    continue
                found[path] = (status.st_size, status.st_mtime_ns)
    return found
