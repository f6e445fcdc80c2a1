"""Functions as source: what arrives does what it did here, and what cannot travel is refused by name.

Most functions are those of little projects that a test writes and imports. Those at the end are this file's own,
for pytest loads it and rewrites its asserts as it does with a user's tests.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import json
import linecache
import os
import platform
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pytest_modelops.errors import NotShippable
from pytest_modelops.shipping import Shipped, names, pack, ship, unpack

OLDEST = (3, 10)
Project = Callable[..., ModuleType]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Write `module="text"` files (`a__b` is a/b.py) into a directory of their own and import the first."""

    def write(**files: str) -> ModuleType:
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/', 1)}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        importlib.invalidate_caches()
        return importlib.import_module(next(iter(files)).replace("__", "."))

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield write
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def arrive(shipped: Shipped) -> Any:
    """The function as a cell has it: made from its source in an empty namespace."""
    namespace: dict[str, Any] = {}
    exec(compile(shipped.source, "<cell>", "exec"), namespace)
    return namespace[shipped.name]


def there(function: Callable[..., Any] | str, *arguments: object) -> Any:
    """What the function returns in a cell."""
    return arrive(ship(function, oldest=OLDEST))(*arguments)


def refusal(function: Any, oldest: tuple[int, int] | None = OLDEST) -> str:
    """The words in which a function is refused."""
    with pytest.raises(NotShippable) as caught:
        ship(function, oldest=oldest)
    return str(caught.value)


# What travels.

FUNCTIONS = r'''
import functools, math, json as js, os.path, xml.dom.minidom, importlib, importlib.util
from collections import Counter as C
from math import sqrt, pi
from pathlib import Path
from helpers import helper, deco, SCALE

class Unknown: pass
K: Unknown = {"a": [1, 2], "b": (3,), "c": {4}, None: b"5"}
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
    return math.floor(sqrt(x)) + len(js.dumps(C("aab"))) + Local().method()[0] + Local.other

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
def submodules(x): return xml.dom.minidom.parseString(x).documentElement.tagName, importlib.util.find_spec("os").name
def path(x): return Path(x).name, os.path.basename(x)
def circle(x): return round(pi, 2)

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
same = (lambda x: x + 1, lambda x: x + 1)
call = dict(f=lambda x: [
    y for y in range(x)
], g=lambda x: x)
chain = (lambda x: "a\
b")
strings = lambda x: f"{x!r:>{10}}" + """
 z"""
down = lambda n: 0 if n < 1 else down(n - 1)

def maker():
    local = 7
    def nested(x):
        """multi
line"""
        return x * 2
    if True:
        def tab(x):
<TAB>        return x - 1
    @functools.lru_cache
    def cached(x): return [x]
    return nested, tab, (lambda x: x + 9), cached
nested, tab, nested_lambda, nested_cached = maker()

def computed(x, *, scale=SCALE, deep=(SCALE, [SCALE]), f=helper, g=lambda v: v):
    return f(x) * scale + g(deep[1][0])
loop = [lambda x, i=i, *, k=2*i: x + i + k for i in range(3)]
for i in range(3):
    def last(x, i=i): return x + i
i = 99

dom, floor = importlib.import_module("xml.dom"), importlib.import_module("math").floor
def assigned(x): return dom.__name__, floor(x)

# Decorators and defaults run while the module does, and use whatever their own bodies use.
def late(x): return early(x) + 1
def in_order(f):
    assert late.__name__ == "late"
    bonus = add(SCALE)
    @functools.wraps(f)
    def wrapper(x): return f(x) + bonus
    return wrapper
def add(x): return x + one()
def one(): return 1
@in_order
def early(x, f=add): return f(x) if x else late(1)

def by_hand(x): return one() + x
by_hand.__wrapped__ = plain
def itself(x): return x
itself.__wrapped__ = itself
'''.replace("<TAB>", "\t")

HELPERS = """
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
    ("uses", 17, 4 + 16 + 2 + 2),
    ("factorial", 5, 120),
    ("even", 7, False),
    ("inner_import", 4, 18),
    ("text", 0, "\nkeep\n  this"),
    ("umlaut", "x", "ägrößex"),
    ("submodules", "<a/>", ("a", "os")),
    ("path", "a/b", ("b", "b")),
    ("circle", 0, 3.14),
    ("Thing.stat", 1, 6),
    ("marked[0]['m'][0]", 41, 42),
    ("marked[1]['m'][0]", 41, 43),
    ("same[1]", 1, 2),
    ("call['f']", 3, [0, 1, 2]),
    ("call['g']", 3, 3),
    ("chain", 0, "ab"),
    ("strings", 1, "         1\n z"),
    ("down", 5, 0),
    ("nested", 4, 8),
    ("tab", 4, 3),
    ("nested_lambda", 1, 10),
    ("nested_cached", 1, [1]),
    ("helper", 2, 6),
    ("computed", 1, 50),
    ("loop[0]", 1, 1),
    ("loop[2]", 1, 7),
    ("last", 1, 3),
    ("assigned", 1.5, ("xml.dom", 1)),
    ("early", 0, 25),
    ("late", 5, 18),
    ("by_hand", 1, 2),
    ("itself", 1, 1),
]


@pytest.mark.parametrize(("expression", "argument", "result"), TRAVELLERS, ids=[case[0] for case in TRAVELLERS])
def test_a_function_does_there_what_it_does_here(
    project: Project, expression: str, argument: object, result: object
) -> None:
    function = eval(expression, vars(project(functions=FUNCTIONS, helpers=HELPERS)))
    here, arrived = function(argument), there(function, argument)
    assert (type(arrived), arrived) == (type(here), here) == (type(result), result)


def test_what_arrives_runs_in_a_process_that_has_nothing_of_ours(project: Project) -> None:
    module = project(functions=FUNCTIONS, helpers=HELPERS)
    cases = [(ship(eval(case[0], vars(module)), oldest=OLDEST), *case[1:]) for case in TRAVELLERS]
    program = (
        "import json, sys\n"
        "for source, name, argument in json.load(sys.stdin):\n"
        "    namespace = {}\n"
        "    exec(source, namespace)\n"
        "    print(repr(namespace[name](argument)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-X", "utf8", "-W", "error", "-c", program],
        input=json.dumps([(shipped.source, shipped.name, argument) for shipped, argument, _ in cases]),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [repr(result) for *_, result in cases]


def test_data_travels_exactly(project: Project) -> None:
    module = project(
        functions="""
        odd = [float("nan"), float("-inf"), -0.0, complex(-0.0, float("inf")), set(), frozenset({1}), (), (1,), True]
        long = 7 ** 9000
        def get(): return odd, long
        """
    )
    odd, long = there(module.get)
    assert repr(odd) == repr(module.odd)
    assert long == module.long


def test_data_travels_as_it_is_when_it_is_sent(project: Project) -> None:
    module = project(functions="SCALE = 1\ndef get(): return SCALE")
    vars(module)["SCALE"] = 2
    assert there(module.get) == 2


@pytest.mark.parametrize(
    ("text", "imports"),
    [
        # Data of the standard library is about this machine, and `platform` remembers its answers.
        ("from sys import version as v\ndef get(): return v", ["from sys import version as v"]),
        ("from platform import node\ndef get(): return node()", ["from platform import node"]),
        # The `__module__` of an object may be private to a version: `pathlib._local` exists only in 3.13.
        (
            "import sys\nfrom pathlib import Path\ndef get(): return Path, sys",
            ["import sys", "from pathlib import Path"],
        ),
    ],
)
def test_the_standard_library_is_imported_as_the_user_imports_it(
    project: Project, text: str, imports: list[str]
) -> None:
    source = ship(project(functions=text).get).source
    assert set(imports) < set(source.splitlines())
    assert sys.version not in source


def test_a_function_keeps_the_name_that_its_user_has_for_it(project: Project) -> None:
    """Though another function has its own."""
    module = project(
        functions="""
        from other import run as other_run
        def run(x): return other_run(x) + 1
        original = run
        def run(x): return original(x) * 10
        """,
        other="async_suffix = 5\ndef run(x): return x + async_suffix",
    )
    assert there(module.run, 1) == module.run(1) == 70


def test_coroutine_functions_travel(project: Project) -> None:
    module = project(
        functions="""
        import asyncio
        async def double(x):
            await asyncio.sleep(0)
            return 2 * x
        async   def twice(x): return await renamed(await double(x))
        renamed = double
        """
    )
    arrived = arrive(ship(module.twice, oldest=OLDEST))
    assert inspect.iscoroutinefunction(arrived)
    assert asyncio.run(arrived(3)) == 12


def test_generators_travel_where_they_are_used_up(project: Project) -> None:
    module = project(
        functions="""
        import contextlib
        def numbers(n): yield from range(n)
        def total(n): return sum(numbers(n))
        @contextlib.contextmanager
        def opened(x): yield x
        def use(x):
            with opened(x) as y: return y
        async def ticks(): yield 1
        """
    )
    assert there(module.total, 4) == 6
    assert there(module.use, 4) == 4
    with there(module.opened, 4) as value:
        assert value == 4
    for function in (module.numbers, module.ticks, "lambda x: (yield x)"):
        assert "is a generator function, and a generator cannot travel back" in refusal(function)


def test_functions_of_a_library_are_imported_there(project: Project) -> None:
    assert ship(platform.python_version) == Shipped(
        "from platform import python_version\n", "python_version", "platform.python_version"
    )


def test_a_library_is_reported_by_where_it_lies_and_not_by_its_name(project: Project) -> None:
    """pytest names a project's modules after its directories, and directories are called anything."""
    module = project(functions="")
    text = "def local(x): return x + 1\n"
    place = Path(module.__file__ or "").with_name("platform_tests.py")
    place.write_text(text)
    spec = importlib.util.spec_from_file_location("platform.tests", place)
    assert spec is not None
    assert spec.loader is not None
    sys.modules["platform.tests"] = loaded = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(loaded)
        assert "def local(x)" in ship(loaded.local).source
    finally:
        del sys.modules["platform.tests"]


def test_each_module_has_its_own_name(project: Project) -> None:
    module = project(functions="def get(): return __name__")
    assert there(module.get) != "functions"


def test_a_warning_in_the_source_is_no_error_here(project: Project) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = project(
            functions=r"""
        def digits(x): return "\d", x is 1
        """
        )
    assert ship(module.digits).name == "digits"


def test_a_function_that_has_run_hot_still_is_its_source(project: Project) -> None:
    """CPython rewrites the code of what runs often."""
    module = project(functions="def total(n):\n    s = 0\n    for i in range(n): s += i\n    return s")
    for _ in range(5000):
        module.total(30)
    assert there(module.total, 4) == 6


def test_a_label_is_what_people_call_a_function(project: Project) -> None:
    module = project(functions=FUNCTIONS, helpers=HELPERS)
    assert ship(module.plain).label == "plain"
    assert ship(module.Thing.stat).label == "Thing.stat"
    assert ship(module.down).label == "lambda n: 0 if n < 1 else down(n - 1)"
    assert ship(module.call["f"]).label == "lambda x: [ y for y in range(x) ]"
    assert ship("lambda x: x + 1").label == "lambda x: x + 1"
    assert ship("def double(x): return 2 * x").label == "double"


# Functions given as text.


@pytest.mark.parametrize(
    "text",
    [
        "lambda x: x + 1",
        "  lambda x: x + 1  # with a comment",
        "lambda x, *, y=1: (\n    x +\n    y)",
        "def add(x):\n    return x + 1",
        "\n    def add(x):\n        return x + 1\n    ",
        "@(lambda f: lambda x: f(x) + 1)\ndef add(x): return x",
        "def add(x):\n    import math\n    return add(int(math.sqrt(x - 1))) if x > 1 else x + 1",
        'def f(x):\r\n    """é\u2028"""\r\n    return x + 1\r\n',
    ],
)
def test_a_lambda_or_a_def_may_be_given_as_text(text: str) -> None:
    assert there(text, 1) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a function: give one lambda expression, or one def with its imports inside"),
        ("x + 1", "'x + 1' is not a function"),
        ("f = lambda x: x", "is not a function"),
        ("lambda x: x\nlambda x: x", "is not a function"),
        ("(lambda x: x)(1)", "is not a function"),
        ("import math\ndef f(x): return x", "is not a function"),
        ("def f(x): return x\nf(1)", "is not a function"),
        ("module:function", "is not a function"),
        ("lambda x: x +", "'lambda x: x +' is not valid Python: "),
        ("lambda x: x) + (1", "is not valid Python: "),
        ("def f(x)", "is not valid Python: "),
        ("lambda x: np.sum(x)", "'lambda x: np.sum(x)' uses 'np', which is not defined: import it in the function"),
        ("def f(x): return helper(x)", "uses 'helper', which is not defined"),
    ],
)
def test_other_text_is_refused(text: str, words: str) -> None:
    assert words in refusal(text)


# What an old Python cannot read.

NEWER = [
    ("def f(x):\n    match x:\n        case 1: return x", (3, 9), (3, 10)),
    ("def f(x):\n    try: return x\n    except* ValueError: pass", (3, 10), (3, 11)),
    ("def f[T](x: T): return x", (3, 11), (3, 12)),
    ("""lambda x: f"{x["a"]}" """, (3, 11), (3, 12)),
    ("""lambda x: f'{"\\n".join(x)}'""", (3, 11), (3, 12)),
    ("""lambda x: f'{f"{x}\\n"}'""", (3, 11), (3, 12)),
    ("""lambda x: f'{f'{x}'}'""", (3, 11), (3, 12)),
    ("""lambda x: f'{\nx\n}'""", (3, 11), (3, 12)),
    ('''lambda x: f"""{\nx  # why\n}"""''', (3, 11), (3, 12)),
]


@pytest.mark.parametrize(("text", "too_old", "old_enough"), NEWER, ids=[case[0] for case in NEWER])
def test_syntax_newer_than_the_oldest_python_is_refused(
    text: str, too_old: tuple[int, int], old_enough: tuple[int, int]
) -> None:
    if sys.version_info < old_enough:
        assert "is not valid Python" in refusal(text, None)
        return
    assert f"uses syntax newer than Python {too_old[0]}.{too_old[1]}" in refusal(text, too_old)
    ship(text, oldest=old_enough)
    ship(text)


@pytest.mark.parametrize(
    "text",
    [
        """lambda x: f"{x['a']}\\n{x!r:>{10}} # {{}}" """,
        """lambda x: rf'\\d{x}' "\\n" f'{f"{x}"}'""",
        '''lambda x: f"""{\nx["a"]\n}'s "{f'{x}'}" """''',
    ],
)
def test_f_strings_that_every_python_reads_are_not_taken_for_newer_ones(text: str) -> None:
    ship(text, oldest=(3, 9))


def test_newer_syntax_is_refused_in_the_functions_that_are_used(project: Project) -> None:
    module = project(functions="def used(x): return (y := x)\ndef f(x): return used(x)")
    assert "'used' (functions.py:1), which 'f' (functions.py:2) uses, uses syntax newer than Python 3.7" in refusal(
        module.f, (3, 7)
    )


# What is refused.

REFUSED = """
import functools, pytest, sys, helpers, pkg
from pathlib import Path
from pytest import approx
from helpers import helper as their_helper, bad_deco, Caller, Command, Thing, twice
from other import clash
from pytest_modelops.shipping import ship
from pytest_modelops import errors

K = {"a": [Path("x")]}
LOOPED = []
LOOPED.append(LOOPED)
T = Thing(); called = Caller(); command = Command("simulate")
bound = T.cached
open = 3

class Local:
    def method(self, x): return x
    @classmethod
    def made(cls, x): return x
    @staticmethod
    @functools.lru_cache
    def cached(x): return x
    __private = 1
    if True:
        def conditional(self, x): return x

@bad_deco
def badly_decorated(x): return x
@pytest.mark.skip
def marked(x): return x
@functools.lru_cache
def decorated(x): return x
def by_hand(x): return x
wrapped = functools.lru_cache(by_hand)
wrapped_lambda = functools.lru_cache(lambda x: x)
rewrapped = functools.lru_cache(decorated)
def plain(x): return x
partial = functools.partial(plain, 1)

def uses_object(x): return T.meth(x)
def uses_class(x): return Thing()
def uses_bound(x): return bound(x)
def uses_partial(x): return partial()
def uses_module(x): return helpers.helper(x)
def uses_package(x): return pkg.sub.f(x)
def uses_pytest(x): return pytest.approx(x)
def uses_approx(x): return approx(x)
def uses_plugin(x): return errors.ModelopsError(x)
def uses_ship(x): return ship(x)
def uses_data(x): return K
def uses_cycle(x): return LOOPED
def uses_file(x): return __file__
def uses_two(x): return twice(x) + clash(x)
def uses_open(x): return open + their_helper(x)
def typo(x): return undefinedd(x)
def indirect(x): return uses_object(x)
def default_object(x, t=T): return x

def maker():
    local = 7
    def nested(x): return x
    def closing(x): return x * local
    def sibling(x): return nested(x)
    def hidden(x): return x
    def default(x, f=hidden): return f(x)
    def recursive(x): return recursive(x)
    recursive.__wrapped__ = recursive
    return nested, closing, sibling, (lambda x: x + local), default, recursive
nested, closing, sibling, closing_lambda, nested_default, recursive = maker()
for function in (plain, typo):
    def looped(x, function=function): return function(x)
function = None
@functools.singledispatch
def generic(x): return "any"
@generic.register
def _(x: int): return "int"
def uses_generic(x): return generic(x)
"""

REFUSED_HELPERS = """
import functools
factor = 1
def helper(x): return open(x)
def twice(x): return x * factor
def bad_deco(f):
    def wrapper(x): return f(x)
    return wrapper
class Caller:
    def __call__(self, x): return x
class Command(Caller):
    def __init__(self, name): self.name = name
class Thing:
    def meth(self, x): return x
    @functools.lru_cache
    def cached(self, x): return x
"""

REFUSALS = [
    ("Local().method", "'Local.method' is a bound method: pass a function of a module"),
    ("Local.made", "'Local.made' is a bound method"),
    ("Local.method", "'Local.method' (refused.py:18) is a method of class 'Local': pass a function of a module"),
    ("Local.cached", "is a method of class 'Local'"),
    ("Local", "'Local' is a class: pass a function"),
    ("len", "'len' has no Python source: wrap it in a def or a lambda"),
    ("print", "'print' has no Python source"),
    ("partial", "'functools.partial(plain, 1)' is a wrapper and no function with a source: write a lambda or a def"),
    ("generic", "'generic' is a generic function (functools.singledispatch), whose implementations do not travel"),
    ("uses_generic", "uses, is a generic function (functools.singledispatch)"),
    ("called", "an instance of 'Caller' is an object and no function: write a def that makes what it needs and calls"),
    ("command", "'simulate', an instance of 'Command', is an object and no function"),
    ("T", "'Thing' has no Python source"),
    ("closing", "closes over 'local': take that as an argument or define it in the module"),
    ("closing_lambda", "closes over 'local'"),
    ("sibling", "closes over 'nested'"),
    ("recursive", "closes over 'recursive'"),
    (
        "badly_decorated",
        "closes over 'f': take that as an argument or define it in the module; if a decorator made this, let it",
    ),
    ("marked", "'marked' (refused.py:30) uses 'pytest': pytest is in no cell, so do without it in this function"),
    ("decorated.__wrapped__", "is not what its def and decorators made"),
    ("wrapped", "is not what its def and decorators made"),
    ("wrapped_lambda", "is not what its def and decorators made"),
    ("rewrapped", "is not what its def and decorators made"),
    (
        "uses_object",
        "uses 'T', an object of <class 'helpers.Thing'>: only functions, plain data and what is installed travel",
    ),
    (
        "uses_class",
        "uses 'Thing', the class Thing: only functions, plain data and what is installed travel; make it inside",
    ),
    ("uses_bound", "uses 'bound', an object of <class"),
    ("uses_partial", "uses 'partial', an object of <class 'functools.partial'>"),
    ("uses_module", "uses the module 'helpers', which belongs to neither the standard library nor an installed"),
    ("uses_package", "uses the module 'pkg', which belongs to neither"),
    ("uses_pytest", "uses 'pytest': pytest is in no cell, so do without it in this function"),
    ("uses_approx", "uses 'approx': pytest is in no cell"),
    ("uses_plugin", "uses 'errors': pytest_modelops is in no cell"),
    ("uses_ship", "uses 'ship': pytest_modelops is in no cell"),
    ("uses_data", "uses 'K': K['a'][0] is a pathlib"),
    ("uses_cycle", "uses 'LOOPED': LOOPED[0] is the list that it is in"),
    ("uses_file", "uses '__file__', a path of this machine: pass it as an argument"),
    ("uses_two", "uses 'factor', which is something else in another function that travels along: rename one"),
    ("uses_open", "uses 'open', which is something else in another function that travels along: rename one"),
    ("typo", "'typo' (refused.py:56) uses 'undefinedd', which is not defined: import it in the function"),
    ("indirect", "'uses_object' (refused.py:41), which 'indirect' (refused.py:57) uses, uses 'T', an object of"),
    ("default_object", "uses 'T', an object of"),
    ("nested_default", "uses 'hidden', which is not defined"),
    ("looped", "has the default 'function', whose value has changed since: pass it as an argument"),
    ("eval('lambda x: x')", "has no source file: define it in one, or pass its text"),
]


@pytest.mark.parametrize(("expression", "words"), REFUSALS, ids=[case[0] for case in REFUSALS])
def test_what_cannot_travel_is_refused_by_name(project: Project, expression: str, words: str) -> None:
    module = project(
        refused=REFUSED,
        helpers=REFUSED_HELPERS,
        other="factor = 2\ndef clash(x): return x * factor",
        pkg____init__="from . import sub",
        pkg__sub="def f(x): return x",
    )
    assert words in refusal(eval(expression, vars(module)))


LINES = r"""
two = (lambda x: x + 1, lambda x: x + 2)
tricky = (lambda x: 1, lambda x: True, lambda x: 1.0, lambda x: None, lambda x: x)
inner = (lambda x, f=lambda y: y + 1: f(x)), (lambda x: (lambda y: y)(x))
defaults = [lambda x, y=1: x + y, lambda x, y=2: x + y]
numbers = (lambda x: (yield x)), (lambda x: [y for y in range(x)] if x else [])
"""
ON_A_LINE = [
    ("two[0]", 2),
    ("two[1]", 3),
    ("tricky[0]", 1),
    ("tricky[1]", True),
    ("tricky[2]", 1.0),
    ("tricky[3]", None),
    ("tricky[4]", 1),
    ("inner[0]", 2),
    ("inner[0].__defaults__[0]", 2),
    ("inner[1]", 1),
    ("defaults[0]", 2),
    ("defaults[1]", 3),
    ("numbers[1]", [0]),
]


@pytest.mark.parametrize(("expression", "result"), ON_A_LINE, ids=[case[0] for case in ON_A_LINE])
def test_lambdas_of_a_line_are_distinguished_by_position_or_refused(
    project: Project, expression: str, result: object
) -> None:
    function = eval(expression, vars(project(functions=LINES)))
    if sys.version_info >= (3, 11):
        arrived = there(function, 1)
        assert (type(arrived), arrived) == (type(result), result)
    else:
        line = function.__code__.co_firstlineno
        assert (
            f"'<lambda>' (functions.py:{line}) cannot be distinguished from the other lambdas on its line: give each "
            "lambda a line of its own"
        ) in refusal(function)


# What a file says, and what runs.

pytest.register_assert_rewrite("rewritten")


def test_asserts_that_pytest_rewrote_travel_as_they_were_written(project: Project) -> None:
    module = project(
        rewritten="""
        def helper(x):
            assert (y := x) in {"a", "b"}, f"{y} is none"
            assert not (x == "b" and 1 < 2 * 3 < 7)
            return x.upper() * 300
        def f(x):
            def inner():
                "said"
                while True:
                    assert all(helper(c) for c in x)
                    return helper(x)
            return inner()
        """
    )
    assert "@pytest_ar" in vars(module)
    source = ship(module.f, oldest=OLDEST).source
    assert 'assert (y := x) in {"a", "b"}, f"{y} is none"\n' in source
    assert there(module.f, "a") == "A" * 300
    with pytest.raises(AssertionError, match=r"^c is none$"):
        there(module.f, "c")


def edit(module: ModuleType, old: str, new: str) -> None:
    """Change a module's file as people do while pytest runs."""
    path = Path(str(module.__file__))
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    os.utime(path, (1, 1))  # files of equal size and time count as equal


@pytest.mark.parametrize("statement", ["y = x", "assert x != 7, 'seven'"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x * 1000", "x * 2000"),
        ("x * 1000", "x * SCALE"),
        ("def f", "\ndef f"),
        ("def f", "def g"),
        ("def f", "def f("),
    ],
)
def test_a_function_whose_file_changed_since_is_refused(project: Project, statement: str, old: str, new: str) -> None:
    module = project(rewritten=f"SCALE = 3\ndef f(x):\n    {statement}\n    return x * 1000\n")
    assert there(module.f, 2) == 2000
    edit(module, old, new)
    assert "'f' (rewritten.py:2) is not what its file says: the file changed since its import" in refusal(module.f)


def test_changes_below_a_function_do_not_matter(project: Project) -> None:
    module = project(functions="def f(x):\n    return x\n# end\n")
    edit(module, "# end", "def g(x): return x\n")
    assert there(module.f, 2) == 2


def test_what_was_made_by_exec_is_not_taken_for_its_file(project: Project) -> None:
    module = project(functions="def f(x):\n    return x\n")
    exec(compile("def f(x): return x + 1", str(module.__file__), "exec", dont_inherit=True), vars(module))
    assert "is not what its file says" in refusal(module.f)


def test_what_was_typed_travels_if_its_text_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As IPython and newer Pythons keep it."""
    text = "def f(x):\n    return x + 1\n"
    namespace: dict[str, Any] = {}
    exec(compile(text, "<typed>", "exec", dont_inherit=True), namespace)
    assert "has no source file" in refusal(namespace["f"])
    monkeypatch.setitem(linecache.cache, "<typed>", (len(text), None, text.splitlines(keepends=True), "<typed>"))
    assert there(namespace["f"], 1) == 2


# Where a module comes from.


def test_relative_imports_lead_where_they_led(project: Project) -> None:
    module = project(
        pkg__functions="""
        from . import helpers
        from .helpers import helper, BONUS
        def f(x): return helper(x) + BONUS
        def g(x): return helpers.helper(x)
        """,
        pkg__helpers=HELPERS,
    )
    assert there(module.f, 1) == 1004
    assert "uses the module 'pkg.helpers', which belongs to neither" in refusal(module.g)


@pytest.fixture
def checkout(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install the project's directory, or one in it, as an editable distribution `My-Dist`."""

    def install(directory: str = "", **files: str) -> None:
        metadata = tmp_path / "site-packages" / "my_dist-1.dist-info"
        metadata.mkdir(parents=True)
        origin = {"url": (tmp_path / directory).as_uri(), "dir_info": {"editable": True}}
        files = {"METADATA": "Metadata-Version: 2.1\nName: My-Dist\nVersion: 1\n", **files}
        for name, text in {**files, "direct_url.json": json.dumps(origin)}.items():
            (metadata / name.replace("__", ".")).write_text(text)
        monkeypatch.syspath_prepend(metadata.parent)
        names._checkouts.cache_clear()

    yield install
    names._checkouts.cache_clear()


USES_A_MODULE = "import {0}\nfrom {0} import f\ndef whole(x): return {0}.f(x)\ndef part(x): return f(x)"


@pytest.mark.parametrize(
    ("name", "files"), [("my_dist", {}), ("MY_DIST", {}), ("other", {"top_level__txt": "another\nother\n"})]
)
def test_the_packages_of_an_editable_distribution_are_imported(
    project: Project, checkout: Callable[..., None], name: str, files: dict[str, str]
) -> None:
    module = project(functions=USES_A_MODULE.format(name), **{name: "def f(x): return x"})
    assert f"uses the module {name!r}" in refusal(module.whole)
    checkout(**files)
    assert f"import {name}\n" in ship(module.whole).source
    assert f"from {name} import f\n" in ship(module.part).source


def test_what_an_editable_package_defines_for_itself_travels(project: Project, checkout: Callable[..., None]) -> None:
    """Its tests may lie in it, and no cell can import those."""
    module = project(my_dist="def helper(x): return x\ndef f(x): return helper(x)")
    checkout()
    assert "def helper(x)" in ship(module.f).source


def test_all_that_lies_in_the_src_of_an_editable_distribution_is_imported(
    tmp_path: Path, project: Project, checkout: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path / "src")
    module = project(functions=USES_A_MODULE.format("other"), src__other="def f(x): return x")
    checkout()
    assert "import other\n" in ship(module.whole).source


def test_the_tests_beside_an_editable_distribution_are_not(project: Project, checkout: Callable[..., None]) -> None:
    module = project(functions=USES_A_MODULE.format("helpers"), helpers="def f(x): return x")
    checkout()
    assert "uses the module 'helpers'" in refusal(module.whole)
    assert there(module.part, 1) == 1


def test_what_an_installer_put_into_site_packages_is_imported(
    tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "site-packages"
    library.mkdir()
    (library / "library_of_mine.py").write_text("cache = {}\ndef f(x): return cache.setdefault(x, x)")
    monkeypatch.syspath_prepend(library)
    module = project(functions=USES_A_MODULE.format("library_of_mine"))
    assert "import library_of_mine\n" in ship(module.whole).source
    assert ship(module.f).source == "from library_of_mine import f\n"


def test_checks_of_the_plugin_itself_travel_wherever_it_is_installed(
    tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    monkeypatch.setattr(names, "_NEVER_IN_CELLS", frozenset({"plugin_of_mine"}))
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "plugin_of_mine.py").write_text("def g(x): return x\ndef f(x): return g(x) + 1")
    module = project(functions="import plugin_of_mine")
    assert there(module.plugin_of_mine.f, 1) == 2


# This file, which pytest loaded in its importlib mode, with its asserts rewritten.

SCALE = 10


def scaled(value: int) -> int:
    assert value > 0, f"{value} is not positive"
    return value * SCALE


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (scaled, 20),
        (lambda x: scaled(x) + 1, 21),  # on a line of its own, for Python 3.10
        (lambda x: x, 2),
    ],
)
def test_the_functions_of_a_test_file_travel(function: Callable[[int], int], result: int) -> None:
    assert there(function, 2) == result


def test_functions_within_a_test_travel_unless_they_close_over_something_of_it() -> None:
    bonus = 1

    def local(x: int) -> int:
        assert x
        return x * SCALE

    assert there(local, 2) == 20
    assert "closes over 'bonus'" in refusal(lambda x: x + bonus)


def test_values_travel_as_plain_data() -> None:
    assert unpack(json.loads(json.dumps(pack({"a": (1, 2)})))) == {"a": (1, 2)}
    with pytest.raises(NotShippable, match=r"^argument 2\['a'\] is a object: only plain data travels"):
        pack({"a": object()}, "argument 2")
    with pytest.raises(NotShippable, match=r"^this is not packed data"):
        unpack({"tuple": 1, "list": 2})
