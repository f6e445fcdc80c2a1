"""Whether a runner executes what it is asked, and which files a bundle's modules are, by a copy that tells.

In the copy, the wire function answers with the moment, and with the file that each of the bundle's modules is to it.
The copy has a digest of its own and is asked as the bundle was, twice in one process and once in another, so that an
answer which was kept shows. A wire function that is installed is changed in a copy of its package, which `PYTHONPATH`
puts before the environment's. Nothing of the bundle and of its environment is written to. Python 3.9 and up.
"""

from __future__ import annotations

import base64
import glob
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..shared.bundle_messages import BundleLocation
from .location import NOT_STARTED, bundle_of, launch, venv_of
from .one_shot import OneShot

ARTIFACT = "modelops-canary"
"""What the changed wire function answers with."""
_SHUTDOWN_SECONDS = 3.0
_MOST_BYTES = 64 << 20
"""More is not copied for this: it would take longer than what it is for."""
_SHOWN = 300
_CODE = """

# pytest-modelops appended this to a copy: it answers when it was executed, and which files the bundle's modules are.
def _modelops_canary(wire):
    import functools
    import importlib.util
    import json
    import sys
    import time

    def places(name):
        module = sys.modules.get(name)
        try:
            spec = importlib.util.find_spec(name) if module is None else module.__spec__
            file = getattr(module, "__file__", None) or getattr(spec, "origin", None)
            path = getattr(module, "__path__", None) or getattr(spec, "submodule_search_locations", None)
        except (AttributeError, ImportError, ValueError):
            return []
        return [file] if file else list(path or ())

    @functools.wraps(wire)
    def asked(*args, **kwargs):
        reported = {{"moment": time.time_ns(), "wire": __file__, "places": {{name: places(name) for name in
        {modules!r}}}}}
        return {{{artifact!r}: json.dumps(reported).encode()}}

    return asked


{function} = _modelops_canary({function})
open({mark!r}, "a").close()
"""


class NothingToTry(Exception):
    """Why it is not to be had from this runner, or this bundle."""


def try_it(
    location: BundleLocation,
    *,
    wire: Mapping[str, str],
    modules: Sequence[str],
    request: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """Ask a copy, three times.

    Args:
        wire: `module` and `function` that run the bundle's entry points.
        modules: names of the bundle's top-level modules, to be accounted for.
        request: as `execute` is asked.
        seconds: for all of it.

    Returns:
        `{"answers": […], "certain", "others": {module: file}}`, or `{"untried": why}`. Of each answer: `moment`, when
        it was made, or of one that is not the copy's `checksums` of its artifacts. `certain`: whether the copy's wire
        function was imported, from the bundle's directory alone, so that another answer is not that of what was given.
        `others`: where a name of the bundle's is the name of another module, which was or would be imported.
    """
    directory = os.path.join(location["directory"], "fresh")
    shutil.rmtree(directory, ignore_errors=True)
    try:
        os.makedirs(directory)
        return _try(location, directory, wire, modules, request, time.monotonic() + seconds)
    except NothingToTry as why:
        return {"untried": str(why)}
    except (OSError, shutil.Error) as error:
        return {"untried": f"no copy of the bundle could be made: {error}"}
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _try(  # noqa: PLR0917
    location: BundleLocation,
    directory: str,
    wire: Mapping[str, str],
    modules: Sequence[str],
    request: Mapping[str, Any],
    end: float,
) -> dict[str, Any]:
    mark = os.path.join(directory, "imported")
    code = _CODE.format(modules=list(modules), artifact=ARTIFACT, function=wire["function"], mark=mark)
    installed = _overlay(location, directory, wire["module"], code)
    _copy(bundle_of(location), os.path.join(directory, "bundle"))
    loose = _append(os.path.join(directory, "bundle"), wire["module"], code)
    if not (installed or loose):
        raise NothingToTry(f"the source of its wire function's module {wire['module']!r} is not to be had")
    copy: BundleLocation = {**location, "directory": directory, "logs": os.path.join(directory, "logs")}
    copy["digest"] = hashlib.sha256(f"{location['digest']} {code}".encode()).hexdigest()
    if installed:
        path = os.path.join(directory, "overlay"), os.environ.get("PYTHONPATH", "")
        copy["variables"] = {"PYTHONPATH": os.pathsep.join(filter(None, path))}
    answers = [_read(result) for result in _ask(copy, request, end)]
    others: dict[str, str] = {}
    for answer in answers:
        places, file = answer.pop("places", {}), answer.pop("wire", "")
        roots = [directory, venv_of(location), _root_of(file, wire["module"])]
        others.update(_others(places, roots, bundle_of(location)))
    return {"answers": answers, "certain": os.path.exists(mark) and not installed, "others": others}


def _overlay(location: BundleLocation, directory: str, module: str, code: str) -> bool:
    """Copy what is installed of a module, changed; `False` where it is not installed, as a source."""
    top = module.partition(".")[0]
    for site in glob.glob(os.path.join(glob.escape(venv_of(location)), "lib", "python3*", "site-packages")):
        source, target = os.path.join(site, top), os.path.join(directory, "overlay", top)
        if os.path.isdir(source):
            _copy(source, target)
        elif os.path.isfile(f"{source}.py"):
            os.makedirs(os.path.dirname(target))
            shutil.copy2(f"{source}.py", f"{target}.py")
        else:
            continue
        if not _append(os.path.dirname(target), module, code):
            raise NothingToTry(f"its wire function's module {module!r} is installed, and not as a source")
        return True
    return False


def _copy(source: str, target: str) -> None:
    files = (os.path.join(parent, name) for parent, _, names in os.walk(source) for name in names)
    size = sum(os.path.getsize(path) for path in files if os.path.isfile(path))
    if size > _MOST_BYTES:
        raise NothingToTry(f"{size >> 20} MiB would have to be copied for it")
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))


def _append(root: str, module: str, code: str) -> bool:
    """Add to the source of a module, if there is one in a directory of the path."""
    path = os.path.join(root, *module.split("."))
    for file in (os.path.join(path, "__init__.py"), f"{path}.py"):
        if os.path.isfile(file):
            os.chmod(file, 0o644)
            with open(file, "a", encoding="utf-8") as source:
                source.write(code)
            return True
    return False


def _ask(location: BundleLocation, request: Mapping[str, Any], end: float) -> list[Any]:
    """Twice in one process and once in another; of a one-shot runner each is a process of its own."""
    return [*_ask_one(location, request, 2, end), *_ask_one(location, request, 1, end)]


def _ask_one(location: BundleLocation, request: Mapping[str, Any], times: int, end: float) -> list[Any]:
    try:
        runner = launch(location)
    except NOT_STARTED as error:
        raise NothingToTry(f"its runner did not start on a copy of the bundle: {error}") from None
    reply: list[Any] = []
    try:
        if not isinstance(runner, OneShot):
            _result(runner.call("ready", {}, end - time.monotonic()), "ready")
        while len(reply) < times:
            outcome = runner.call("execute", request, end - time.monotonic())
            reply.append(_result(outcome, "execute"))
    finally:
        runner.close(seconds=_SHUTDOWN_SECONDS if len(reply) == times else 0)
    return reply


def _result(outcome: Mapping[str, Any], method: str) -> Any:
    if "result" in outcome:
        return outcome["result"]
    kind = next(name for name in ("error", "exited", "garbled", "silent", "unstarted") if name in outcome)
    what = "did not answer in time" if kind == "silent" else f"{kind}: {str(outcome[kind])[:_SHOWN]}"
    cause = f" ({outcome['cause']})" if outcome.get("cause") else ""
    raise NothingToTry(f"a copy of the bundle did not answer `{method}`; {what}{cause}")


def _read(result: Any) -> dict[str, Any]:
    try:
        if ARTIFACT in result:
            reply: dict[str, Any] = json.loads(base64.b64decode(result[ARTIFACT]))
            return reply
        return {
            "checksums": {name: hashlib.sha256(base64.b64decode(inline)).hexdigest() for name, inline in result.items()}
        }
    except (AttributeError, TypeError, ValueError):
        raise NothingToTry(f"a copy of the bundle answered {str(result)[:_SHOWN]}") from None


def _root_of(file: str, module: str) -> str:
    """The directory on the path that a module was imported from: a runner may have brought a bundle elsewhere."""
    directory = os.path.dirname(file)
    if os.path.basename(file) == "__init__.py":
        directory = os.path.dirname(directory)
    for _ in range(module.count(".")):
        directory = os.path.dirname(directory)
    return directory


def _others(places: Mapping[str, Sequence[str]], roots: Sequence[str], bundle: str) -> dict[str, str]:
    """Modules that are neither the bundle's nor installed for it, nor the same as the bundle's to the byte."""
    allowed = tuple(os.path.realpath(root) + os.sep for root in roots if root)
    found = {}
    for name, paths in places.items():
        if not paths or any(os.path.realpath(path).startswith(allowed) for path in paths):
            continue
        own = (os.path.join(bundle, f"{name}.py"), os.path.join(bundle, name, "__init__.py"))
        if not any(_same(paths[0], file) for file in own):
            found[name] = paths[0]
    return found


def _same(one: str, other: str) -> bool:
    try:
        with open(one, "rb") as left, open(other, "rb") as right:
            return left.read() == right.read()
    except OSError:
        return False


# What can be reported without asking.


def beside(argv: Sequence[str], modules: Sequence[str], location: BundleLocation) -> dict[str, str]:
    """Modules beside a Python script that have the names of a bundle's, and come first unless the script sees to it.

    Args:
        argv: a runner's command line.
    """
    script = _script(argv)
    if not script or os.environ.get("PYTHONSAFEPATH"):
        return {}
    directory = script if os.path.isdir(script) else os.path.dirname(os.path.realpath(script))
    found = {}
    for name in modules:
        for file in (os.path.join(name, "__init__.py"), f"{name}.py"):
            here = os.path.join(directory, file)
            if os.path.isfile(here) and not _same(here, os.path.join(bundle_of(location), file)):
                found[name] = here
    return found


def _script(argv: Sequence[str]) -> str:
    """The script of a Python's command line whose directory comes first on the path; empty where there is none."""
    if not re.match(r"python[\d.]*$", os.path.basename(argv[0])):
        return ""
    words = iter(argv[1:])
    for word in words:
        if not word.startswith("-"):
            return word
        if word.startswith("--") or re.match(r"-[bBdEhiOqsSuvVx]*[cmIP]", word):
            return ""
        if re.match(r"-[bBdEhiOqsSuvVx]*[WX]$", word):
            next(words, "")
    return ""
