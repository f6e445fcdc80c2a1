"""Whether a runner executes what it is asked, and with which files: a copy of the bundle answers.

The copy is a canary with a digest of its own. A runner gets the bundle's own request for it, twice in one process and
once in another, so that a stored answer shows. An installed wire function is changed in a copy of its package, which
`PYTHONPATH` puts before the environment's. The bundle and its environment stay unchanged. Python 3.9 and up.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence

from ..shared import canary
from ..shared.bundle_messages import BundleLocation, Outcome, WireFunction
from ..shared.canary_messages import CanaryAnswer, CopyAnswer, FreshReport
from . import processes
from .environment import Commands, Failed, make_bare
from .location import bundle_of, packages_of, venv_of
from .uses import use

_MOST_BYTES = 64 << 20  # a larger copy takes too long for what it is for
_SHOWN = 300


class NothingToTry(Exception):
    """Why this runner, or this bundle, cannot be asked."""


def try_it(
    location: BundleLocation, *, wire: WireFunction, request: Mapping[str, object], seconds: float
) -> FreshReport:
    """Ask a copy three times, in so many seconds, what `execute` was asked; returns the report without `beside`."""
    end = time.monotonic() + seconds
    directory = os.path.join(location["directory"], "fresh")
    shutil.rmtree(directory, ignore_errors=True)
    try:
        os.makedirs(directory)
        mark = os.path.join(directory, "imported")
        copy, installed = _make_copy(location, wire, directory, f"open({mark!r}, 'a').close()\n")
        if location.get("installs"):  # into an environment that no other code uses
            copy["venv"] = os.path.join(directory, "venv")
            with Commands(os.path.join(directory, "commands"), seconds) as run:
                make_bare(run, copy)
        results = [result for times in (2, 1) for result in _ask(copy, request, times, end - time.monotonic())]
        answers = [found for found in map(canary.read, results) if found]
        return {
            "answers": [_answer_of(result) for result in results],
            "runs": [answer["runs"] for answer in answers if "runs" in answer],
            "own": processes.ask(os.path.realpath(sys.executable), sys.executable),
            "certain": os.path.exists(mark) and not installed,
            "others": _others(answers, copy, location, wire["module"]),
            "from_source": _from_source(answers, location, os.path.join(directory, "bundle")),
        }
    except NothingToTry as why:
        return {"untried": str(why)}
    except (OSError, shutil.Error, Failed) as error:
        return {"untried": f"no copy of the bundle could be made: {error}"}
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _make_copy(location: BundleLocation, wire: WireFunction, directory: str, more: str) -> tuple[BundleLocation, bool]:
    """Make the canary, with more code; return its location, and whether the wire function is an installed one."""
    module = wire["module"]
    code = canary.code(wire["function"], variant="copy", modules=location["modules"]) + more
    installed = _overlay(location, directory, module, code)
    bundle = os.path.join(directory, "bundle")
    _copy(bundle_of(location), bundle)
    if not _append(bundle, module, code) and not installed:
        raise NothingToTry(f"the bundle has no source of its wire function's module {module!r}")
    path = os.path.join(directory, "overlay"), os.environ.get("PYTHONPATH", "")
    copy: BundleLocation = {
        **location,
        "directory": directory,
        "logs": os.path.join(directory, "logs"),
        "digest": hashlib.sha256(f"{location['digest']} {code}".encode()).hexdigest(),
        "variables": {"PYTHONPATH": os.pathsep.join(filter(None, path))} if installed else {},
    }
    return copy, installed


def _overlay(location: BundleLocation, directory: str, module: str, code: str) -> bool:
    """Copy what is installed of a module and change the copy; `False` if the module is not installed as source."""
    # A runner that installs by itself has an environment of its own, and this one is the bundle's all the same.
    venv = os.path.join(location["directory"], "venv") if location.get("installs") else venv_of(location)
    source = os.path.join(packages_of({**location, "venv": venv}), module.partition(".")[0])
    overlay = os.path.join(directory, "overlay")
    target = os.path.join(overlay, os.path.basename(source))
    if os.path.isdir(source):
        _copy(source, target)
    elif os.path.isfile(f"{source}.py"):
        os.makedirs(overlay)
        shutil.copy2(f"{source}.py", f"{target}.py")
    else:
        return False
    if not _append(overlay, module, code):
        raise NothingToTry(f"its wire function's module {module!r} is installed without its source")
    return True


def _copy(source: str, target: str) -> None:
    files = (os.path.join(parent, name) for parent, _, names in os.walk(source) for name in names)
    size = sum(os.path.getsize(path) for path in files if os.path.isfile(path))
    if size > _MOST_BYTES:
        raise NothingToTry(f"the copy would have {size >> 20} MiB")
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))


def _append(root: str, module: str, code: str) -> bool:
    """Append to the source of a module in a directory of the path; `False` if it has none there."""
    path = os.path.join(root, *module.split("."))
    for file in (os.path.join(path, "__init__.py"), f"{path}.py"):
        if os.path.isfile(file):
            os.chmod(file, 0o644)
            with open(file, "a", encoding="utf-8") as source:
                source.write(code)
            return True
    return False


def _ask(location: BundleLocation, request: Mapping[str, object], times: int, seconds: float) -> list[object]:
    """Return the results of asking one process so many times; a one-shot runner has one process for each time."""
    made = use(location, request, times=times, seconds=seconds)
    _check(made["ready"], "ready")
    for outcome in made["answers"]:
        _check(outcome, "execute")
    return [outcome["result"] for outcome in made["answers"]]


def _check(outcome: Outcome, method: str) -> None:
    if "result" not in outcome:
        said = [(kind, why) for kind, why in outcome.items() if kind in {"error", "exited", "garbled", "unstarted"}]
        what = "".join(f"{kind}: {str(why)[:_SHOWN]}" for kind, why in said) or "it did not answer in time"
        cause = f" ({outcome['cause']})" if outcome.get("cause") else ""
        raise NothingToTry(f"a copy of the bundle did not answer `{method}`; {what}{cause}")


def _answer_of(result: object) -> CopyAnswer:
    if answer := canary.read(result):
        return {"moment": answer["moment"]}
    try:
        artifacts = dict(result)  # type: ignore[call-overload]
        contents = {name: base64.b64decode(inline) for name, inline in artifacts.items()}
    except (TypeError, ValueError):
        raise NothingToTry(f"a copy of the bundle answered {str(result)[:_SHOWN]}") from None
    return {"checksums": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}}


def _others(
    answers: Sequence[CanaryAnswer], copy: BundleLocation, location: BundleLocation, wire: str
) -> dict[str, str]:
    """Return modules from outside the bundle and its environment, unless the bundle has a file with the same bytes."""
    found = {}
    for answer in answers:
        roots = (copy["directory"], venv_of(copy), _root_of(answer["wire"], wire))
        allowed = tuple(os.path.realpath(root) + os.sep for root in roots if root)
        for name, paths in answer["modules"].items():
            if not paths or any(os.path.realpath(path).startswith(allowed) for path in paths):
                continue
            if not any(_same(paths[0], os.path.join(bundle_of(location), file)) for file in _files_of(name)):
                found[name] = paths[0]
    return found


def _from_source(answers: Sequence[CanaryAnswer], location: BundleLocation, bundle: str) -> list[str]:
    """Return installed modules that the runner imports from the bundle's own directory instead."""
    if location.get("on_path", "first") == "first":
        return []
    site, below = packages_of(location), os.path.realpath(bundle) + os.sep
    return sorted(
        {
            name
            for answer in answers
            for name, paths in answer["modules"].items()
            if any(os.path.realpath(path).startswith(below) for path in paths)
            and any(os.path.exists(os.path.join(site, place)) for place in (name, f"{name}.py"))
        }
    )


def _root_of(file: str, module: str) -> str:
    """Return the directory of `sys.path` that a module is from: a runner may have copied the bundle elsewhere."""
    for _ in range(module.count(".") + 1 + (os.path.basename(file) == "__init__.py")):
        file = os.path.dirname(file)
    return file


def _files_of(module: str) -> tuple[str, str]:
    """Return the files that a top-level module can be."""
    return os.path.join(module, "__init__.py"), f"{module}.py"


def _same(one: str, other: str) -> bool:
    try:
        with open(one, "rb") as left, open(other, "rb") as right:
            return left.read() == right.read()
    except OSError:
        return False


def beside(argv: Sequence[str], modules: Sequence[str], location: BundleLocation) -> dict[str, str]:
    """Return files beside a runner's Python script that Python finds first under the names of a bundle's modules."""
    script = _script(argv)
    if not script or os.environ.get("PYTHONSAFEPATH"):
        return {}
    directory = script if os.path.isdir(script) else os.path.dirname(os.path.realpath(script))
    found = {}
    for name in modules:
        for file in _files_of(name):
            here = os.path.join(directory, file)
            if os.path.isfile(here) and not _same(here, os.path.join(bundle_of(location), file)):
                found[name] = here
    return found


def _script(argv: Sequence[str]) -> str:
    """Return the script of a Python's command line whose directory comes first on the path; empty if there is none."""
    if not re.match(r"python[\d.]*$", os.path.basename(argv[0])):
        return ""
    arguments = iter(argv[1:])
    for argument in arguments:
        if not argument.startswith("-"):
            return argument
        if argument.startswith("--") or re.match(r"-[bBdEhiOqsSuvVx]*[cmIP]", argument):
            return ""
        if re.match(r"-[bBdEhiOqsSuvVx]*[WX]$", argument):
            next(arguments, "")
    return ""
