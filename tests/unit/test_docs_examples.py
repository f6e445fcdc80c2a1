"""The examples of the README and the docs are right: settings are read, commands are parsed, names exist."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_modelops import __main__ as program
from pytest_modelops.backends import registry
from pytest_modelops.config.options import OPTIONS, load
from pytest_modelops.storage.toml import tomllib

ROOT = Path(__file__).parents[2]
FILES = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/reference.md",
    "docs/bundles.md",
    "docs/containers.md",
    "docs/cascade.md",
    "docs/ci.md",
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ALTERNATIVE = re.compile(r"^# (?=[\w-]+ = )")
"""A setting that may stand instead of the line above it."""
OUTPUT = {"text", ""}
RUN_ELSEWHERE = {"python", "yaml", "sh"}
"""By tests/plugin/test_docs_examples.py, on a cell, and by tests/plugin/test_ci_recipes.py."""
FLAG = re.compile(r"--modelops-[a-z-]*[a-z]")
VARIABLE = re.compile(r"\bPYTEST_MODELOPS_[A-Z_]+\b")
INLINE = re.compile(r"`([^`\n]+)`")
RUNS_PYTEST = re.compile(r"(\S*/)?pytest |python -m pytest_modelops ")
NOT_OURS = ("python3 -m venv ", "pip install ", "ruff ", "mypy")


@dataclasses.dataclass(frozen=True)
class Example:
    """A block, or a part of one line.

    Attributes:
        place: file and line.
        language: of a block; empty for what stands in a line.
    """

    place: str
    language: str
    text: str


def blocks() -> Iterator[Example]:
    for name in FILES:
        text = (ROOT / name).read_text(encoding="utf-8")
        for found in BLOCK.finditer(text):
            yield Example(f"{name}:{text.count(chr(10), 0, found.start()) + 1}", *found.groups())


def tomls() -> Iterator[Example]:
    """The blocks of settings, and each again with every alternative in a comment."""
    for block in BLOCKS:
        if block.language != "toml":
            continue
        yield block
        lines = block.text.splitlines()
        instead = -1
        for number, line in enumerate(lines):
            if not ALTERNATIVE.match(line):
                instead = number
                continue
            other = [*lines[:instead], ALTERNATIVE.sub("", line), *lines[instead + 1 :]]
            yield dataclasses.replace(block, place=f"{block.place}+{number + 1}", text="\n".join(other))


def commands() -> Iterator[Example]:
    """The commands of blocks and lines."""
    for block in BLOCKS:
        if block.language == "console":
            for line in block.text.splitlines():
                for command in line.partition(" #")[0].split(" && "):
                    yield Example(block.place, "console", command.strip())
    for name in FILES:
        text = BLOCK.sub("", (ROOT / name).read_text(encoding="utf-8"))
        for found in INLINE.finditer(text):
            if RUNS_PYTEST.match(found[1]):
                yield Example(name, "", found[1])


BLOCKS = list(blocks())
TOMLS = list(tomls())
COMMANDS = list(dict.fromkeys(commands()))


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the files that the examples name."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    for name, target in {"bundles/seir": ROOT / "fixtures/bundles/seir", "tests": ROOT / "tests"}.items():
        (pytester.path / name).parent.mkdir(exist_ok=True)
        (pytester.path / name).symlink_to(target)
    for name in ("libs/contracts", "workers"):
        project = pytester.path / name / "pyproject.toml"
        project.parent.mkdir(parents=True)
        project.write_text('[project]\nname = "it"\nversion = "1"\n', encoding="utf-8")
    (pytester.path / "constraints.txt").write_text("", encoding="utf-8")
    return pytester.path


def test_there_is_nothing_that_no_test_looks_at() -> None:
    known = OUTPUT | RUN_ELSEWHERE | {"toml", "console", "json"}
    assert {block.place: block.language for block in BLOCKS if block.language not in known} == {}
    assert len(TOMLS) >= 7
    assert len(COMMANDS) >= 12


@pytest.mark.parametrize("example", TOMLS, ids=lambda example: example.place)
def test_settings_are_valid(example: Example, project: Path, pytester: pytest.Pytester) -> None:
    (project / "pyproject.toml").write_text(example.text, encoding="utf-8")
    settings = load(pytester.parseconfig())
    assert settings.file.path == project / "pyproject.toml"
    for bundle in settings.bundles:
        assert bundle.path.is_dir()


@pytest.mark.parametrize("example", COMMANDS, ids=lambda example: f"{example.place}: {example.text}")
def test_commands_are_understood(
    example: Example, project: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = example.text
    if "-m pytest_modelops " in command:
        nothing = SimpleNamespace(things=[], left=[])
        monkeypatch.setattr(registry, "prune_engine", lambda **_: nothing)
        for needs_reports in ("_merge", "_lock", "_bisect"):
            monkeypatch.setattr(program, needs_reports, lambda _: 0)
        assert program.main(shlex.split(command.partition("-m pytest_modelops ")[2])) == 0
    elif found := re.match(r"\S*pytest( .*)?$", command):
        (project / "pyproject.toml").write_text(TOMLS[0].text, encoding="utf-8")
        load(pytester.parseconfig(*shlex.split(found[1] or "")))
    else:
        assert command.replace(".venv/bin/", "").startswith(NOT_OURS)
        extras = re.findall(r"\[([a-z,]+)\]", command)
        declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
        assert set(",".join(extras).split(",")) - {""} <= declared.keys()


@pytest.mark.parametrize("name", FILES)
def test_flags_and_variables_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert set(FLAG.findall(text)) <= {option.flag for option in OPTIONS} | {"--modelops-plan"}
    assert set(VARIABLE.findall(text)) <= {option.variable_name for option in OPTIONS if option.variable}
    # pytest takes a word of its own for a path of tests. One sentence says so.
    paths = "|".join(option.flag for option in OPTIONS if option.path)
    said = text.replace("in `--modelops-report out.json`, pytest takes", "")
    assert re.findall(rf"(?:{paths}) (?:[\w/]*[./][\w./]+|PATH)", said) == []
