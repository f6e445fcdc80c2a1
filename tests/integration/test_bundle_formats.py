"""Bundles in archives of every kind, on real workers of one cell; and broken ones of every format.

All are shipped in one run; each test reads what the report says of its bundle. The plain bundles of each format and one
broken twin of each, which are described here, are shipped by `test_formats_on_every_backend.py`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pytest_modelops.bundles.archive import suffix_of
from tests.integration.conftest import AT_ONCE, INSTALLED, UNKNOWN, Reported, RunOnce, write_wheel
from tests.unit.bundles.files import PACKERS, rewrite, without_hashes

FORMATS = Path(__file__).parents[2] / "fixtures" / "formats"
CELL = "py3.12-dask2024.10.0"

IMPORTS = {
    "requirements": ("tomli",),
    "pure_python": ("calculator", "shapes.area"),
    "packaged": ("testpkg", "tomli"),
    "existing_wheels": ("wheeled.core",),
    "mixed": ("mixedpkg", "tomli"),
    "nested": ("model", "helpers.reading", "tomli"),
}
"""What a user of each format imports."""
CONTAINERS: Mapping[str, str] = {
    "requirements": ".tar",
    "packaged": ".tar.gz",
    "existing_wheels": ".tar.xz",
    "nested": ".tar.bz2",
}
"""In which archive each format is shipped; `test_formats_on_every_backend.py` has a .zip and a .tgz of the others."""
TWINS: Mapping[str, str] = {
    "requirements": "requirements-lost",
    "pure_python": "pure_python-relative",
    "packaged": "packaged-undeclared",
    "existing_wheels": "wheels-other-libc",
    "mixed": "mixed-at-odds",
    "nested": "nested-beside",
}
"""The broken twin of each format that `test_formats_on_every_backend.py` ships in every way."""
COMPILED = """
import os
from setuptools import Extension, setup
os.environ["CC"] = "pytest-modelops-no-such-compiler"
setup(name="compiled", version="1.0", ext_modules=[Extension("compiled", ["compiled.c"])])
"""

POETRY = """
[build-system]
requires = ["poetry-core>=1.8"]
build-backend = "poetry.core.masonry.api"
[tool.poetry]
package-mode = false
"""
OPTIONS = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "testpkg"
version = "1.0"
dynamic = ["dependencies"]
[tool.setuptools.dynamic]
dependencies = { file = "needs.txt" }
"""


# Making them.


def healthy(directory: Path) -> dict[Path, tuple[str, ...]]:
    """Healthy bundles, and what is to be imported of each.

    As directories, `test_formats_on_every_backend.py` has them.
    """
    made: dict[Path, tuple[str, ...]] = {}
    for name, container in CONTAINERS.items():
        if name == "existing_wheels":
            wheel(directory / name / "deep" / "vendor" / "wheeled-1.0-py3-none-any.whl")
        else:
            shutil.copytree(FORMATS / name, directory / name)
        made[pack(directory / name, directory / f"{name}-packed{container}")] = IMPORTS[name]
    made[sdist(FORMATS / "packaged", directory / "testpkg-1.0.tar.gz")] = ("testpkg",)
    made[everyday(directory / "everyday")] = ("round", "shapes.area", "lib_of_ours")
    combined = directory / "combined"
    shutil.copytree(FORMATS / "pure_python", combined / "all-of-it-2.0")
    shutil.copytree(FORMATS / "mixed", combined / "all-of-it-2.0" / "project")
    wheel(combined / "all-of-it-2.0" / "wheels" / "wheeled-1.0-py3-none-any.whl")
    made[pack(combined, directory / "combined-packed.zip")] = (
        *("calculator", "shapes.area", "mixedpkg", "wheeled.core", "tomli"),
    )
    return made


def everyday(directory: Path) -> Path:
    """A directory as people have it: tools are configured, and requirements are as PowerShell and pip write them."""
    (directory / "shapes").mkdir(parents=True)
    (directory / "pins").mkdir()
    files = {
        "pyproject.toml": "[tool.ruff]\nline-length = 100\n",
        "round.py": "import tomli\n",
        "shapes/area.py": "",
        "lib/setup.py": "from setuptools import setup\nsetup(name='lib', version='1', py_modules=['lib_of_ours'])\n",
        "lib/lib_of_ours.py": "",
        "pins/versions.txt": "tomli==2.0.1\niniconfig<1\n",
        "pins/more.txt": "tomli \\\n  >=2  # to read\n",
    }
    for name, text in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    lines = "-c pins/versions.txt\r\n-r pins/more.txt\r\n-e ./lib\r\ncolorama ; sys_platform == 'win32'\r\n"
    (directory / "requirements.txt").write_bytes(lines.encode("utf-16"))
    return directory


def broken(directory: Path) -> dict[Path, tuple[str, ...]]:
    """Every broken twin, and what is to be imported of it."""

    def twin(name: str, of: str, change: Callable[[Path], object]) -> None:
        shutil.copytree(FORMATS / of, directory / name)
        change(directory / name)
        made[directory / name] = IMPORTS[of]

    made: dict[Path, tuple[str, ...]] = {}
    requirements = "pytest-modelops-no-such-package\n"
    twin("requirements-lost", "requirements", lambda at: (at / "requirements.txt").write_text(requirements))
    relative = "from .shapes.area import square\n"
    wrong = f"tomli==2.0.1 --hash=sha256:{'0' * 64}\n"
    twin("requirements-other-hash", "requirements", lambda at: (at / "requirements.txt").write_text(wrong))
    refused = "tomli\n--index-url https://index.invalid/simple\n-e ../lib\n"
    twin("requirements-refused", "requirements", lambda at: (at / "requirements.txt").write_text(refused))
    twin("pure_python-relative", "pure_python", lambda at: (at / "calculator.py").write_text(relative))
    twin("packaged-undeclared", "packaged", lambda at: replace(at / "pyproject.toml", "tomli==2.0.1", "iniconfig"))
    group = '\n[dependency-groups]\nrun = ["tomli>=2"]\n'
    toml = directory / "packaged-undeclared" / "pyproject.toml"
    toml.write_text(toml.read_text() + group)
    twin("packaged-uv-sources", "packaged", lambda at: None)
    toml = directory / "packaged-uv-sources" / "pyproject.toml"
    toml.write_text(toml.read_text() + '\n[tool.uv.sources]\ntomli = { path = "../tomli" }\n')
    write_wheel(made_in(directory, "wheels-of-another-machine"), {"a.py": ""}, requires=["b @ file:///home/ci/b"])
    made[directory / "wheels-of-another-machine"] = ()
    twin("packaged-unbuildable", "packaged", lambda at: (at / "pyproject.toml").unlink())
    (directory / "packaged-unbuildable" / "setup.py").write_text("raise RuntimeError('the data is not there')\n")
    twin("packaged-by-poetry", "packaged", lambda at: (at / "pyproject.toml").write_text(POETRY))
    twin("packaged-with-options", "packaged", lambda at: (at / "pyproject.toml").write_text(OPTIONS))
    (directory / "packaged-with-options" / "needs.txt").write_text("--extra-index-url https://index.invalid\ntomli\n")
    twin("mixed-at-odds", "mixed", lambda at: replace(at / "pyproject.toml", "[project]", _AT_ODDS))
    twin("nested-beside", "nested", lambda at: (at / "other.py").write_text(""))
    places = {
        "wheels-other-python": "wheeled-1.0-cp311-cp311-linux_x86_64.whl",
        "wheels-other-libc": "wheeled-1.0-cp312-cp312-musllinux_1_1_x86_64.whl",
        "wheels-without-hashes": "wheeled-1.0-py3-none-any.whl",
    }
    for name, file in places.items():
        path = wheel(directory / name / file)
        made[directory / name] = ()
        if name == "wheels-without-hashes":
            rewrite(path, without_hashes)
    for name, files in {"wheel-escaping": ["../../evil.py"], "wheel-clash": ["one/A.py", "one/a.py"]}.items():
        (directory / name).mkdir()
        write_wheel(directory / name / "wheeled-1.0-py3-none-any.whl", dict.fromkeys(files, ""))
        made[directory / name] = ()
    evil = write_wheel(directory / "escaper-1.0-py3-none-any.whl", {"../../evil.py": ""})
    made[evil] = ()
    made[pack(FORMATS / "pure_python", directory / "escaping.zip", {"../evil.py": ""})] = ()
    cut = pack(FORMATS / "pure_python", directory / "cut-off.tar.gz")
    cut.write_bytes(cut.read_bytes()[:-200])
    made[cut] = ()
    compiled = directory / "sources" / "compiled"
    compiled.mkdir(parents=True)
    (compiled / "setup.py").write_text(COMPILED)
    (compiled / "compiled.c").write_text("int x;\n")
    made[sdist(compiled, directory / "compiled-1.0.tar.gz")] = ()
    return made


def made_in(directory: Path, name: str) -> Path:
    (directory / name).mkdir()
    return directory / name / "a-1.0-py3-none-any.whl"


_AT_ODDS = '[project]\ndependencies = ["tomli>=2.1"]'


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def wheel(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_wheel(path, {"wheeled/__init__.py": "", "wheeled/core.py": "answer = 42\n"})


def pack(directory: Path, path: Path, more: Mapping[str, str] | None = None, *, top: str = "") -> Path:
    """Pack what a directory holds, and other files, into an archive of the kind that its name says."""
    files = {
        f"{top}{file.relative_to(directory).as_posix()}": file.read_bytes()
        for file in sorted(directory.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }
    files |= {name: text.encode() for name, text in (more or {}).items()}
    path.write_bytes(PACKERS[suffix_of(path) or ""](*files.items()))
    return path


def sdist(directory: Path, path: Path) -> Path:
    stem = path.name.removesuffix(".tar.gz")
    name, _, version = stem.rpartition("-")
    info = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    return pack(directory, path, {f"{stem}/PKG-INFO": info}, top=f"{stem}/")


def configuration(bundles: Mapping[Path, tuple[str, ...]]) -> str:
    lines = [f'  {{ path = "{path}", imports = {json.dumps(imports)} }},' for path, imports in bundles.items()]
    return "\n".join(
        [
            *("[tool.modelops]", 'backend = "process"', 'start = "fork-workers"', "workers = 1"),
            *("bundles = [", *lines, "]"),
            *("[tool.modelops.matrix]", 'python = ["3.12"]', 'dask = ["2024.10.0"]', ""),
        ]
    )


# What came of them.


def configure(directory: Path) -> str:
    """Make all of them, and ship them."""
    (directory / "healthy").mkdir()
    (directory / "broken").mkdir()
    twins = TWINS.values()
    others = {path: of for path, of in broken(directory / "broken").items() if path.name not in twins}
    return configuration(healthy(directory / "healthy") | others)


@pytest.fixture(scope="session")
def reported(run_once: RunOnce) -> Reported:
    """What one run with all of them said, once in a test session."""
    check_names = "preflight or bundle_install or handshake"
    return run_once("formats", configure, "-k", check_names, sources=[FORMATS])


FOUND = {
    "requirements": ("requirements", 0, "it has a requirements.txt"),
    "pure_python": ("pure_python", 4, "it has 1 loose module and 1 loose package"),
    "packaged": ("packaged", 2, "it has a pyproject.toml"),
    "existing_wheels": ("existing_wheels", 2, "it has 1 wheel"),
    "mixed": ("mixed", 2, "it has a pyproject.toml and a requirements.txt"),
    "nested": (
        "nested",
        3,
        "it has a requirements.txt, 1 loose module and 1 loose package, one directory down in myproject-v1.0",
    ),
    "testpkg": ("packaged", 2, "it has a pyproject.toml, one directory down in testpkg-1.0"),
    "everyday": ("mixed", 3, "it has a setup.py in lib, a requirements.txt, 1 loose module and 1 loose package"),
    "combined": (
        "nested",
        8,
        (
            "it has a pyproject.toml in project, a requirements.txt in project, 1 wheel, 1 loose module and 1 loose "
            "package, one directory down in all-of-it-2.0"
        ),
    ),
}
"""Of each bundle its format, how many modules every worker must have, and why it has that format."""


def loses_no_module(reported: Reported, bundle: str, found_as: str, *processes: str) -> None:
    """Assert that it installed and answered, is what `FOUND` says, and has each module in these processes."""
    reported.passed(bundle, "preflight", "bundle-install", "handshake")
    format_, modules, why = FOUND[found_as]
    data = reported.checks[bundle, "bundle-install"].data
    found = {"format": format_, "found": why, "modules": modules}
    assert {key: data[key] for key in found} == found == reported.checks[bundle, "preflight"].data
    assert data["accounted"] == dict.fromkeys(processes, modules)


@pytest.mark.parametrize("bundle", [*(f"{name}-packed" for name in [*CONTAINERS, "combined"]), "testpkg", "everyday"])
def test_a_healthy_bundle_installs_answers_and_loses_no_module(reported: Reported, bundle: str) -> None:
    loses_no_module(reported, bundle, bundle.removesuffix("-packed"), "client", "worker-0")


BROKEN = {
    "requirements-lost": ("bundle-install", ("pytest-modelops-no-such-package was not found",)),
    "requirements-other-hash": (
        "bundle-install",
        (
            (
                "tomli==2.0.1 (tomli-2.0.1-py3-none-any.whl) does not match its hash in the bundle's requirements: "
                f"expected sha256:{'0' * 64}, got sha256:939de3e7a6161af0c887ef91b7d41a53e7c5a1ca976325f429cb46ea9bc3"
            ),
        ),
    ),
    "requirements-refused": (
        "preflight",
        (
            "requirements.txt, line 2: the option --index-url https://index.invalid/simple is not supported",
            "requirements.txt, line 3: '../lib' lies outside the bundle",
        ),
    ),
    "pure_python-relative": (
        "bundle-install",
        ("import calculator failed: ImportError: attempted relative import with no known parent package",),
    ),
    "packaged-undeclared": (
        "bundle-install",
        (
            "import testpkg failed: ModuleNotFoundError: No module named 'tomli'",
            "No installer of the bundle reads [dependency-groups] of pyproject.toml (tomli>=2): list what it needs in",
        ),
    ),
    "packaged-uv-sources": (
        "preflight",
        ("the dependency 'tomli' comes from path = '../tomli' by [tool.uv.sources] in ", "which no wheel carries"),
    ),
    "wheels-of-another-machine": (
        "preflight",
        ("a-1.0-py3-none-any.whl depends on b @ file:///home/ci/b, a path that is not on this machine",),
    ),
    "packaged-unbuildable": (
        "bundle-install",
        ("cannot be installed by Python 3.12.1: RuntimeError: the data is not there.\ncould not build a wheel of",),
    ),
    "packaged-by-poetry": ("bundle-install", ("Building a package is not possible in non-package mode",)),
    "packaged-with-options": ("bundle-install", ("--extra-index-url https://index.invalid",)),
    "mixed-at-odds": ("bundle-install", ("tomli==2.0.1", "tomli>=2.1")),
    "nested-beside": (
        "preflight",
        ("myproject-v1.0/requirements.txt in ", "would be ignored, because other files are beside myproject-v1.0"),
    ),
    "wheels-other-python": (
        "preflight",
        (
            "wheeled-1.0-cp311-cp311-linux_x86_64.whl is for CPython 3.11; this cell's workers run 3.12.1",
            f"ship a wheel for Python 3.12, or its name in a requirements.txt instead, or drop the cell {CELL}.",
        ),
    ),
    "wheels-other-libc": ("bundle-install", ("is not a supported wheel: it is for cp312-cp312-musllinux_1_1_x86_64",)),
    "wheels-without-hashes": (
        "preflight",
        (
            "the RECORD of wheeled-1.0-py3-none-any.whl has no hash of 4 of its 4 files",
            "so nothing can verify what was installed of it; build it again",
        ),
    ),
    "escaping": ("preflight", ("escaping.zip is refused: '../evil.py' leads out of its directory",)),
    "wheel-escaping": (
        "preflight",
        ("wheeled-1.0-py3-none-any.whl is refused: '../../evil.py' leads out of its directory", "no installer"),
    ),
    "wheel-clash": (
        "preflight",
        ("is refused: 'one/a.py' and 'one/A.py' are one name where case does not count", "no installer"),
    ),
    "escaper": ("preflight", ("escaper-1.0-py3-none-any.whl is refused: '../../evil.py' leads",)),
    "cut-off": ("preflight", ("cut-off.tar.gz cannot be unpacked, it is not a complete gz archive",)),
    "compiled": (
        "bundle-install",
        (
            "It has sources that need the compiler 'pytest-modelops-no-such-compiler', which is not on this machine",
            "install that, or ship a wheel for Python 3.12 instead.",
            "building 'compiled' extension",
        ),
    ),
}
CAUSES = {
    "requirements-lost": "no-such-distribution",
    "packaged-undeclared": "dependencies-not-read",
    "packaged-uv-sources": "path-outside-the-bundle",
    "packaged-by-poetry": "poetry-non-package",
    "packaged-with-options": "options-in-dependencies",
    "wheels-of-another-machine": "requirement-of-another-machine",
    **dict.fromkeys(("wheels-other-python", "wheels-other-libc"), "wheel-for-another-target"),
}


@pytest.mark.parametrize("bundle", [name for name in BROKEN if name not in TWINS.values()])
def test_a_broken_twin_is_red_for_its_reason(reported: Reported, bundle: str) -> None:
    check_name, facts = BROKEN[bundle]
    within = INSTALLED if check_name == "bundle-install" else AT_ONCE
    reported.broke(bundle, check_name, within=within, cause=CAUSES.get(bundle, UNKNOWN)).says(*facts)


def test_every_format_of_the_fixtures_has_its_test() -> None:
    assert {path.name for path in FORMATS.iterdir() if path.is_dir()} == IMPORTS.keys() - {"existing_wheels"}
