"""Bundles as ModelOps and Calabaria have them: a framework that they depend on brings the wire function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.conftest import AT_ONCE, INSTALLED, Check

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.conftest import Matrix, Run, WriteWheel

FRAMEWORK = """
import importlib
import json
from pathlib import Path

REGISTRY = Path(".modelops-bundle/registry.json")


class Model:
    def __init__(self):
        self.config = dict(self.CONFIG)


def wire(entrypoint, params, seed):
    path, _, scenario = entrypoint.partition("/")
    if scenario == "registered" and not REGISTRY.exists():
        return {"table": b"", "metadata": json.dumps({"error": f"no registry at {REGISTRY}"}).encode()}
    module, _, name = path.rpartition(".")
    rows = getattr(importlib.import_module(module), name)().simulate(seed=seed, **params)
    return {"table": json.dumps(rows).encode(), "metadata": json.dumps({"scenario": scenario}).encode()}


def target(**metadata):
    def decorate(function):
        def wrapper():
            return function(metadata["data"])

        return wrapper

    return decorate
"""
MODEL = """
import framework


class Sir(framework.Model):
    CONFIG = {"days": 3}

    def simulate(self, seed, beta=2):
        return [[day, beta * day + seed % 2] for day in range(self.config["days"])]
"""
TARGET = """
import base64
import json
from pathlib import Path

import framework


class Loss:
    def __init__(self, observed):
        self.observed = observed

    def evaluate(self, sim_returns):
        tables = [json.loads(base64.b64decode(one["outputs"]["table"]["inline"])) for one in sim_returns]
        return {"loss": sum((table[-1][1] - self.observed) ** 2 for table in tables) / len(tables)}


@framework.target(model_output="incidence", data={"observed": "data/observed.csv"})
def incidence(data_paths):
    return Loss(float(Path(data_paths["observed"]).read_text().split()[-1]))
"""
CONFIGURATION = r"""
[tool.modelops]
workers = 1
start = "fork-workers"
bundles = [
    { path = "sir", entrypoint = "models.sir.Sir/registered", params = { beta = 3 }, target = "targets.sir:incidence" },
    { path = "running", entrypoint = "models.sir.Sir/base", install = "workers" },
    { path = "misspelt", entrypoint = "models.sir.Seir/base", target = "targets:incidence" },
    { path = "unregistered", entrypoint = "models.sir.Sir/registered" },
    { path = "undeclared", entrypoint = "models.sir.Sir/base" },
    { path = "twice", entrypoint = "models.sir.Sir/base" },
]

[tool.modelops.aggregation]
params = 3
replicates = 3

[tool.modelops.preflight]
entrypoint = '[A-Za-z_][\w.]*\.[A-Za-z_]\w*/[a-z0-9][a-z0-9_.-]*'
target = '[A-Za-z_][\w.]*\.[A-Za-z_]\w*:\w+'
"""
WHEELS = {"framework-1.0": "framework:wire", "other_framework-1.0": "other_framework:wire", "framework-0.9": ""}
DEPENDENCIES = {"undeclared": ["framework<1"], "twice": ["framework>=1", "other-framework"]}
PACKAGES = ("sir", "running", "misspelt")
"""Bundles that are packages; the others are loose modules with a requirements.txt, which nothing has to build."""


def test_the_wire_function_comes_from_a_dependency(matrix: Matrix, tmp_path: Path, write_wheel: WriteWheel) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for wheel, entry in WHEELS.items():
        points = {f"{wheel}.dist-info/entry_points.txt": f"[modelops.wire]\nexecute = {entry}\n"} if entry else {}
        write_wheel(wheels / f"{wheel}-py3-none-any.whl", {f"{wheel.partition('-')[0]}.py": FRAMEWORK, **points})
    for name in ("sir", "running", "misspelt", "unregistered", "undeclared", "twice"):
        files = {"models/__init__.py": "", "models/sir.py": MODEL, "targets/__init__.py": "", "targets/sir.py": TARGET}
        files["data/observed.csv"] = "day,cases\n2 6\n"
        if name != "unregistered":
            files[".modelops-bundle/registry.json"] = "{}"
        needs = DEPENDENCIES.get(name, ["framework>=1"])
        if name in PACKAGES:
            files["pyproject.toml"] = (
                '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
                '[tool.setuptools]\npackages = ["models", "targets"]\n'
                f'[project]\nname = "{name}"\nversion = "1"\ndependencies = {needs}\n'
            )
        else:
            files["requirements.txt"] = "\n".join(needs)
        for path, text in files.items():
            matrix.write(f"{name}/{path}", text)
    matrix.configure(CONFIGURATION)
    run = matrix.run(env={"UV_FIND_LINKS": str(wheels), "PIP_FIND_LINKS": str(wheels)})
    checks = checks_of(run)
    for name in ("sir", "running"):
        assert {check.status for (bundle, _), check in checks.items() if bundle == name} == {"passed"}
        [unknown] = checks[name, "preflight"].data["unknown"]
        assert "its files declare no wire function" in unknown
        assert "framework" in unknown
    assert checks["sir", "execute"].data["fresh"] == {"outcome": "passed"}, "a copy of the dependency's module answers"
    assert set(checks["sir", "bundle-aggregation"].data["losses"].values()) == {1 / 3, 2 / 3}
    misspelt = checks["misspelt", "preflight"].broke(
        "failed", "models.sir has no 'Seir'; it has 'Sir'", within=AT_ONCE, cause="target-missing"
    )
    misspelt.says("target 'targets:incidence' does not match", "[tool.modelops.preflight]")
    checks["unregistered", "execute"].broke("failed", "no registry at .modelops-bundle/registry.json", within=INSTALLED)
    missing = checks["undeclared", "bundle-install"].broke("failed", "declares a wire function", within=INSTALLED)
    missing.says("modelops.wire", "(framework)")
    twice = checks["twice", "bundle-install"].broke("failed", "declares 2 wire functions", within=INSTALLED)
    twice.says("framework:wire, other_framework:wire")


def checks_of(run: Run) -> dict[tuple[str, str], Check]:
    return {(one["bundle"], one["name"]): Check(**one) for one in run.cell().facts["checks"] if one["bundle"]}
