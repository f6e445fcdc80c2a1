"""What editors and readers see of the settings is what the declarations say, and is what is read."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from pytest_modelops.__main__ import main
from pytest_modelops.config.reference import renewed, schema
from pytest_modelops.storage.toml import tomllib
from tests.unit.config.conftest import Read

ROOT = Path(__file__).parents[3]
EVERY_TABLE = """
workers = 3
report = ["a.json"]
keep = "failed"
bundles = ["seir", { path = "seir2", params = { beta = 0.3 }, target = "a:b", aggregation = { params = 2 } }]
[matrix]
python = "3.12"
dask = ["2024.8.0", ">=2024.8,<2025"]
exclude = [{ python = "3.13" }]
include = [{ python = "3.12", dask = "latest", worker = { python = "3.13" } }]
[environment]
requirements = ["numpy>=2"]
as-of = "2024-11-01"
env = { A = "1" }
worker-args = ["--resources", "a=1"]
[aggregation]
failed-when = "error"
[deadlines]
start = 0.5
mine = 3
[runner]
command = ["{python}"]
fresh-env = { A = "1" }
[worker-plugin]
class = "a:B"
expect = { a.b = 1 }
processes = { cold = "a:b" }
[docker]
image = { worker = "python:3.12" }
memory = "1.5 GiB"
cpus = 0.5
"""


def validate(toml: str) -> None:
    jsonschema.validate(tomllib.loads(toml), schema(), cls=jsonschema.Draft202012Validator)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


def test_the_schema_admits_what_is_valid() -> None:
    validate(EVERY_TABLE)
    own = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["modelops"]
    jsonschema.validate(own, schema())


@pytest.mark.parametrize(
    "toml",
    [
        "worker = 1",
        "workers = 0",
        "backend = 'podman'",
        "nanny = 1",
        "bundles = 'seir'",
        "bundles = [{ seed = 1 }]",
        "bundles = [{ path = 'a', sed = 1 }]",
        "bundles = [{ path = 'a', install = 'both' }]",
        "matrix.python = []",
        "matrix.python = 3.12",
        "matrix.exclude = ['3.12']",
        "matrix.include = [{ python = '3.12' }]",
        "matrix.include = [{ python = '3.12', dask = 'latest', worker = { os = 'x' } }]",
        "environment.env = { A = 1 }",
        "deadlines.start = 0",
        "aggregation.failed-when = ['outputs.errors']",
        "runner.protocol = 'cold'",
        "worker-plugin = { probe = 'a' }",
        "worker-plugin = { class = 'a:B', processes = { cool = 'a:b' } }",
        "docker.image = { wroker = 'x' }",
        "docker.pids = true",
    ],
)
def test_the_schema_refuses_what_is_wrong_input(toml: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate(toml)


def test_its_defaults_are_the_defaults(read: Read) -> None:
    """Written down, each default means what it means where nothing is written."""
    found = schema()["properties"]
    assert isinstance(found, dict)
    scalars = {key: one["default"] for key, one in found.items() if "default" in one}
    assert scalars.keys() >= {"backend", "workers", "threads", "nanny", "keep", "fresh"}
    tables = {key: one.get("properties", {}) for key, one in found.items() if key != "worker-plugin"}
    lines = [f"{key} = {json.dumps(value)}" for key, value in scalars.items()]
    for key, properties in tables.items():
        lines += [f"{key}.{one} = {json.dumps(p['default'])}" for one, p in properties.items() if "default" in p]
    assert len(lines) > 20
    written, nothing = read("[tool.modelops]\n" + "\n".join(lines)), read()
    assert written.runner == nothing.runner
    assert written.aggregation == nothing.aggregation
    assert written.environment == nothing.environment
    assert written.containers.variants == nothing.containers.variants == {}
    for name in ("backend", "workers", "threads", "nanny", "keep", "fresh", "reports", "bundles", "cache"):
        assert getattr(written, name) == getattr(nothing, name)


def test_it_is_printed_for_editors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


def test_the_documentation_has_the_tables_of_the_declarations() -> None:
    text = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    assert renewed(text) == text, "run: python -m pytest_modelops.config.reference docs/reference.md"
    for heading in ("flags", "modelops", "matrix", "environment", "bundles", "runner", "worker-plugin", "docker"):
        assert f"<!-- settings: {heading} -->" in text
