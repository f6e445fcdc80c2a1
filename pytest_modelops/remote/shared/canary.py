"""The canary: code that is appended to a copy of a bundle, and how its answer is read.

Its wire function answers an entry point itself, with which copy it is, when it ran and in which Python, and which files
its modules are. A stale environment, a stored result, another interpreter and a shadowed module all show in it.
Standard library only, Python 3.9+.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence

from .canary_messages import CanaryAnswer

ENTRYPOINT = "modelops.canary/which"
"""An entry point that no bundle has, in the usual form, since some runners split it."""
ARTIFACT = "modelops-canary"
_TEMPLATE = """

# pytest-modelops appended this to a copy: it answers which code runs, when, and which files the bundle's modules are.
def _modelops_canary(wire):
    import functools
    import importlib.machinery
    import importlib.util
    import json
    import sys
    import time

    def runs():
        return {{
            "executable": sys.executable,
            "version": ".".join(map(str, sys.version_info[:3])),
            "prefix": sys.prefix,
            "platform": "".join(importlib.machinery.EXTENSION_SUFFIXES[:1])[1:].rpartition(".")[0]
            or sys.implementation.name,
        }}

    def files(name):
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
        if {entrypoint!r} not in (None, *args, *kwargs.values()):
            return wire(*args, **kwargs)
        modules = {{name: files(name) for name in {modules!r}}}
        answer = {{"variant": {variant!r}, "moment": time.time_ns(), "wire": __file__, "modules": modules}}
        answer["runs"] = runs()
        return {{{artifact!r}: json.dumps(answer).encode()}}

    return asked


{function} = _modelops_canary({function})
"""


def code(function: str, *, variant: str, entrypoint: str | None = None, modules: Sequence[str] = ()) -> str:
    """Return what to append to the source of a wire function's module.

    Args:
        function: the wire function, as that module names it.
        variant: which copy it is; returned in the answer.
        entrypoint: the entry point that it answers itself; `None` for all of them.
        modules: top-level modules whose files it reports.
    """
    return _TEMPLATE.format(
        function=function, variant=variant, entrypoint=entrypoint, modules=list(modules), artifact=ARTIFACT
    )


def read(result: object) -> CanaryAnswer | None:
    """Return a canary's answer from the result of `execute`; `None` if other code made the result."""
    if not isinstance(result, Mapping):
        return None
    try:
        answer: CanaryAnswer = json.loads(base64.b64decode(result[ARTIFACT], validate=True))
    except (KeyError, TypeError, ValueError):
        return None
    return answer
