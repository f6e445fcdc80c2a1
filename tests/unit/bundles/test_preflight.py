"""What is reported of a bundle before anything starts: each mistake by name, and nothing that cannot be known."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pytest_modelops.bundles.bundle import Bundle, Patterns
from pytest_modelops.bundles.preflight import preflight
from pytest_modelops.errors import CheckFailed
from tests.unit.bundles.files import BUNDLES, CELL, PROJECT, WIRE, write_files

INCIDENCE = "targets.incidence:incidence_target"

ENTRYPOINTS = {
    "seir": "seir.models/baseline",
    "needs-newer-python": "newer.wire/run",
    "undeclared-data": "barn.wire/run",
    "undeclared-flat": "sprout.wire/run",
    "undeclared-module": "undeclared.wire/run",
}
TARGETS = {
    "numbers": "targets:mean",
    "replicate-errs": "targets:loss",
    "loss-is-nan": "targets:loss",
    **dict.fromkeys(("seir", "missing-target", "missing-target-module", "wrong-target-signature"), INCIDENCE),
}
REPORTED = {
    "needs-newer-python": "bundle 'needs-newer-python' requires Python >=3.13, but this cell's workers run 3.12.1; "
    "set requires-python to '>=3.12' in <bundle>/pyproject.toml, or drop the cell py3.12-dask2024.10.0.",
    "missing-target": f"bundle 'missing-target': target '{INCIDENCE}': targets.incidence has no 'incidence_target'; "
    "it has 'incidence_targets' (line 4) in targets/incidence.py",
    "missing-target-module": f"bundle 'missing-target-module': target '{INCIDENCE}': "
    "the bundle has no module 'targets.incidence'; it has 'wire'",
    "wrong-target-signature": f"bundle 'wrong-target-signature': target '{INCIDENCE}' (targets/incidence.py, line 4): "
    "a target takes (sim_returns, target_data), or nothing or only data_paths to return an object with evaluate; "
    "this takes (sim_returns)",
}
STORIES = sorted(path.name for path in BUNDLES.iterdir() if path.is_dir())

Check = Callable[..., str]


def reported_of(bundle: Bundle, python: str = "3.12.1", patterns: Patterns = Patterns()) -> str:  # noqa: B008
    """What preflight says, with the bundle's directory as `<bundle>`; empty when it passes."""
    try:
        preflight(bundle, worker_python=Version(python), cell_id=CELL, patterns=patterns)
    except CheckFailed as error:
        return str(error).replace(str(bundle.path.resolve()), "<bundle>")
    return ""


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Write a bundle and return what preflight says of it, without the bundle's name before it."""

    def check(
        files: dict[str, str],
        *targets: str,
        entrypoint: str | None = None,
        imports: tuple[str, ...] = (),
        python: str = "3.12.1",
    ) -> str:
        write_files(tmp_path, {"requirements.txt": "", "wire.py": WIRE, **files})
        bundle = Bundle(name="b", path=tmp_path, entrypoint=entrypoint, targets=targets, imports=imports)
        return reported_of(bundle, python).removeprefix("bundle 'b': ")

    return check


@pytest.fixture
def check_target(check: Check) -> Check:
    """Return what is reported of `f` in a module with this text, without the place before it."""

    def check_target(text: str, more: dict[str, str] | None = None) -> str:
        reported = check({"t.py": text, **(more or {})}, "t:f")
        assert reported.startswith("target 't:f'") or not reported
        return reported.partition(": ")[2]

    return check_target


@pytest.mark.parametrize("name", STORIES)
def test_stories_that_files_show_are_reported_and_the_others_pass(name: str) -> None:
    bundle = Bundle(
        name=name,
        path=BUNDLES / name,
        entrypoint=ENTRYPOINTS.get(name, "wire/run"),
        targets=(TARGETS[name],) if name in TARGETS else (),
    )
    assert reported_of(bundle) == REPORTED.get(name, "")


def test_a_malformed_bundle_is_reported_with_its_name(tmp_path: Path) -> None:
    reported = reported_of(Bundle(name="b", path=tmp_path))
    assert reported.startswith("bundle 'b': <bundle> has no known format")


def test_all_that_is_wrong_is_reported_and_the_python_first(check: Check) -> None:
    files = {"pyproject.toml": PROJECT + 'requires-python = ">=3.13"', "wire.py": "", "a.py": "def f():\n  pass\n"}
    first, wire, entrypoint, target, module = check(files, "a:g", entrypoint="b.c/run", imports=("a.x",)).splitlines()
    assert first.startswith("bundle 'b' requires Python >=3.13")
    assert wire.startswith("the wire function wire:wire (<bundle>/wire.py): wire has no 'wire'")
    assert entrypoint.startswith("entry point 'b.c/run': the bundle has no module 'b.c'")
    assert target == "target 'a:g': a has no 'g'; it has 'f' (line 1) in a.py"
    assert module.startswith("import 'a.x': the bundle has no module 'a.x'")


# requires-python.


@pytest.mark.parametrize(
    ("wanted", "python", "instead"),
    [
        (">=3.13", "3.12.1", ">=3.12"),
        (">=3.12.2", "3.12.1", ">=3.12"),
        (">=3.13,<4", "3.12.1", ">=3.12,<4"),
        ("<3.12", "3.12.1", "<3.13"),
        (">=3.9,<3.12", "3.12.1", ">=3.9,<3.13"),
        ("!=3.12.*", "3.12.1", ">=3.12"),
        ("==3.11.*", "3.12.1", ">=3.12"),
        ("~=3.11.2", "3.12.1", ">=3.12"),
        (">3.15", "3.15.0b1", ">=3.15"),
    ],
)
def test_a_python_that_is_not_admitted_is_reported_with_the_change_that_admits_it(
    check: Check, wanted: str, python: str, instead: str
) -> None:
    reported = check({"pyproject.toml": f'{PROJECT}requires-python = "{wanted}"'}, python=python)
    assert reported == (
        f"bundle 'b' requires Python {wanted}, but this cell's workers run {python}; "
        f"set requires-python to '{instead}' in <bundle>/pyproject.toml, or drop the cell {CELL}."
    )


@given(
    parts=st.lists(
        st.tuples(st.sampled_from([">=", ">", "<", "<=", "!=", "==", "~="]), st.integers(6, 16), st.integers(0, 3)),
        min_size=1,
        max_size=3,
    ),
    minor=st.integers(8, 15),
    patch=st.integers(0, 12),
)
def test_what_is_proposed_admits_the_workers(parts: list[tuple[str, int, int]], minor: int, patch: int) -> None:
    from pytest_modelops.bundles.preflight import _widened

    wanted = SpecifierSet(",".join(f"{operator}3.{number}.{last}" for operator, number, last in parts))
    worker = Version(f"3.{minor}.{patch}")
    assert SpecifierSet(_widened(wanted, worker)).contains(worker, prereleases=True)


@pytest.mark.parametrize(
    ("line", "python"),
    [
        ('requires-python = ">=3.12.1"', "3.12.1"),
        ('requires-python = ">=3.15"', "3.15.0b1"),  # as pip has it: a beta of 3.15 is a 3.15
        ('requires-python = ">=3.12.0rc1"', "3.12.0"),
        ('requires-python = ""', "3.12.1"),
        ('requires-python = "~=3.11"', "3.12.1"),
        ("", "3.12.1"),
    ],
)
def test_a_python_is_admitted_as_pip_admits_it(check: Check, line: str, python: str) -> None:
    assert check({"pyproject.toml": PROJECT + line}, python=python) == ""


def test_garbage_admits_no_python(check: Check) -> None:
    assert check({"pyproject.toml": PROJECT + 'requires-python = "three"'}) == (
        "requires-python = 'three' in <bundle>/pyproject.toml is not a range of versions; write one such as '>=3.12'"
    )


# Modules.


@pytest.mark.parametrize("entrypoint", ["seir.model/baseline", "sier.models/baseline", "seir.model:baseline"])
def test_a_missing_module_is_reported_with_those_near_it(check: Check, entrypoint: str) -> None:
    module = re.split("[/:]", entrypoint)[0]
    assert check({"seir/models.py": ""}, entrypoint=entrypoint) == (
        f"entry point {entrypoint!r}: the bundle has no module {module!r}; it has 'seir.models'"
    )


@pytest.mark.parametrize("entrypoint", ["seir", "seir:", "seir..a/x", "/x", "a-b/x"])
def test_an_entry_point_in_another_form_is_reported_with_the_valid_ones(check: Check, entrypoint: str) -> None:
    assert check({"seir.py": ""}, entrypoint=entrypoint) == (
        f"entry point {entrypoint!r} is neither package.module/scenario nor package.module:object"
    )


def test_what_a_scenario_is_only_the_wire_function_knows_but_an_object_must_exist(check: Check) -> None:
    files = {"seir.py": "class Model:\n  pass\n"}
    assert check(files, entrypoint="seir/any") == ""
    assert check(files, entrypoint="seir/models/baseline.py:x") == ""
    assert check(files, entrypoint="seir:Model.run") == ""
    assert check(files, entrypoint="seir:Modle") == (
        "entry point 'seir:Modle': seir has no 'Modle'; it has 'Model' (line 1) in seir.py"
    )


def test_an_entry_point_may_name_a_class_of_a_module(check: Check) -> None:
    """As ModelOps writes them: `package.module.Class/scenario`."""
    files = {
        "models/sir.py": "class Sir(Base):\n  pass\nclass Outer:\n  class Inner: ...\n",
        "models/__init__.py": "from .sir import Sir\nfrom framework import *\n",
        "space/deep.py": "class A: ...\n",
    }
    good = ("models.sir.Sir/base", "models.Sir/base", "models.sir.Outer.Inner/x", "space.deep.A/x", "space.deep/x")
    for entrypoint in good:
        assert check(files, entrypoint=entrypoint) == "", entrypoint
    assert check(files, entrypoint="models.sir.Seir/base") == (
        "entry point 'models.sir.Seir/base': models.sir has no 'Seir'; it has 'Sir' (line 1) in models/sir.py"
    )
    assert "has no module 'space.shallow.A'" in check(files, entrypoint="space.shallow.A/x")
    assert "has no module 'models.sri.Sir'" in check({**files, "models/__init__.py": ""}, entrypoint="models.sri.Sir/x")
    assert ":1: invalid Python" in check({"bad.py": "x = = 1\n"}, entrypoint="bad.Model/x", python=OLD)


@pytest.mark.parametrize(
    ("key", "text", "other"), [("entrypoint", "a.b.C/base", "a/base"), ("targets", "t.x:f", "t:f")]
)
def test_a_deployment_may_accept_less(tmp_path: Path, key: str, text: str, other: str) -> None:
    files = {"a/b.py": "class C: ...\n", "t/x.py": "def f(a, b): ...\n", "t/__init__.py": "from .x import f\n"}
    write_files(tmp_path, {"requirements.txt": "", "wire.py": WIRE, "a/__init__.py": "", **files})
    pattern = r"[A-Za-z_][\w.]*\.[A-Za-z_]\w*[/:][\w-]+"
    patterns = Patterns(entrypoint=pattern, target=pattern)

    def said(value: str, patterns: Patterns) -> str:
        bundle = Bundle(name="b", path=tmp_path, **{key: value if key == "entrypoint" else (value,)})  # type: ignore[arg-type]
        return reported_of(bundle, patterns=patterns)

    assert said(text, patterns) == said(other, Patterns()) == ""
    name = key.removesuffix("s")
    assert f"{other!r} does not match {pattern!r}, which `{name}` in [tool.modelops.preflight] asks for" in said(
        other, patterns
    )


def test_modules_may_come_with_a_dependency(check: Check) -> None:
    assert check({"requirements.txt": "starsim"}, entrypoint="starsim.models/sir") == ""
    assert check({"requirements.txt": "scikit-learn"}, "sklearn.metrics:loss") == ""
    assert "has no module 'sier'" in check({"requirements.txt": "numpy", "seir.py": ""}, entrypoint="sier/x")
    assert check({"requirements.txt": "sier", "seir.py": ""}, entrypoint="sier/x") == ""


def test_the_wire_function_may_come_with_a_dependency(check: Check) -> None:
    entry = '[project.entry-points."modelops.wire"]\nrun = "calibration.wire:wire"'
    assert check({"pyproject.toml": f'{PROJECT}dependencies = ["modelops-calibration"]\n{entry}'}) == ""
    assert "the bundle has no module 'calibration.wire'" in check({"pyproject.toml": f"{PROJECT}{entry}"})


@pytest.mark.parametrize(
    ("files", "install", "may_have_it"),
    [
        ({"pyproject.toml": f'{PROJECT}dependencies = ["framework>=1", "numpy"]'}, "isolated", "framework, numpy"),
        ({"pyproject.toml": f'{PROJECT}dependencies = ["framework @ git+https://git.example/f"]'}, "isolated", "frame"),
        ({"requirements.txt": "framework"}, "isolated", "framework"),
        ({"pyproject.toml": f'{PROJECT}dynamic = ["dependencies"]'}, "isolated", "what its build declares"),
        ({"setup.py": "from setuptools import setup\nsetup(**read())"}, "isolated", "what its build declares"),
        ({"setup.py": "import setuptools as s\ns.setup(entry_points=read())"}, "isolated", "what its build declares"),
        ({"setup.cfg": "[options]\nentry_points = file: points.cfg\n", "setup.py": ""}, "isolated", "its build"),
        ({"pyproject.toml": PROJECT}, "workers", "packages of the workers"),
        ({"pyproject.toml": PROJECT}, "isolated", ""),
        ({"setup.py": ""}, "isolated", ""),
    ],
)
def test_what_files_do_not_show_is_left_to_the_check_that_sees_it(
    tmp_path: Path, files: dict[str, str], install: str, may_have_it: str
) -> None:
    write_files(tmp_path, {"models.py": "class Sir: ...\n", **files})
    bundle = Bundle(name="b", path=tmp_path, entrypoint="models.Sir/base", install=install)
    if not may_have_it:
        assert reported_of(bundle).startswith("bundle 'b': it declares no wire function")
        return
    _, [unknown] = preflight(bundle, worker_python=Version("3.12.1"), cell_id=CELL)
    assert "its files declare no wire function" in unknown
    assert may_have_it in unknown
    assert "`bundle-install`" in unknown


def test_imports_of_the_bundle_must_exist_and_others_are_not_judged(check: Check) -> None:
    files = {"seir/__init__.py": "", "seir/models.py": "", "space/deep/a.py": ""}
    good = ("seir", "seir.models", "space", "space.deep.a", "numpy", "json")
    assert check(files, imports=good) == ""
    assert check(files, imports=("seir.model",)) == (
        "import 'seir.model': the bundle has no module 'seir.model'; it has 'seir.models'"
    )
    assert "is not a module's name" in check(files, imports=("seir/models",))


def test_extension_modules_and_stubs_are_believed(check: Check) -> None:
    files = {"fast.abi3.so": "", "cyth.pyx": "", "rust.pyi": ""}
    assert check(files, "fast:f", "cyth:f", "rust:f", imports=("fast", "cyth", "rust")) == ""


# Of workers whose Python is no newer than that which parses.
OLD = "3.10.1"


def test_invalid_python_in_a_module_that_is_named_or_in_its_package_is_reported_with_its_line(check: Check) -> None:
    files = {"pkg/__init__.py": "\n\ndef (\n", "pkg/t.py": "def f():\n  pass\n", "bad.py": "x = = 1\n"}
    assert check(files, "pkg.t:f", entrypoint="bad/x", python=OLD).splitlines() == [
        "entry point 'bad/x': <bundle>/bad.py:1: invalid Python 3.10: invalid syntax",
        "target 'pkg.t:f': <bundle>/pkg/__init__.py:3: invalid Python 3.10: invalid syntax",
    ]


def test_syntax_that_the_workers_do_not_know_yet_is_reported(check: Check) -> None:
    files = {"new.py": "match 1:\n  case 1: pass\n"}
    assert "new.py:2: invalid Python 3.9: Pattern matching is only" in check(files, entrypoint="new/x", python="3.9.1")
    assert check(files, entrypoint="new/x", python="3.10.1") == ""


def test_syntax_that_only_the_workers_may_know_is_believed(check: Check) -> None:
    newer = f"3.{sys.version_info.minor + 1}.0"
    assert check({"new.py": "nobody knows this\n"}, "new:f", entrypoint="new/x", python=newer) == ""


def test_source_in_another_encoding_and_with_warnings_is_read(check: Check, tmp_path: Path) -> None:
    (tmp_path / "t.py").write_bytes(b"# -*- coding: latin-1 -*-\n# \xe9\ndef f(a, b):\n  return '\\d'\n")
    assert check({}, "t:f", python=OLD) == ""


def test_nothing_is_imported_and_only_what_matters_is_parsed(check: Check, tmp_path: Path) -> None:
    spoils = f"open({str(tmp_path / 'imported')!r}, 'w')\n"
    files = {f"pkg/m{number}.py": f"{spoils}x = = {number}\n" for number in range(200)}
    files["pkg/__init__.py"] = files["setup.py"] = files["conftest.py"] = spoils
    files["pkg/t.py"] = f"{spoils}def f(a, b): pass\n"
    files["wire.py"] = f"{spoils}{WIRE}"
    before = set(sys.modules)
    assert check(files, "pkg.t:f", entrypoint="pkg.t/x", imports=("pkg",), python=OLD) == ""
    assert not (tmp_path / "imported").exists()
    assert not any(name.partition(".")[0] == "pkg" for name in set(sys.modules) - before)
    assert "pkg/m7.py:2: invalid Python" in check(files, entrypoint="pkg.m7/x", python=OLD)


# Targets.


@pytest.mark.parametrize("target", ["t:f", "t/f"])
def test_a_target_may_be_written_in_the_old_form(check: Check, target: str) -> None:
    assert check({"t.py": "def f(sim_returns, target_data): ...\n"}, target) == ""
    assert "t has no 'f'; it has 'g' (line 1) in t.py" in check({"t.py": "def g(): ...\n"}, target)


@pytest.mark.parametrize("target", ["t", "t.f", ":f", "t:", "a/t.py:f", "t:f(x)"])
def test_a_target_in_another_form_is_reported_with_the_valid_one(check: Check, target: str) -> None:
    assert check({"t.py": "def f(a, b): ...\n"}, target) == f"target {target!r} is not package.module:function"


def with_signature(arguments: str) -> tuple[str, str, str]:
    """Return a function, a lambda and a class that take these arguments."""
    init = arguments.replace("(", "(self, ", 1).replace("self, )", "self)")
    return (
        f"def f{arguments}: ...\n",
        f"f = lambda {arguments[1:-1].replace(', /', '')}: None\n",
        f"class f:\n  def __init__{init}: ...\n",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        "(sim_returns, target_data)",
        "(a, b, /)",
        "(a, b=None)",
        "(a, b, c=1, *, d=2)",
        "(*args)",
        "(a, *rest, **more)",
        "()",
        "(a=None)",
        "(data_paths)",
        "(*, data_paths)",
        "(data_paths, other=1)",
        "(**more)",
    ],
)
def test_signatures_that_a_runner_can_call(check_target: Check, arguments: str) -> None:
    for text in with_signature(arguments):
        assert check_target(text) == ""


@pytest.mark.parametrize(
    "arguments", ["(sim_returns)", "(a, b, c)", "(a, b, *, c)", "(a, *, b)", "(*, a)", "(a, *, data_paths)"]
)
def test_signatures_that_no_runner_can_call(check_target: Check, arguments: str) -> None:
    for text in with_signature(arguments):
        assert check_target(text) == (
            "a target takes (sim_returns, target_data), or nothing or only data_paths to return an object with "
            f"evaluate; this takes {arguments}"
        )


@pytest.mark.parametrize(
    "text",
    [
        "import functools\nf = functools.partial(print, 1)\n",
        "from numpy import f\n",
        "from numpy import *\n",
        "from a import g as f\n",
        "from a import *\n",
        "from a import *\ndef g(): ...\n",
        "try:\n  from fast import f\nexcept ImportError:\n  def f(a, b): ...\n",
        "import sys\nif sys.platform == 'win32':\n  def f(): ...\nelse:\n  def f(a): ...\n",
        "@decorated\ndef f(): ...\n",
        "@decorated\ndef f(a): ...\n",
        "@decorated\nasync def f(a): ...\n",
        "class f(Base):\n  def __init__(self, a): ...\n",
        "class f: ...\n",
        "class f:\n  def __new__(cls, *args): ...\n  def __init__(self, a): ...\n",
        "@dataclass\nclass f:\n  a: int\n",
        "def __getattr__(name): ...\n",
        "globals()['f'] = print\n",
        "import sys\nsetattr(sys.modules[__name__], 'f', print)\n",
        "def make():\n  global f\n  f = print\nmake()\n",
        "with open('x') as f: pass\n",
        "for f in (print,): pass\n",
        "x = (f := print)\n",
        "f: object = print\n",
        "(g, f) = print, print\n",
        "def f(a): ...\nf = wrapped(f)\n",
        "def f(a): ...\ndef f(a, b): ...\n",
        "match 1:\n  case f: pass\n",
    ],
)
def test_what_suits_or_cannot_be_known_is_believed(check_target: Check, text: str) -> None:
    assert check_target(text, {"a.py": "def g(a, b): ...\ndef f(a, b): ...\n"}) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("async def f(a, b): ...\n", "it is async, and nothing awaits it; write it with def"),
        ("f = 3\n", "it is a value that cannot be called, not a function"),
        ("f = {}\n", "it is a value that cannot be called, not a function"),
        ("import f\n", "it is a module, not a function"),
        ("from pkg import sub as f\n", "it is a module, not a function"),
        ("f: object\ndef g(): ...\n", "t has no 'f'; it has 'g' (line 2) in t.py"),
        ("def _f(): ...\n", "t has no 'f'; it has '_f' (line 1) in t.py"),
        ("", "t has no 'f'; it defines nothing"),
        ("def g(a):\n  setattr(a, 'f', vars(a))\n", "t has no 'f'; it has 'g' (line 1) in t.py"),
        ("def make():\n  def f(a, b): ...\n", "t has no 'f'; it has 'make' (line 1) in t.py"),
        ("class C:\n  def f(a, b): ...\n", "t has no 'f'; it has 'C' (line 1) in t.py"),
        ("from a import f\n", "t has no 'f'; line 1 of t.py imports it from a module that does not define it"),
        ("from pkg.none import f\n", "t has no 'f'; line 1 of t.py imports it from a module that does not define it"),
        ("from listed import *\n", "t has no 'f'; it defines nothing"),
        ("def f(a, b): ...\ndef f(a): ...\n", "a target takes (sim_returns, target_data), or nothing"),
        ("from one import f\n", "a target takes (sim_returns, target_data), or nothing"),
        ("from pkg import *\n", "a target takes (sim_returns, target_data), or nothing"),
    ],
)
def test_what_is_wrong_is_reported(check_target: Check, text: str, said: str) -> None:
    more = {
        "a.py": "",
        "one.py": "def f(a): ...\n",
        "listed.py": "__all__ = ['g']\ndef f(a, b): ...\n",
        "pkg/__init__.py": "from .sub import f\n",
        "pkg/sub.py": "from ..one import f\nfrom one import f\n",
    }
    assert check_target(text, more).startswith(said)


def test_a_wrong_name_is_reported_where_it_was_imported_from(check: Check) -> None:
    files = {"t.py": "from pkg import f\n", "pkg/__init__.py": "from .sub import f\n", "pkg/sub.py": "\nf = 3\n"}
    assert check(files, "t:f").startswith("target 't:f' (pkg/sub.py, line 2): it is a value")


def test_modules_that_import_a_name_from_each_other_define_it_nowhere(check: Check) -> None:
    files = {"a.py": "from b import f\n", "b.py": "from a import f\n", "c.py": "from c import *\n"}
    reported = check(files, "a:f", "c:f")
    assert "a has no 'f'" in reported
    assert "c has no 'f'" in reported


def test_a_package_may_hand_on_its_modules(check: Check) -> None:
    files = {"pkg/__init__.py": "from . import sub\n", "pkg/sub.py": ""}
    assert check(files, entrypoint="pkg:sub") == ""


@pytest.mark.parametrize("depth", [980, 3000, 30_000])
def test_what_stands_beside_an_expression_too_deep_to_follow_is_believed(check: Check, depth: int) -> None:
    assert check({"t.py": f"x = {'+'.join('1' * depth)}\ndef f(a, b): ...\n"}, "t:f", python=OLD) == ""


# The wire function.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def wire(entrypoint, params, seed): ...", ""),
        ("def wire(*args): ...", ""),
        ("def wire(entrypoint, params, seed, log=None): ...", ""),
        ("from lib import wire", ""),
        ("wire = make()", ""),
        ("", ": wire has no 'wire'; it defines nothing"),
        ("def main(): ...", ": wire has no 'wire'; it has 'main' (line 1) in wire.py"),
        ("async def wire(a, b, c): ...", " (wire.py, line 1): it is async, and nothing awaits it; write it with def"),
        (
            "def wire(entrypoint, params): ...",
            " (wire.py, line 1): it is called with (entrypoint, params, seed), but takes (entrypoint, params)",
        ),
    ],
)
def test_the_wire_function_must_take_what_a_runner_gives(check: Check, text: str, said: str) -> None:
    expected = f"the wire function wire:wire (<bundle>/wire.py){said}" if said else ""
    assert check({"wire.py": text}) == expected


def test_an_entry_point_needs_a_wire_function(tmp_path: Path) -> None:
    (tmp_path / "setup.py").touch()
    (tmp_path / "a.py").touch()
    assert reported_of(Bundle(name="b", path=tmp_path)) == ""
    assert reported_of(Bundle(name="b", path=tmp_path, entrypoint="a/x")) == (
        "bundle 'b': it declares no wire function, which would run its entry point 'a/x'; "
        'name one in [project.entry-points."modelops.wire"], or add a wire.py with a function wire'
    )


@given(text=st.text(max_size=40) | st.lists(st.sampled_from("ft:/.ab1é")).map("".join))
def test_names_that_are_none_never_crash(text: str) -> None:
    reported = reported_of(
        Bundle(name="b", path=BUNDLES / "numbers", entrypoint=text, targets=(text,), imports=(text,))
    )
    assert reported.startswith("bundle 'b': ") or not reported
