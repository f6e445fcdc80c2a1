"""The files of docs/ci.md: valid for their services, and each of their commands run with the values of a real plan.

`pip` and `uv` do nothing here. `gh` and `curl` keep issues in a file, so that what the services are asked for is seen.
`pytest` has its run forked.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import check_jsonschema
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from tests.forking import Template

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

BLOCK = re.compile(r"^```(?:yaml|sh)\n# (?P<name>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
CI = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
FILES = {match["name"]: match["text"] for match in BLOCK.finditer(CI)}
WORKFLOW, NIGHTLY = ".github/workflows/modelops.yml", ".github/workflows/modelops-nightly.yml"
PIPELINE, CHILD, ISSUE = ".gitlab-ci.yml", ".gitlab/modelops-cell.yml", ".gitlab/modelops-issue.sh"
SCHEMAS = {
    WORKFLOW: "vendor.github-workflows",
    NIGHTLY: "vendor.github-workflows",
    PIPELINE: "vendor.gitlab-ci",
    CHILD: "vendor.gitlab-ci",
}
EXPRESSION = re.compile(r"\$\{\{ (.*?) \}\}")
SERVICE = """#!{python}
import sys
from pathlib import Path

arguments = sys.argv[1:]
issues = Path({issues!r})
number = "7" if issues.exists() else ""
is_curl = Path(sys.argv[0]).name == "curl"
if "list" in arguments:
    print(number)
elif is_curl and any("state=opened" in one for one in arguments):
    print('[{{"iid": 7}}]' if number else "[]")
elif "label" not in arguments:
    with issues.open("a") as file:
        file.write(" ".join(arguments).replace("\\n", " ") + "\\n")
"""


PYTEST = """#!/bin/sh
call=$(mktemp -d {calls}/XXXXXX)
mkfifo "$call/code"
printf '%s\\0' "$@" >"$call/arguments"
env -0 >"$call/env"
echo "$call" >{calls}/asked
read -r code <"$call/code"
cat "$call/out"
cat "$call/err" >&2
exit "$code"
"""
SECONDS = 120
"""After so long, a script hangs."""


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(FILES[name])
    return loaded


def validate(path: Path, schema: str) -> None:
    ran = CliRunner().invoke(check_jsonschema.main, ["--builtin-schema", schema, str(path)])
    assert ran.exit_code == 0, ran.output


class Service:
    """A machine of a CI service with the project, and with programs that do nothing or keep issues.

    Attributes:
        outputs, summary: GitHub's files of a step.
    """

    def __init__(self, project: Project, template: Template) -> None:
        self.project = project
        self._template = template
        self.issues = project.path / "issues.txt"
        self.outputs, self.summary = project.write("outputs.txt", ""), project.write("summary.md", "")
        self._programs = project.path / "programs"
        for name in ("pip", "uv"):
            self._program(name, "#!/bin/sh\n")
        for name in ("gh", "curl"):
            self._program(name, SERVICE.format(python=sys.executable, issues=str(self.issues)))
        calls = project.path / "calls"
        calls.mkdir()
        os.mkfifo(calls / "asked")
        self._asked = os.open(calls / "asked", os.O_RDWR)  # so that there is always a reader
        self._program("pytest", PYTEST.format(calls=calls))
        project.write(ISSUE, FILES[ISSUE])

    def _program(self, name: str, text: str) -> None:
        self.project.write(f"programs/{name}", text).chmod(0o755)

    def run(self, script: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a script as both services do: it ends with the first command that fails."""
        path = os.pathsep.join([str(self._programs), str(Path(sys.executable).parent), "/usr/bin", "/bin"])
        environ = {**os.environ, "PATH": path, "GITHUB_OUTPUT": str(self.outputs), **variables}
        environ |= {"GITHUB_STEP_SUMMARY": str(self.summary), "PYTEST_ADDOPTS": "-p no:randomly"}
        process = subprocess.Popen(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=self.project.path,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with concurrent.futures.ThreadPoolExecutor() as pool:
            streams = pool.submit(process.communicate, timeout=SECONDS)
            while not streams.done():
                if select.select([self._asked], [], [], 0.02)[0]:
                    self._pytest(Path(os.read(self._asked, 4096).decode().strip()))
            out, err = streams.result()
        return subprocess.CompletedProcess(script, process.returncode, out, err)

    def _pytest(self, call: Path) -> None:
        """Run pytest as the program of that name was asked to, and let it end."""

        def texts(name: str) -> list[str]:
            return (call / name).read_text(encoding="utf-8").split("\0")[:-1]

        environ = dict(text.split("=", 1) for text in texts("env"))
        streams = {"stdout": call / "out", "stderr": call / "err"}
        run = self._template.start(texts("arguments"), cwd=self.project.path, env=environ, **streams)
        try:
            code = run.wait(SECONDS)
        finally:
            run.kill()
        (call / "code").write_text(f"{code}\n", encoding="utf-8")

    def close(self) -> None:
        os.close(self._asked)

    def job(self, job: Mapping[str, Any], values: Mapping[str, str]) -> list[int]:
        """Run the commands of a GitHub job; returns their exit codes. Expressions have the values given here.

        After a command that failed, those of steps without an `if` are left out.
        """

        def filled(text: str) -> str:
            return EXPRESSION.sub(lambda match: values[match[1]], text)

        codes: list[int] = []
        for step in job["steps"]:
            if "run" in step and ("if" in step or not any(codes)):
                variables = {name: filled(text) for name, text in {**job.get("env", {}), **step.get("env", {})}.items()}
                ran = self.run(filled(step["run"]), {"GITHUB_ACTIONS": "true", **variables})
                print(step["run"], ran.stdout, ran.stderr)  # noqa: T201 - shown where a test fails
                codes.append(ran.returncode)
        return codes

    def gitlab(self, job: Mapping[str, Any], variables: Mapping[str, str]) -> int:
        """Run the script of a GitLab job; returns its exit code."""
        own = {
            name: re.sub(r"\$(\w+)", lambda match: variables[match[1]], text)
            for name, text in job.get("variables", {}).items()
        }
        ran = self.run("\n".join(job["script"]), {**own, **variables})
        print(ran.stdout, ran.stderr)  # noqa: T201
        return ran.returncode

    def statuses(self) -> dict[str, str]:
        """The status of each cell in the merged report."""
        report = json.loads((self.project.path / "report" / "report.json").read_text(encoding="utf-8"))
        return {cell["id"]: cell["status"] for cell in report["cells"]}

    def move(self, source: str, target: str) -> None:
        """Upload something and download it in another job."""
        place = self.project.path / target
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(self.project.path / source, place)


@pytest.fixture
def service(project: Project, template: Template) -> Iterator[Service]:
    project.configure_quick()
    with contextlib.closing(Service(project, template)) as made:
        yield made


def test_all_files_are_there() -> None:
    assert set(FILES) == {*SCHEMAS, ISSUE}
    assert CI.count("\n```yaml\n") + CI.count("\n```sh\n") == len(FILES)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_file_is_what_its_service_accepts(name: str, tmp_path: Path) -> None:
    path = tmp_path / Path(name).name
    path.write_text(FILES[name], encoding="utf-8")
    validate(path, SCHEMAS[name])
    path.write_text(FILES[name].replace("script:", "scripts:").replace("runs-on:", "runs_on:"), encoding="utf-8")
    with pytest.raises(AssertionError):
        validate(path, SCHEMAS[name])


def test_github_runs_each_cell_of_the_plan_and_a_lost_job_is_red(service: Service) -> None:
    cells = [f"py{python}-dask{service.project.dask}" for python in ("3.12", "3.13", "3.14")]
    service.project.end(**{f"second[{cells[1]}]": "failed"})
    jobs = load(WORKFLOW)["jobs"]
    assert service.job(jobs["plan"], {}) == [0, 0]
    name, _, matrix = service.outputs.read_text(encoding="utf-8").strip().partition("=")
    assert jobs["plan"]["outputs"] == {name: f"${{{{ steps.plan.outputs.{name} }}}}"}
    planned = json.loads(matrix)["include"]
    assert [one["cell"] for one in planned] == cells

    codes = []
    for number, one in enumerate(planned[:2]):  # the third job is lost
        values = {f"matrix.{key}": value for key, value in one.items()}
        values |= {"github.workspace": str(service.project.path)}
        codes.append(service.job(jobs["cell"], values))
        service.move("report", f"reports/modelops-cell-{number}")
    assert codes == [[0, 0, 0], [0, 0, 1]]
    assert service.job(jobs["report"], {}) == [0, 1, 0]
    assert service.statuses() == dict(zip(cells, ["passed", "failed", "missing"], strict=True))
    assert "1 of 3 cells broken" in service.summary.read_text(encoding="utf-8")


def shard_and_all(service: Service, place: str) -> str:
    """Add a run of the whole matrix with a cell that broke, as if other shards had reported it; returns that cell."""
    cell = f"py3.13-dask{service.project.dask}"
    service.project.end(**{f"second[{cell}]": "failed"})
    service.run(f"pytest --modelops-matrix --modelops-report={place}", {})
    return cell


def test_github_opens_one_issue_for_what_is_newly_broken_at_night(service: Service) -> None:
    jobs = load(NIGHTLY)["jobs"]
    values = {
        "matrix.shard": jobs["shard"]["strategy"]["matrix"]["shard"][0],
        "github.workspace": str(service.project.path),
    }
    assert service.job(jobs["shard"], values) == [0, 0, 0]
    service.move("report", "reports/modelops-shard-0")
    cell = shard_and_all(service, "reports/modelops-shard-1")

    def night() -> list[int]:
        last = jobs["report"]["steps"][-1]["if"]
        named = dict.fromkeys(("github.token", "github.repository", "github.server_url", "github.run_id"), "x")
        codes = service.job({**jobs["report"], "steps": jobs["report"]["steps"][:-1]}, {})
        assert codes == [0, 0]
        code = service.outputs.read_text(encoding="utf-8").split("code=")[-1].strip()
        assert last == "${{ steps.merge.outputs.code != '0' }}"
        return [int(code), *(service.job({"steps": jobs["report"]["steps"][-1:]}, named) if code != "0" else [])]

    assert night() == [1, 1]
    assert service.statuses()[cell] == "failed"
    assert "issue create --title" in service.issues.read_text(encoding="utf-8")
    assert cell in (service.project.path / "body.md").read_text(encoding="utf-8")
    assert night() == [0], "it was broken the night before"
    (service.project.path / "baseline" / "report.json").unlink()
    assert night() == [1, 1]
    created, commented = service.issues.read_text(encoding="utf-8").splitlines()
    assert commented.startswith("issue comment 7 --body-file body.md")
    assert "create" in created


def test_gitlab_runs_each_cell_of_the_plan_in_a_child_pipeline(service: Service, tmp_path: Path) -> None:
    pipeline, child = load(PIPELINE), load(CHILD)
    assert service.gitlab(pipeline["plan"], {}) == 0
    text = (service.project.path / "modelops-cells.yml").read_text(encoding="utf-8")
    planned: dict[str, Any] = YAML(typ="safe").load(text)
    whole = tmp_path / "child.json"
    whole.write_text(json.dumps({**child, **planned}), encoding="utf-8")
    validate(whole, "vendor.gitlab-ci")
    assert {one["extends"] for one in planned.values()} == {".modelops-cell"} & child.keys()
    assert pipeline["cells"]["trigger"]["include"][1] == {"artifact": "modelops-cells.yml", "job": "plan"}

    ran = {"CI_PROJECT_DIR": str(service.project.path), "CI_JOB_ID": "11"}
    cell, job = next(iter(planned.items()))
    assert service.gitlab(child[".modelops-cell"], {**ran, **job["variables"]}) == 0
    assert service.gitlab(child["report"], {}) == 1, "two of the three cells were not run"
    assert [one for one, status in service.statuses().items() if status == "passed"] == [cell]


def test_gitlab_opens_one_issue_for_what_is_newly_broken_at_night(service: Service) -> None:
    pipeline = load(PIPELINE)
    variables = {"CI_PROJECT_DIR": str(service.project.path), "CI_NODE_INDEX": "1"}
    variables["CI_NODE_TOTAL"] = str(pipeline["shard"]["parallel"])
    assert service.gitlab(pipeline["shard"], variables) == 0
    assert (service.project.path / "reports" / "1" / "report.json").exists()
    shard_and_all(service, "reports/2")
    named = dict.fromkeys(("CI_API_V4_URL", "CI_PROJECT_ID", "MODELOPS_TOKEN", "CI_PIPELINE_URL"), "x")
    assert service.gitlab(pipeline["nightly"], named) == 1
    assert service.gitlab(pipeline["nightly"], named) == 0, "it was broken the night before"
    (service.project.path / "baseline" / "report.json").unlink()
    assert service.gitlab(pipeline["nightly"], named) == 1
    created, commented = service.issues.read_text(encoding="utf-8").splitlines()
    assert "title=The nightly matrix is newly broken" in created
    assert commented.endswith("x/projects/x/issues/7/notes")
