"""A bundle in a process that runs already, a worker's or the client's: on its path, and run there. Python 3.9 and up.

`bundles.py` installs the files; this module changes only the process. Uninstalling forgets what was imported from the
bundle, but cannot undo what those imports did.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import sys
import traceback
import types
from collections.abc import Iterator, Mapping, Sequence

from ..runner import distributions, inspection, reference
from ..runner.installing import files_in
from ..shared import causes
from ..shared.bundle_messages import Conflict, OnPath, Outcome, ProcessContents
from .location import VERSION


class BundleInProcess:
    """One bundle in this process.

    Args:
        bundle: its own directory.
        site: the directory of what was installed for it, which comes first on the path.
        on_path: where its own directory stands, as for a runner.
    """

    def __init__(self, *, bundle: str, site: str, digest: str, on_path: OnPath = "first") -> None:
        self.bundle, self.site, self.digest = bundle, site, digest
        self._wire: reference.Wire | None = None
        sys.path[:0] = {"first": [bundle, site], "last": [site, bundle], "never": [site]}[on_path]
        importlib.invalidate_caches()

    def uninstall(self) -> None:
        """Remove it from the path, and forget what was imported from it."""
        sys.path[:] = [path for path in sys.path if path not in {self.bundle, self.site}]
        for name, module in list(sys.modules.items()):
            if self._is_ours(module):
                del sys.modules[name]
        importlib.invalidate_caches()

    def inspect(
        self, modules: Mapping[str, str], packages: Mapping[str, str], imports: Sequence[str]
    ) -> ProcessContents:
        """Report what this process finds of it; only then import `imports`.

        Args:
            modules: dotted name of each of its modules → where it must be found (`Place`).
            packages: canonical name → version of everything that was installed for it.
        """
        installed = [path for path in sys.path if path != self.bundle]
        absent, left_out = inspection.missing(modules, installed, self.bundle)
        tops = dict.fromkeys(module.partition(".")[0] for module in modules)
        hidden = {name: _file_of(sys.modules[name]) for name in tops if name in sys.modules}
        return {
            "python": sys.executable,
            "version": VERSION,
            "packages": {name: found.version for name, found in distributions.installed([self.site]).items()},
            "wires": distributions.entry_points(sys.path, distributions.WIRE),
            "missing": absent,
            "left_out": left_out,
            "changed": inspection.changed([self.site], self.site),
            "hidden": {name: file for name, file in hidden.items() if file and not self._is_ours(sys.modules[name])},
            "conflicts": list(self._conflicts(packages)),
            "imports": _import_all(imports),
        }

    def _conflicts(self, packages: Mapping[str, str]) -> Iterator[Conflict]:
        """Yield the packages that this process has from elsewhere in another version."""
        elsewhere = [path for path in sys.path if path not in {self.bundle, self.site}]
        for name, found in distributions.installed(elsewhere).items():
            wanted = packages.get(name)
            if wanted is not None and wanted != found.version:
                imported = any(
                    module in sys.modules and not self._is_ours(sys.modules[module]) for module in _modules_of(found)
                )
                yield {"name": name, "here": found.version, "wanted": wanted, "imported": imported}

    def _is_ours(self, module: object) -> bool:
        file = _file_of(module)
        if not file:
            return any(_below(path, self.bundle, self.site) for path in getattr(module, "__path__", ()))
        return _below(file, self.bundle, self.site)

    # What the `direct` executor of a deployment does. ----------------------------------------------------------------

    def answer(self, method: str, params: Mapping[str, object]) -> Outcome:
        """Answer a request as a runner would, with a `result` or an `error`."""
        failed = reference.EXECUTE_FAILED if method == "execute" else reference.AGGREGATE_FAILED
        try:
            with reference.reported_as(failed, "the bundle"):
                if self._wire is None:
                    self._wire = reference.find_wire(self.bundle)
        except reference.Refused as refused:
            return {"error": {"code": refused.code, "message": str(refused), "data": refused.data}, "outside": ""}
        served = reference.Runner(self._wire, venv=self.site, digest=self.digest)
        answered = reference.answer(served, {"id": None, "method": method, "params": params})
        if "error" in answered:
            return {"error": answered["error"], "outside": ""}
        return {"result": answered["result"], "outside": ""}


def _import_all(modules: Sequence[str]) -> dict[str, str]:
    """Import modules into this process; returns those that fail, and why."""
    failures = {}
    for module in modules:
        try:
            importlib.import_module(module)
        except BaseException as error:  # noqa: BLE001 - also a SystemExit is an answer
            text = traceback.format_exc()
            failures[module] = causes.first_cause(text) or f"{type(error).__name__}: {error}"
    return failures


def _modules_of(found: distributions.Distribution) -> set[str]:
    """Return the names of the top-level modules that it installed."""
    files = importlib.metadata.Distribution.at(found.directory).files
    tops = {file.parts[0] for file in files or () if len(file.parts) > 1 or file.suffix == ".py"}
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
    """Return size and modification time of every file in these directories, except bytecode."""
    found = {}
    for path in files_in(directories):
        with contextlib.suppress(OSError):
            status = os.lstat(path)
            found[path] = (status.st_size, status.st_mtime_ns)
    return found
