"""What is read from a bundle's directory: format, requirements, modules, wire function and digest."""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.version import Version

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.bundles.formats import Format, Source, read
from pytest_modelops.errors import MalformedBundle
from tests.integration.conftest import write_wheel
from tests.unit.bundles.files import BUNDLES, PROJECT, WIRE, WIRE_GROUP, write_files

MACHINE = platform.machine()

Files = dict[str, str]
Make = Callable[[Files], Path]
ReadFiles = Callable[[Files], Source]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return lambda files: write_files(tmp_path / "bundle", files)


@pytest.fixture
def read_files(make: Make) -> ReadFiles:
    return lambda files: read(make(files))


# Malformed bundles.

SETUP = {"setup.py": ""}
MALFORMED: list[tuple[Files, str]] = [
    (
        {"data/a.csv": "", "README": "", "run-me.py": ""},
        (
            "<bundle> has no known format. Looked for: a pyproject.toml or setup.py; a requirements.txt; "
            "wheels (*.whl), at any depth; modules and packages whose names can be imported; "
            "one directory that holds any of these. Found: README, data/, run-me.py"
        ),
    ),
    ({}, "Found: an empty directory"),
    (
        {"__init__.py": "", "a.py": "from . import b", "b.py": ""},
        (
            "<bundle> is itself a package, since it has an __init__.py, and cannot be imported by its name; "
            "ship the directory that it is in"
        ),
    ),
    # Requirements that nothing reads.
    *(
        (
            {"model-1/requirements.txt": "numpy", "model-1/a.py": "", beside: ""},
            (
                "model-1/requirements.txt in <bundle> would be ignored, because other files are beside model-1; "
                "move it to the top of the bundle, or ship model-1 alone"
            ),
        )
        for beside in ("a.py", "data.csv", "other/x.csv")
    ),
    # Metadata.
    *(
        ({"pyproject.toml": text}, message)
        for text, message in [
            ("[project", "<bundle>/pyproject.toml is not valid TOML: "),
            ("project = 1", "<bundle>/pyproject.toml: project is not a table"),
            ('[project]\nversion = "1"', '[project] has no name; write one such as name = "bundle"'),
            ('[project]\nname = "x"', '[project] has no version; write one such as version = "1.0"'),
            (PROJECT + "dynamic = 3", "[project] dynamic is not a list of strings"),
            (PROJECT + "requires-python = 3.13", '3.13 is not a string; write one such as ">=3.10"'),
            (PROJECT + 'dependencies = "numpy"', "[project] dependencies is not a list of strings"),
            (PROJECT + 'dependencies = ["a b"]', "'a b' is not a requirement; write one such as numpy>=2"),
            (
                PROJECT + WIRE_GROUP + 'a = "m:f"\nb = "m:g"',
                '[project.entry-points."modelops.wire"] of <bundle>/pyproject.toml has 2 entries (a, b); keep one',
            ),
            (
                PROJECT + WIRE_GROUP + 'a = "m"',
                '\'m\' does not name a function; write "package.module:function" or "package/module.py:function"',
            ),
        ]
    ),
    ({"setup.py": "\nsetup(\n"}, "<bundle>/setup.py:2: invalid Python"),
    ({**SETUP, "setup.cfg": "no section"}, "<bundle>/setup.cfg cannot be read"),
    # Declarations of a wire function.
    ({**SETUP, ".modelops/manifest.json": "{"}, "<bundle>/.modelops/manifest.json is not valid JSON"),
    ({**SETUP, ".modelops/manifest.json": "[]"}, "manifest.json is not a JSON object"),
    ({**SETUP, ".modelops/manifest.json": '{"wire": 1}'}, "manifest.json: wire: 1 does not name a function"),
    ({**SETUP, ".modelops/manifest.json": '{"wire": "/:f"}'}, "'/:f' does not name a function"),
    ({**SETUP, ".modelops/modelops.toml": "="}, "modelops.toml is not valid TOML"),
    # Lines of a requirements.txt.
    *(
        ({"wire.py": WIRE, "requirements.txt": f"numpy\n{line}\n"}, f"requirements.txt, line 2: {message}")
        for line, message in [
            ("-c pins.txt", "'-c pins.txt' names a file that is not there"),
            ("-e .", "'.' is neither a wheel, an sdist nor a directory with a pyproject.toml or setup.py"),
            (
                "-c https://example.org/pins.txt",
                "'-c https://example.org/pins.txt' names a URL; copy that file into the",
            ),
            ("-e ../lib", "'../lib' lies outside the bundle"),
            ("--no-binary :all:", "the option --no-binary is not supported in a bundle; remove it"),
            ("--pre", "the option --pre is not supported in a bundle; name the pre-release in its requirement"),
            ("scipy==1 --hash=md5:aa", "--hash=md5:aa is not sha256:, sha384: or sha512: and hexadecimal digits"),
            ("numpy --config-settings=a=b", "the option --config-settings is not supported"),
            ("-r none.txt", "'-r none.txt' names a file that is not there"),
            ("-r ../up.txt", "'../up.txt' lies outside the bundle"),
            ("-r requirements.txt", "'-r requirements.txt' names a file that is being read already"),
            (
                "a @ file:///croot/a_1/work",
                (
                    "'file:///croot/a_1/work' names a path that is not on this machine, as `pip freeze` writes it for "
                    "a package that was built elsewhere; write its version instead, as `pip list --format=freeze` does"
                ),
            ),
            ("../lib", "'../lib' lies outside the bundle"),
            ("./lib", "'./lib': there is no such file or directory (<bundle>/lib)"),
            ("lib/none.whl", "'lib/none.whl': there is no such file or directory"),
            ("numpy >> 2", "'numpy >> 2' is not a requirement; write one such as numpy>=2"),
            ("https://${TOKEN}@example.org/x.whl", "${TOKEN} is not filled in"),
            ("./here ; python_version < '3'", "\"./here ; python_version < '3'\": a path cannot have a marker here"),
        ]
    ),
]


@pytest.mark.parametrize(("files", "message"), MALFORMED)
def test_a_malformed_bundle_is_refused_with_file_line_and_what_is_valid(make: Make, files: Files, message: str) -> None:
    directory = make(files)
    with pytest.raises(MalformedBundle) as raised:
        read(directory)
    said = str(raised.value).replace(str(directory), "<bundle>")
    assert said.startswith(message) if message.startswith("requirements.txt, line") else message in said


def test_other_files_and_nothing_are_no_bundles(tmp_path: Path) -> None:
    (tmp_path / "file.txt").touch()
    with pytest.raises(MalformedBundle, match=r"file.txt is neither a directory nor an archive \(\.zip, "):
        read(tmp_path / "file.txt")
    with pytest.raises(MalformedBundle, match="nothing does not exist; a bundle is a directory or an archive"):
        read(tmp_path / "nothing")


# Formats.


NUMPY = {"requirements.txt": "numpy>=2"}
STORIES: dict[str, tuple[Files, Format, str, list[str]]] = {
    **{
        f"a build: {name}": ({name: text, "a/b.py": "", "wire.py": WIRE}, Format.PACKAGED, f"a {name}", ["<bundle>"])
        for name, text in {"pyproject.toml": PROJECT, "setup.py": ""}.items()
    },
    "requirements": (NUMPY, Format.REQUIREMENTS, "a requirements.txt", ["numpy>=2"]),
    "requirements and loose code": (
        {**NUMPY, "wire.py": WIRE, "a.py": "", "b/__init__.py": ""},
        *(Format.REQUIREMENTS, "a requirements.txt, 2 loose modules and 1 loose package", ["numpy>=2"]),
    ),
    "pure python": (
        {"a.py": "", "b/__init__.py": "", "b/c.py": "", "d/e.py": ""},
        *(Format.PURE_PYTHON, "1 loose module and 2 loose packages", []),
    ),
    "one package": ({"a/__init__.py": ""}, Format.PURE_PYTHON, "1 loose package", []),
    "one package without an init": ({"a/b.py": ""}, Format.PURE_PYTHON, "1 loose package", []),
    "one package that is called as its directory": ({"bundle/a.py": ""}, Format.PURE_PYTHON, "1 loose package", []),
    "mixed": (
        {"pyproject.toml": PROJECT, "a.py": "", "requirements.txt": ""},
        *(Format.MIXED, "a pyproject.toml and a requirements.txt", ["<bundle>"]),
    ),
    "mixed, the package in a directory": (
        {"model/setup.py": "", "model/model/a.py": "", "requirements.txt": "", "run.py": ""},
        *(Format.MIXED, "a setup.py in model, a requirements.txt and 1 loose module", ["<bundle>/model"]),
    ),
    "requirements of a package in a directory": (
        {"model/setup.py": "", "model/requirements.txt": "numpy", "requirements.txt": "scipy", "a.py": ""},
        Format.MIXED,
        "a setup.py in model, a requirements.txt, a requirements.txt in model and 1 loose module",
        ["<bundle>/model", "scipy", "numpy"],
    ),
    "nested": (
        {"myproject-v1.0/requirements.txt": "numpy", "myproject-v1.0/a.py": ""},
        Format.NESTED,
        "a requirements.txt and 1 loose module, one directory down in myproject-v1.0",
        ["numpy"],
    ),
    "nested twice, beside descriptions": (
        {"README.md": "", "a-1/b-2/c.py": "", "a-1/LICENSE": ""},
        Format.NESTED,
        "1 loose module, 2 directories down in a-1/b-2 (beside it, and not taken: README.md, LICENSE)",
        [],
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_a_format_is_recognised_explained_and_installed(make: Make, story: str) -> None:
    files, format_, why, requirements = STORIES[story]
    directory = make(files)
    source = read(directory)
    assert (source.format, source.why, source.pythons) == (format_, f"it has {why}", ())
    assert [line.replace(str(directory), "<bundle>") for line in source.requirements] == requirements


@pytest.mark.parametrize("text", ["", "[tool.black]\nline-length = 100", "[tool.uv]\nmanaged = false"])
def test_a_configuration_of_tools_is_no_project(make: Make, text: str) -> None:
    files = {"pyproject.toml": text, "requirements.txt": "numpy", "a/b.py": "", "c/__init__.py": "", "wire.py": WIRE}
    source = read(make({**files, "libs/d/pyproject.toml": text, "libs/d/d.py": "", "setup.cfg": "[flake8]"}))
    assert (source.format, source.requirements) == (Format.REQUIREMENTS, ("numpy",))
    assert {"a.b", "c", "wire"} <= set(source.loose) == set(source.modules)


@pytest.mark.parametrize(
    "files",
    [
        {"pyproject.toml": '[build-system]\nrequires = ["setuptools"]'},
        {"pyproject.toml": '[tool.setuptools]\npackages = ["a"]'},
        {"pyproject.toml": "[tool.hatch.build]"},
        {"pyproject.toml": "[tool.black]", "setup.cfg": "[metadata]\nname = x"},
        {"pyproject.toml": "[tool.black]", "setup.py": ""},
    ],
)
def test_what_a_build_reads_makes_a_project(make: Make, files: Files) -> None:
    assert read(make({**files, "a/__init__.py": ""})).format == Format.PACKAGED


def test_every_half_of_a_bundle_is_installed_once(make: Make) -> None:
    directory = make({"requirements.txt": "numpy\n./model\n", "model/setup.py": "", "model/a.py": "", "b/c.py": ""})
    (directory / "dist").mkdir()
    wheel = write_wheel(directory / "dist" / "one-1.0-py3-none-any.whl", {"one/two.py": ""}, requires=["scipy"])
    source = read(directory)
    assert sorted(source.requirements) == sorted(["numpy", str(directory / "model"), str(wheel)])
    assert source.dependencies == ("numpy", str(directory / "model"), "one", "scipy")
    assert set(source.modules) == {"a", "b.c", "one.two"}
    assert set(source.loose) == {"b.c"}
    assert source.file_of("one.two") == wheel


@pytest.mark.parametrize(
    ("files", "places"),
    [
        ({"a/__init__.py": ""}, ("a", "tests", "docs/x")),  # data of a package, or of tests
        ({"pyproject.toml": PROJECT, "x.py": "", "dist/y": ""}, ("dist",)),  # what a project has built
    ],
)
def test_a_wheel_that_is_data_or_a_build_result_is_not_installed(
    make: Make, files: Files, places: tuple[str, ...]
) -> None:
    directory = make(files)
    for place in places:
        (directory / place).mkdir(parents=True, exist_ok=True)
        write_wheel(directory / place / "x-1-py3-none-any.whl", {"x.py": ""})
    assert read(directory).wheels == ()


def test_two_versions_of_a_wheel_are_refused(make: Make) -> None:
    directory = make({})
    for version in ("1.0", "2.0"):
        write_wheel(directory / f"one-{version}-py3-none-any.whl", {})
    with pytest.raises(MalformedBundle, match="are two versions of one; keep one"):
        read(directory)


def test_of_wheels_for_several_pythons_the_workers_get_theirs(make: Make) -> None:
    directory = make({})
    for tag in ("cp311-cp311", "cp312-cp312", "cp313-cp313"):
        module = "one/of_311.py" if tag == "cp311-cp311" else "one/of_others.py"
        write_wheel(directory / f"one-1.0-{tag}-linux_{MACHINE}.whl", {"one/__init__.py": "", module: ""})
    source = read(directory)
    assert list(source.modules) == ["one"]
    for minor in (11, 12, 13):
        [requirement] = source.requirements_for(Version(f"3.{minor}.1"))
        assert requirement.endswith(f"one-1.0-cp3{minor}-cp3{minor}-linux_{MACHINE}.whl")
    assert len(source.requirements_for(Version("3.14.0"))) == 1  # for preflight or an installer to refuse


def test_modules_of_a_wheel_are_those_that_it_installs(make: Make) -> None:
    directory = make({})
    names = ["a/__init__.py", "a/b.py", "a/fast.cpython-312-x86_64-linux-gnu.so", "c.py", "a/data.csv", "a/x.pyi"]
    names += ["one-1.0.data/purelib/d/e.py", "one-1.0.data/scripts/run.py", "one.libs/libfast.so"]
    write_wheel(directory / "one-1.0-py3-none-any.whl", dict.fromkeys(names, ""))
    assert sorted(read(directory).modules) == ["a", "a.b", "a.fast", "c", "d.e"]


def test_the_wire_function_may_come_in_a_wheel(make: Make) -> None:
    directory = make({})
    files = {"a/b.py": WIRE, "one-1.0.dist-info/entry_points.txt": "[modelops.wire]\nrun = a.b:wire\n"}
    write_wheel(directory / "one-1.0-py3-none-any.whl", files)
    assert wire_of(read(directory)) == ("a.b", "wire")
    make({"pyproject.toml": PROJECT + WIRE_GROUP + 'run = "x:f"', "x.py": ""})
    with pytest.raises(MalformedBundle, match="have 2 entries"):
        read(directory)


METADATA = {"one-1.0.dist-info/METADATA": "Name: one\nVersion: 1.0"}


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("one.whl", {}, "does not have a wheel's name; write one such as model-1.0-py3-none-any.whl"),
        ("two-1.0-py3-none-any.whl", METADATA, "says that it is one 1.0"),
        ("one-2.0-py3-none-any.whl", METADATA, "says that it is one 1.0"),
        ("one-1.0-py3-none-any.whl", {"one.py": ""}, "it needs one .dist-info/METADATA, and has none"),
    ],
)
def test_a_file_that_is_no_wheel_is_refused(make: Make, name: str, files: Files, message: str) -> None:
    directory = make({})
    with zipfile.ZipFile(directory / name, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    with pytest.raises(MalformedBundle, match=re.escape(message)):
        read(directory)


def test_reading_writes_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "seir"
    shutil.copytree(BUNDLES / "seir", directory)
    for path in sorted(directory.rglob("*"), reverse=True):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in [directory, *directory.rglob("*")]}
    assert len(read(directory).digest) == 64
    assert {path: path.stat().st_mtime_ns for path in [directory, *directory.rglob("*")]} == before
    for path in directory.rglob("*"):
        path.chmod(0o755)


def test_every_story_has_a_directory_and_a_line() -> None:
    reported = re.findall(r"^\| `([\w-]+)` \|", (BUNDLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(reported) == sorted(path.name for path in BUNDLES.iterdir() if path.is_dir())


def test_a_bundle_can_be_a_key() -> None:
    bundle = Bundle(name="seir", path=BUNDLES / "seir", params={"beta": 0.3})
    assert {bundle: 1}[Bundle(name="seir", path=BUNDLES / "seir", params={"beta": 0.3})] == 1
    assert bundle != Bundle(name="seir", path=BUNDLES / "seir")


# requires-python.


POETRY = "[tool.poetry.dependencies]\npython = "
CFG = {"setup.cfg": "[options]\npython_requires = >=3.9"}
DYNAMIC = 'dynamic = ["requires-python"]'


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"pyproject.toml": PROJECT + 'requires-python = ">=3.13"'}, (">=3.13", "requires-python")),
        ({"pyproject.toml": PROJECT + 'requires-python = "soon"'}, ("soon", "requires-python")),
        ({"setup.py": "", **CFG}, (">=3.9", "python_requires")),
        ({"setup.py": "from setuptools import setup\nsetup(python_requires='>=3.8')"}, (">=3.8", "python_requires")),
        ({"pyproject.toml": "", **CFG}, (">=3.9", "python_requires")),
        ({"pyproject.toml": PROJECT + DYNAMIC, **CFG}, (">=3.9", "python_requires")),
        ({"pyproject.toml": POETRY + '"^3.11"'}, (">=3.11,<4", "python")),
        ({"pyproject.toml": POETRY + '"~3.11.2"'}, (">=3.11.2,<3.12", "python")),
        ({"pyproject.toml": POETRY + '">=3.9,<4"'}, (">=3.9,<4", "python")),
        ({"pyproject.toml": POETRY + '"3.11.*"'}, ("==3.11.*", "python")),
        ({"pyproject.toml": POETRY + '"*"'}, ("", "python")),
        # What no backend reads, or only a build can tell.
        ({"pyproject.toml": PROJECT, **CFG}, None),
        ({"setup.py": "from setuptools import setup\nsetup(python_requires=VERSION)"}, None),
        ({"pyproject.toml": POETRY + '"^2.7 || ^3.6"'}, None),
    ],
)
def test_requires_python_is_read_where_a_backend_reads_it(
    read_files: ReadFiles, files: Files, expected: tuple[str, str] | None
) -> None:
    pythons = read_files(files).pythons
    assert [(python.text, python.key) for python in pythons] == ([expected] if expected else [])
    assert all(python.file.is_file() for python in pythons)


# requirements.txt.


def test_comments_continuations_and_hashes_are_not_requirements(read_files: ReadFiles) -> None:
    text = (
        "# pinned\n\nnumpy==2.1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:BB\n"
        "pandas ; python_version < '3.12'\n"
        "x @ https://example.org/x.whl#egg=x --hash sha256:cc\nnumpy==2.1.0 --hash=sha256:aa\n"
    )
    source = read_files({"wire.py": WIRE, "requirements.txt": text})
    lines = ("numpy==2.1.0", "pandas ; python_version < '3.12'", "x @ https://example.org/x.whl#egg=x")
    assert source.requirements == lines
    assert source.requirements_for(Version("3.12.1")) == (
        f"{lines[0]} --hash=sha256:aa",  # what both lines allow
        lines[1],
        f"{lines[2]} --hash=sha256:cc",
        "--require-hashes",
    )
    bare = "scipy>=1.10,\\\n<2  # not 2\nnumpy==2.1.0 \\\n\nnumpy==2.1.0\n"
    assert read_files({"requirements.txt": bare}).requirements_for(Version("3.12.1")) == ("scipy>=1.10,<2", lines[0])


def test_one_hash_asks_for_all_of_them_and_every_line_without_is_named(make: Make) -> None:
    lines = ["numpy==2.1.0 --hash=sha256:aa", "scipy==1.10", "pandas>=2 --hash=sha256:bb", "x ; python_version < '3'"]
    text = "\n".join([*lines, "./lib"])
    directory = make({"wire.py": WIRE, "requirements.txt": text, "lib/setup.py": ""})
    with pytest.raises(MalformedBundle) as raised:
        read(directory)
    mode = "hashes are required, since a line of the requirements has one, and"
    scipy, pandas, lib = str(raised.value).splitlines()
    assert scipy.startswith(f"requirements.txt, line 2: {mode} 'scipy==1.10' has none")
    assert pandas.startswith(f"requirements.txt, line 3: {mode} 'pandas>=2' is not pinned with ==")
    assert lib.startswith(f"requirements.txt, line 5: {mode} a directory has none ({directory}/lib)")


def test_a_wheel_in_the_bundle_is_compared_with_its_hash(make: Make) -> None:
    directory = make({"wire.py": WIRE})
    wheel = write_wheel(directory / "a-1-py3-none-any.whl", {})
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    make({"requirements.txt": f"./{wheel.name} --hash=sha256:{digest}"})
    assert read(directory).requirements_for(Version("3.12.1")) == (str(wheel), "--require-hashes")
    make({"requirements.txt": f"./{wheel.name} --hash=sha256:00"})
    with pytest.raises(MalformedBundle, match=rf"does not match its hash: expected sha256:00, got sha256:{digest}"):
        read(directory)


@pytest.mark.parametrize(
    "line", ["./a-1-py3-none-any.whl", "./a-1-py3-none-any.whl[x]", "a[x] @ ./a-1-py3-none-any.whl"]
)
def test_however_a_file_of_the_bundle_is_named_its_hash_is_compared(make: Make, line: str) -> None:
    directory = make({"requirements.txt": f"{line} --hash=sha256:00"})
    write_wheel(directory / "a-1-py3-none-any.whl", {})
    with pytest.raises(MalformedBundle, match=r"does not match its hash: expected sha256:00, got sha256:"):
        read(directory)
    make({"requirements.txt": f"{line}\nnumpy==1 --hash=sha256:00"})
    with pytest.raises(MalformedBundle, match=r"line 1: hashes are required.* a-1-py3-none-any.whl has none"):
        read(directory)


def test_constraints_of_the_bundle_count_and_install_nothing(read_files: ReadFiles) -> None:
    files = {"deep/pins.txt": "numpy<2\n-c more.txt\n", "deep/more.txt": "-r last.txt", "deep/last.txt": "scipy==1"}
    source = read_files({"wire.py": WIRE, "requirements.txt": "-c deep/pins.txt\nnumpy\n", **files})
    assert source.requirements == source.dependencies == ("numpy",)
    assert source.requirements_for(Version("3.12.1")) == ("numpy", "--constraint=numpy<2", "--constraint=scipy==1")


def test_an_editable_bundle_is_the_bundle(make: Make) -> None:
    directory = make({"pyproject.toml": PROJECT, "x.py": "", "requirements.txt": "-e .[fast]\nnumpy\n"})
    assert read(directory).requirements == (f"{directory}[fast]", "numpy")


HOSTS = ("https://pypi.org/simple", "https://Packages.example.org/simple/", "/opt/wheels")


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://pypi.org/simple/",
        "-i https://pypi.org/simple",
        "--extra-index-url=https://me:s3cret@packages.example.org/simple",
        "--find-links /opt/wheels/",
        "-f file:///opt/wheels",
        "--trusted-host packages.example.org",
    ],
)
def test_an_index_of_the_host_may_be_named(make: Make, line: str) -> None:
    directory = make({"wire.py": WIRE, "requirements.txt": f"{line}\nnumpy\n"})
    assert read(directory, indexes=HOSTS).requirements == ("numpy",)


def test_all_that_is_refused_is_said_at_once(make: Make) -> None:
    text = (
        "numpy\n--index-url https://me:s3cret@example.org/simple\n--no-index\n-f ./wheels\n-r more.txt\n"
        "../lib\n--trusted-host example.org\n"
    )
    directory = make({"wire.py": WIRE, "requirements.txt": text, "more.txt": "\n--pre\na >> 1"})
    with pytest.raises(MalformedBundle) as raised:
        read(directory, indexes=HOSTS)
    lines = str(raised.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        *("requirements.txt, line 2", "requirements.txt, line 3", "requirements.txt, line 4"),
        *("more.txt, line 2", "more.txt, line 3", "requirements.txt, line 6", "requirements.txt, line 7"),
    ]
    assert "the option --index-url https://****@example.org/simple is not supported in a bundle" in lines[0]
    assert "where packages come from is the host's configuration" in lines[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252"])
def test_marks_of_an_encoding_are_no_part_of_the_first_requirement(make: Make, encoding: str) -> None:
    directory = make({"wire.py": WIRE})
    coding = "" if encoding.startswith("utf") else f"# by André -*- coding: {encoding} -*-\r\n"
    (directory / "requirements.txt").write_bytes(f"{coding}numpy\r\nscipy\r\n".encode(encoding))
    assert read(directory).requirements == ("numpy", "scipy")


def test_wheels_of_the_bundle_may_have_markers_and_be_named_as_a_place(make: Make) -> None:
    requirements = "--find-links=./wheels\n./wheels/a-1-py3-none-any.whl ; python_version >= '3.9'\nb\n"
    directory = make({"wire.py": WIRE, "requirements.txt": requirements, "wheels/README": ""})
    wheel = write_wheel(directory / "wheels/a-1-py3-none-any.whl", {"a.py": ""})
    assert read(directory).required.lines == (f'a @ {wheel.resolve().as_uri()} ; python_version >= "3.9"', "b")
    (directory / "requirements.txt").write_text("-f ../wheels\n./wheels/a-1-py3-none-any.whl ; python >= 3\n")
    with pytest.raises(MalformedBundle) as raised:
        read(directory, indexes=())
    first, second = str(raised.value).splitlines()
    assert "line 1: the option --find-links ../wheels is not supported" in first
    assert "line 2: './wheels/a-1-py3-none-any.whl ; python >= 3'" in second


def test_an_encoding_that_is_none_is_named(make: Make) -> None:
    with pytest.raises(MalformedBundle, match="'latin-nine', which is no encoding"):
        read(make({"wire.py": WIRE, "requirements.txt": "# coding: latin-nine\nnumpy\n"}))


def test_a_path_in_another_file_is_relative_to_that_or_to_the_bundle(read_files: ReadFiles) -> None:
    """Pip, which is called in the bundle, takes it from there."""
    files = {"wire.py": WIRE, "requirements.txt": "-r deps/base.txt\n", "deps/base.txt": "./libs/a\n./b\n"}
    found = read_files({**files, "libs/a/setup.py": "", "deps/b/setup.py": ""})
    assert [Path(line).relative_to(found.path).as_posix() for line in found.requirements] == ["libs/a", "deps/b"]


@pytest.mark.parametrize(
    "option", ["-r other.txt", "-rother.txt", "--requirement other.txt", "--requirement=other.txt"]
)
def test_other_files_are_followed(read_files: ReadFiles, option: str) -> None:
    files = {"other.txt": "scipy\n-r deep/last.txt", "deep/last.txt": "dask\n./lib", "deep/lib/setup.py": ""}
    *names, path = read_files({"wire.py": WIRE, "requirements.txt": f"numpy\n{option}\n", **files}).requirements
    assert names == ["numpy", "scipy", "dask"]
    assert path.endswith("/bundle/deep/lib")


@pytest.mark.parametrize(
    ("line", "end"),
    [
        ("./lib", "/lib"),
        ("lib/", "/lib"),
        ("./lib[extra]", "/lib[extra]"),
        ("file:lib", "/lib"),
        ("a-1-py3-none-any.whl", "/a-1-py3-none-any.whl"),
        ("-e ./lib", "/lib"),
        ("--editable=lib[extra]", "/lib[extra]"),
    ],
)
def test_paths_become_absolute(make: Make, line: str, end: str) -> None:
    files = {"lib/pyproject.toml": PROJECT, "lib/a.py": ""}
    directory = make({"wire.py": WIRE, "requirements.txt": line, **files})
    write_wheel(directory / "a-1-py3-none-any.whl", {})
    source = read(directory)
    expected = {f"{directory}{end}", f"{directory}/a-1-py3-none-any.whl"}
    assert set(source.requirements) == expected | ({f"{directory}/lib"} if "lib" not in end else set())


def test_a_named_path_becomes_a_url(read_files: ReadFiles) -> None:
    source = read_files({"wire.py": WIRE, "requirements.txt": "lib[a] @ ./lib", "lib/setup.py": ""})
    [requirement] = map(Requirement, source.requirements)
    assert (requirement.name, requirement.extras) == ("lib", {"a"})
    assert requirement.url == (source.path / "lib").as_uri()


# Modules.


def modules_of(source: Source) -> Files:
    return {name: file.relative_to(source.path).as_posix() for name, file in source.modules.items()}


def test_what_lies_under_src_is_of_a_src_layout_and_the_rest_is_loose(read_files: ReadFiles) -> None:
    fast, faster = "fast.cpython-312-x86_64-linux-gnu.so", "faster.abi3.so"
    names = ["a/__init__.py", "a/b.py", "space/c.py", fast, faster, "data/table.csv", "a/not-a-module.py"]
    files = {f"src/{name}": "" for name in [*names, "a/tests/test_b.py"]}
    source = read_files({"pyproject.toml": PROJECT, **files, "tasks.py": ""})
    assert modules_of(source) == {
        "a": "src/a/__init__.py",
        "a.b": "src/a/b.py",
        "space.c": "src/space/c.py",
        "fast": f"src/{fast}",
        "faster": f"src/{faster}",
        "tasks": "tasks.py",
    }
    assert list(source.loose) == ["tasks"]


def test_a_flat_layout_has_what_lies_in_the_directory_without_what_is_made_or_for_development(
    read_files: ReadFiles,
) -> None:
    left_out = ["tests/t.py", "docs/conf.py", "build/lib/a.py", "dist/a.py", ".venv/lib/z.py", "env/lib/z.py"]
    left_out += [".hidden/h.py", "a.egg-info/e.py", "a/__pycache__/c.py", "a/tests/t.py"]
    left_out += ["setup.py", "noxfile.py", "conftest.py", "a/conftest.py"]
    files = dict.fromkeys([*left_out, "a/__init__.py", "b.py", "env/pyvenv.cfg", "src/__init__.py", "src/m.py"], "")
    assert list(modules_of(read_files(files))) == ["b", "a", "src", "src.m"]


def test_a_package_of_the_users_may_be_called_build(read_files: ReadFiles) -> None:
    assert "build.a" in read_files({"setup.py": "", "build/__init__.py": "", "build/a.py": ""}).modules


@pytest.mark.parametrize(
    "reported",
    [
        {"pyproject.toml": '[tool.setuptools.package-dir]\n"" = "lib"'},
        {"pyproject.toml": '[tool.setuptools.packages.find]\nwhere = ["lib"]'},
        {"pyproject.toml": '[tool.hatch.build.targets.wheel]\npackages = ["lib/a"]'},
        {"pyproject.toml": '[[tool.poetry.packages]]\ninclude = "a"\nfrom = "lib"'},
        {"pyproject.toml": '[tool.maturin]\npython-source = "lib"'},
        {"pyproject.toml": '[tool.pdm.build]\npackage-dir = "lib"'},
        {"pyproject.toml": '[tool.uv.build-backend]\nmodule-root = "lib"'},
        {"setup.py": "", "setup.cfg": "[options]\npackage_dir =\n    = lib"},
        {"setup.py": "import setuptools\nsetuptools.setup(package_dir={'': 'lib'})"},
    ],
)
def test_the_directory_of_modules_is_the_one_that_a_backend_is_reported(read_files: ReadFiles, reported: Files) -> None:
    source = read_files({**reported, "lib/a/__init__.py": "", "other.py": ""})
    assert modules_of(source) == {"a": "lib/a/__init__.py", "other": "other.py"}
    assert list(source.loose) == ["other"]


def test_directories_outside_and_impossible_ones_are_not_followed(read_files: ReadFiles) -> None:
    for where in ("../..", "/", "\\u0000", "none"):
        toml = f'[tool.setuptools.packages.find]\nwhere = ["{where}"]'
        assert list(read_files({"pyproject.toml": toml, "a.py": ""}).modules) == ["a"]


def test_a_link_in_a_circle_is_entered_once(make: Make) -> None:
    directory = make({"setup.py": "", "a/b.py": ""})
    (directory / "a" / "up").symlink_to(directory)
    assert list(read(directory).modules) == ["a.b"]


# The wire function.


def wire_of(source: Source) -> tuple[str, str] | None:
    return (source.wire.module, source.wire.function) if source.wire else None


PLACES = {
    "pyproject.toml": PROJECT + WIRE_GROUP + 'run = "one.a:f"',
    ".modelops/manifest.json": '{"wire": "two/a.py:f"}',
    ".modelops/modelops.toml": '[modelops]\nwire = "three.a:f"',
    "wire.py": WIRE,
}


@pytest.mark.parametrize(
    ("count", "expected"), [(0, ("one.a", "f")), (1, ("two.a", "f")), (2, ("three.a", "f")), (3, ("wire", "wire"))]
)
def test_the_first_place_that_declares_a_wire_function_decides(
    read_files: ReadFiles, count: int, expected: tuple[str, str]
) -> None:
    files = dict(list(PLACES.items())[count:])
    source = read_files({"setup.py": "", **files})
    assert wire_of(source) == expected
    assert source.wire
    assert next(iter(files)) in source.wire.where


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        *(
            ({"setup.py": "", "src/pkg/mod.py": "", ".modelops/manifest.json": f'{{"wire": "{text}"}}'}, expected)
            for text, expected in [
                ("pkg/mod.py:f", ("pkg.mod", "f")),
                ("src/pkg/mod.py:f", ("pkg.mod", "f")),
                ("pkg/__init__.py:f", ("pkg", "f")),
                ("pkg.mod : obj.f", ("pkg.mod", "obj.f")),
                ("mod.py:f", ("mod", "f")),
            ]
        ),
        ({"setup.py": "setup(entry_points={'modelops.wire': ['run = a.b:f']})"}, ("a.b", "f")),
        ({"setup.py": "", "setup.cfg": "[options.entry_points]\nmodelops.wire =\n    run = a.b:f"}, ("a.b", "f")),
        ({"pyproject.toml": '[tool.poetry.plugins."modelops.wire"]\nrun = "a.b:f"'}, ("a.b", "f")),
        ({"setup.py": "", ".modelops/manifest.json": "{}", ".modelops/modelops.toml": ""}, None),
    ],
)
def test_a_wire_function_may_be_named_by_file_or_by_module_in_older_files_or_not_at_all(
    read_files: ReadFiles, files: Files, expected: tuple[str, str] | None
) -> None:
    assert wire_of(read_files(files)) == expected


# The digest.


def test_the_digest_tells_what_an_installer_reads_and_nothing_else(make: Make) -> None:
    directory = make({"setup.py": "", "a/b.py": "x = 1", "data.csv": "1"})
    first = read(directory).digest
    make({"a/__pycache__/b.pyc": "1", ".git/HEAD": "1", "build/lib/a.py": "1", "a.egg-info/x": "1", "old.pyc": "1"})
    (directory / "a/b.py").chmod(0o755)
    os.utime(directory / "a/b.py", (1, 1))
    assert read(directory).digest == first
    digests = {first}
    for files in ({"data.csv": "2"}, {"a/b.py": "x = 2"}, {"empty": ""}, {".modelops/manifest.json": "{}"}):
        digests.add(read(make(files)).digest)
    (directory / "data.csv").rename(directory / "data2.csv")
    digests.add(read(directory).digest)
    assert len(digests) == 6


def test_the_digest_is_the_same_wherever_the_directory_lies_and_in_whichever_order_it_was_written(
    tmp_path: Path,
) -> None:
    names = ["setup.py", "a/b.py", "a.py", "a-b.py", "B.py"]
    orders = {"one": names, "two": names[::-1]}
    digests = {read(write_files(tmp_path / place, {n: n for n in order})).digest for place, order in orders.items()}
    # Written down, because another digest makes every worker install again.
    assert digests == {"77f7dee658a743273a5aeebbd036a7dc5a368e67c52a7edb7415e77ca43c1fff"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_named_and_not_left_out(make: Make) -> None:
    directory = make({"setup.py": "", "secret": "", "closed/a.csv": ""})
    (directory / "secret").chmod(0)
    source = read(directory)
    with pytest.raises(MalformedBundle, match="secret cannot be read: Permission denied"):
        _ = source.digest
    (directory / "closed").chmod(0)
    with pytest.raises(MalformedBundle, match=r"closed.* cannot be read: Permission denied"):
        read(directory)
    (directory / "closed").chmod(0o755)
    directory.chmod(0)
    with pytest.raises(MalformedBundle, match=r"bundle.* cannot be read: Permission denied"):
        read(directory)
    directory.chmod(0o755)


# Garbage.

PYPROJECT = """[project]
name = "x"
version = "1"
dynamic = 3
entry-points = 1
[project.entry-points."modelops.wire"]
a = 1
a = ":"
[tool]
poetry = 1
[tool.poetry.dependencies]
python = 1
python = "^x"
[tool.setuptools]
packages = ["a"]
""".splitlines(keepends=True)
OTHERS = "setup(|a=b)|[options]|-r |-|--hash|./|file:|x @ |x @ file://[|[x]|;|$|~root|\0|https://[|{|}|]|wire|:|\\|\n"
GARBAGE = st.one_of(
    st.text(max_size=60),
    st.tuples(*[st.booleans()] * len(PYPROJECT)).map(lambda chosen: "".join(itertools.compress(PYPROJECT, chosen))),
    st.lists(st.sampled_from(OTHERS.split("|")), max_size=6).map("".join),
)


@given(
    name=st.sampled_from(["pyproject.toml", "setup.cfg", "setup.py", "requirements.txt", ".modelops/manifest.json"]),
    content=GARBAGE,
)
def test_garbage_is_a_malformed_bundle_or_none(name: str, content: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        (directory / ".modelops").mkdir()
        for file, text in {"wire.py": WIRE, "requirements.txt": "", "setup.py": "", name: content}.items():
            if file != "setup.py" or name != "requirements.txt":
                (directory / file).write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            read(directory)
        except MalformedBundle as error:
            assert str(error)  # noqa: PT017 - every other error is a failure
