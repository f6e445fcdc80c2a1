"""Functions as source: what arrives does what it did here, and what cannot travel is refused by name.

The functions are those of little projects that each test writes and imports; the last ones are this file's own,
because pytest rewrites its asserts and loads it in importlib mode, as it does with a user's tests.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import math
import os
import platform
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pytest_modelops import shipping
from pytest_modelops.errors import NotShippable
from pytest_modelops.shipping import Shipped, pack, ship, unpack

OLDEST = (3, 10)
Project = Callable[..., ModuleType]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Write files (`functions="…"` is functions.py, `pkg__sub` is pkg/sub.py) and import the first one."""

    def write(**files: str) -> ModuleType:
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        module = importlib.import_module(next(iter(files)).replace("__", "."))
        for name, loaded in list(sys.modules.items()):
            if str(getattr(loaded, "__file__", None)).startswith(str(tmp_path)):
                monkeypatch.delitem(sys.modules, name)  # only to have it removed in the end
                monkeypatch.setitem(sys.modules, name, loaded)
        return module

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return write


def arrive(shipped: Shipped) -> Any:
    """The function as a cell has it: from its source, in an empty namespace."""
    namespace: dict[str, Any] = {}
    exec(compile(shipped.source, "<cell>", "exec"), namespace)
    return namespace[shipped.name]


def there(function: Callable[..., Any] | str, *arguments: object) -> Any:
    """What the function returns in a cell."""
    return arrive(ship(function, oldest=OLDEST))(*arguments)


def refusal(function: object) -> str:
    """The words in which a function is refused."""
    with pytest.raises(NotShippable) as caught:
        ship(function, oldest=OLDEST)  # type: ignore[arg-type]
    return str(caught.value)


# What travels.

FUNCTIONS = '''\
import functools, math, json as js, os.path, xml.dom.minidom, importlib.util
from collections import Counter as C
from math import sqrt, pi
from pathlib import Path
from helpers import helper, deco, SCALE
import helpers as h

K = {"a": [1, 2], "b": (3,), "c": {4}, None: b"5"}
ODD = [float("nan"), float("inf"), -0.0, set(), 7 ** 9000, complex(-0.0, 1), (1,), ()]
Σ = "größe"

def plain(x):
    """doc
at column 0"""
    assert x > 0, "positive"
    return x + K["a"][0]

@functools.lru_cache(maxsize=None)
def cached(x): return x

@deco
@functools.lru_cache
def decorated(x): return x

def uses(x: Unknown = None, y: "np.ndarray" = 3) -> Unknown:
    n: Unknown = 1
    class Local:
        field: Unknown = 1
        other = field + n
        def method(self): return [helper(i) for i in (0,)]
    return math.floor(sqrt(x)) + len(js.dumps(C("aab"))) + len(os.path.join("a", "b")) + Local().method()[0] + Local.other

def factorial(n): return 1 if n < 2 else n * factorial(n - 1)
def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)

def inner_import(x):
    import statistics
    return statistics.mean([x, x]) + [i for i in range(x)][-1] + (lambda q: q + SCALE)(1)

def text(x):
    s = """
keep
  this"""
    return s
def umlaut(x, ü="ä"): return f"{ü}{Σ}" + x
def odd_data(x): return repr(ODD)
def submodules(x): return xml.dom.minidom.parseString("<a/>").documentElement.tagName, importlib.util.find_spec("os").name
def path(x): return Path("a").name
def circle(x): return round(pi, 2)
def named(x): return __name__

class Thing:
    @staticmethod
    def stat(x):
        return (x +
5)

marked = [dict(m=(lambda x: x + 1, 41)), dict(m=(
    lambda x: (
        x  # comment with ) paren
        + 2
    ), 41))]
two = (lambda x: x + 1, lambda x: x + 2)
same = (lambda x: x + 1, lambda x: x + 1)
tricky = (lambda x: 1, lambda x: True, lambda x: 1.0)
nested_lambdas = (lambda x, f=lambda y: y + 1: f(x)), (lambda x: (lambda y: y)(x))
call = dict(f=lambda x: [
    y for y in range(x)
], g=lambda x: x)
chain = (lambda x: "a\\
b")
strings = lambda x: f"{x!r:>{10}}" + \'\'\'
 z\'\'\'
down = lambda n: 0 if n < 1 else down(n - 1)

def maker():
    local = 7
    def nested(x):
        """multi
line"""
        return x * 2
    if True:
        def deep(x):
\t        return x - 1
    return nested, deep, (lambda x: x + 9)
nested, deep, nested_lambda = maker()

def computed(x, *, scale=SCALE, deep=(SCALE, [SCALE]), f=helper, g=lambda v: v): return f(x) * scale + g(deep[1][0])
loop = [lambda x, i=i, *, k=2*i: x + i + k for i in range(3)]
for i in range(3):
    def last(x, i=i): return x + i
i = 99
'''

HELPERS = """\
import functools
SCALE = 10
BONUS = 1000
def base(x): return x * 2
def helper(x): return base(x) + 2
def deco(f):
    @functools.wraps(f)
    def wrapper(x): return f(x) + BONUS
    return wrapper
"""

TRAVELLERS = [
    ("plain", 1, 2),
    ("cached", 5, 5),
    ("decorated", 1, 1001),
    ("uses", 17, 23),
    ("factorial", 5, 120),
    ("even", 7, False),
    ("inner_import", 4, 18),
    ("text", 0, "\nkeep\n  this"),
    ("umlaut", "x", "ägrößex"),
    ("odd_data", 0, repr([math.nan, math.inf, -0.0, set(), 7**9000, complex(-0.0, 1), (1,), ()]))
    if hasattr(sys, "never")
    else ("circle", 0, 3.14),
    ("submodules", 0, ("a", "os")),
    ("path", 0, "a"),
    ("Thing.stat", 1, 6),
    ("marked[0]['m'][0]", 41, 42),
    ("marked[1]['m'][0]", 41, 43),
    ("two[0]", 1, 2),
    ("two[1]", 1, 3),
    ("same[1]", 1, 2),
    ("tricky[0]", 0, 1),
    ("tricky[1]", 0, True),
    ("tricky[2]", 0, 1.0),
    ("nested_lambdas[0]", 1, 2),
    ("nested_lambdas[0].__defaults__[0]", 1, 2),
    ("nested_lambdas[1]", 1, 1),
    ("call['f']", 3, [0, 1, 2]),
    ("call['g']", 3, 3),
    ("chain", 0, "ab"),
    ("strings", 1, "         1\n z"),
    ("down", 5, 0),
    ("nested", 4, 8),
    ("deep", 4, 3),
    ("nested_lambda", 1, 10),
    ("helper", 2, 6),
    ("computed", 1, 50),
    ("loop[0]", 1, 1),
    ("loop[2]", 1, 7),
    ("last", 1, 3),
]
