"""Messages about a runner that reuses an environment, and canaries made of a bundle."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from pytest_modelops.bundles import formats
from pytest_modelops.checks.canary import variants
from pytest_modelops.checks.reuse_messages import SCENARIOS, faults
from pytest_modelops.errors import NothingToDo
from pytest_modelops.remote.shared import canary
from pytest_modelops.remote.shared.bundle_messages import InstallFailure
from pytest_modelops.remote.shared.canary_messages import Variant
from pytest_modelops.remote.worker.reuse import Reuse

PYTHON = Version("3.12.1")
QUIET: dict[str, Any] = {"cause": None, "last": [], "outside": ""}


def use(variant: str = "A", *, version: str = "3.12", digest: str = "d", **other: Any) -> dict[str, Any]:
    """A complete use, in which that canary answered."""
    artifact = base64.b64encode(json.dumps({"variant": variant, "moment": 1}).encode()).decode()
    return {
        "ready": {"result": {"ready": True, "bundle_digest": digest, "version": version}, "outside": ""},
        "answers": [{"result": {canary.ARTIFACT: artifact}, "outside": ""}],
        "end": {"outside": "", "ended": "exited with code 0", "survived": [], "left": []},
        "digest": "d",
        "given": 10.0,
        "seconds": 1.5,
        **other,
    }


def broken(*last: str, **outcome: Any) -> dict[str, Any]:
    """A use without a handshake, and what its stderr said."""
    reported = outcome or {"exited": "exited with code 1"}
    return use(ready={**QUIET, **reported, "cause": last[-1] if last else None, "last": [*last]}, answers=[])


def heads(name: str, *uses: dict[str, Any], **reported: Any) -> list[str]:
    facts: Any = {"uses": list(uses), "rewritten": [], "repeated": False, "files": 7, "planted": False}
    facts |= {"first_seconds": 4.0, "install_seconds": 3.0, **reported}
    return [fault.head for fault in faults(name, facts, PYTHON)]


def test_there_are_messages_for_what_a_worker_tries() -> None:
    location: Any = {"directory": "/nowhere"}
    variants: dict[str, Variant] = {name: {"source": "", "wheels": "", "digest": "0" * 64} for name in "AB"}
    tried = Reuse(location, variants=variants, forced=None, seconds=1)._scenarios
    assert list(tried) == list(SCENARIOS)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_right_answer_is_right_and_the_other_one_is_reported(name: str) -> None:
    right = SCENARIOS[name].answer
    wrong = "B" if right == "A" else "A"
    assert heads(name, use(right)) == []
    [head] = heads(name, use(wrong))
    assert head.startswith(f"{SCENARIOS[name].title}: it answered with ")
    assert repr(wrong) in head
    assert "{" not in head


def test_the_python_that_executed_counts_and_not_the_one_that_ready_names() -> None:
    runs = {"executable": "/made/bin/python", "version": "3.9.2", "prefix": "/made", "platform": "cpython-39"}
    artifact = base64.b64encode(json.dumps({"variant": "A", "moment": 1, "runs": runs}).encode()).decode()
    made = use(answers=[{"result": {canary.ARTIFACT: artifact}, "outside": ""}])
    [head] = heads("first-use", made)
    assert "`execute` was done by Python 3.9.2 (/made/bin/python, prefix /made), not by " in head


OTHER = use(answers=[{"result": {"other.txt": "QQ=="}, "outside": ""}])
LEFT = use(end={"outside": "", "survived": ["12 sleep"], "left": []})
SILENT = broken(silent=10.0, stacks="")
WRONG = [
    (heads("edited-code", use("A")), "the old code's output ('A'), its environment was made for another digest"),
    (heads("edited-code", OTHER), "same name: it answered with \"{'other.txt': 'QQ=='}\", not with 'B'"),
    (heads("common-prefix", use("A")), "first 60 digits in common"),
    (heads("second-use", use(), rewritten=["a.py", "b.py"]), "installed again, within 1.5 s: a.py, b.py of 7 files"),
    (heads("second-use", use(), repeated=True), "it gave the answer of the first use"),
    (heads("second-use", LEFT), "when its runner had ended, this was left of it"),
    (heads("another-python", use(version="3.13")), "in silence, and runs Python 3.13; the worker runs 3.12.1."),
    (heads("another-python", use(version="None")), "runs Python None"),
    (heads("dead-holder", SILENT), "killed in the middle of its install: its runner did not answer `ready` within the"),
    (heads("dead-holder", SILENT), " within the deadline of 10 s, and still ran"),
    (heads("dead-holder", SILENT), "as that of flock(2) does, and what was begun has to be made again."),
    (heads("two-at-once", use(), broken("ImportError: x")), "ImportError: x"),
    (
        heads("forced-fresh", use("B"), planted=True),
        "a foreign file in its site-packages is still there: nothing fresh",
    ),
    (heads("first-use", use(digest="e")), "answers for the digest 'e', and was started for 'd'"),
]


@pytest.mark.parametrize(("reported", "fact"), WRONG)
def test_what_is_wrong_is_reported_once(reported: list[str], fact: str) -> None:
    [head] = reported
    assert fact in head


def test_a_second_use_that_is_slower_than_an_install_is_reported_with_both_figures() -> None:
    slow, slower = use(seconds=4.1), use(seconds=5.5)
    [head] = heads("second-use", slower, slow)
    assert "it took 5.5 s and 4.1 s, and the first use 4 s, of which 3 s until the last package was there" in head
    assert heads("second-use", slower, use(seconds=3.9)) == [], "a machine may be busy once"
    assert heads("second-use", slower, slow, install_seconds=0.0) == [], "nothing was installed"
    assert heads("second-use", slower, slow, install_seconds=1.9) == [], "most of it was no install"


REFUSALS = [
    "the environment /cell/venv has Python 3.13.0, and Python 3.12.1 is wanted",
    "RuntimeError: virtualenv is incomplete",
    "error: venv of another interpreter",
]
NO_REFUSALS = [
    "ModuleNotFoundError: No module named 'iniconfig'",
    "FileNotFoundError: [Errno 2] No such file or directory: '/cell/venv/bin/python'",
    '  File "/cell/venv/lib/x.py", line 1, in the environment',
    "",
]


@pytest.mark.parametrize("line", REFUSALS)
@pytest.mark.parametrize("name", ["another-python", "half-made", "missing-packages"])
def test_a_refusal_that_names_the_environment_is_as_good_as_the_right_answer(name: str, line: str) -> None:
    assert heads(name, broken("Traceback (most recent call last):", line)) == []


@pytest.mark.parametrize("line", NO_REFUSALS)
@pytest.mark.parametrize("name", ["another-python", "half-made", "missing-packages"])
def test_a_crash_is_no_refusal(name: str, line: str) -> None:
    assert heads(name, broken(line))


@pytest.mark.parametrize("name", ["first-use", "edited-code", "dead-holder", "two-at-once", "forced-fresh"])
def test_where_an_environment_can_be_made_a_runner_may_not_refuse(name: str) -> None:
    assert heads(name, broken(REFUSALS[0]))


def test_what_was_not_tried_is_no_fault_and_what_was_not_reached_is() -> None:
    assert faults("another-python", {"untried": "this worker has no other Python"}, PYTHON) == []
    [late] = faults("half-made", {"late": True}, PYTHON)
    assert late.head.endswith("there was no time left to try it")
    what = "making a bare environment: python exited with code 1"
    failed: InstallFailure = {"failed": what, "timed_out": False, "cause": "no space", "last": []}
    [fault] = faults("first-use", {"failed": failed}, PYTHON)
    assert fault.head.endswith("making a bare environment: python exited with code 1. no space")


# --- variants ----------------------------------------------------------------------------------------------------

WIRES = {
    "wire.py": "def wire(entrypoint, params, seed):\n    return {'reported': entrypoint.encode()}",
    ".modelops/manifest.json": '{"wire": "app/wires.py:Holder.run"}',
    "app/wires.py": (
        "class Holder:\n    @staticmethod\n    def run(entrypoint, params, seed):\n"
        "        return {'reported': entrypoint.encode()}\n"
    ),
}


@pytest.mark.parametrize("names", [("wire.py",), (".modelops/manifest.json", "app/wires.py")])
def test_variants_answer_which_they_are_and_are_unchanged_otherwise(tmp_path: Path, names: tuple[str, ...]) -> None:
    bundle = tmp_path / "bundle"
    for name in (*names, "requirements.txt"):
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_text(WIRES.get(name, ""))
    before = {file: file.read_bytes() for file in bundle.rglob("*") if file.is_file()}
    source = formats.read(bundle)
    assert source.wire is not None
    made = tmp_path / "made"
    made.mkdir()
    found = variants(source, made)
    assert len({source.digest, *(variant.digest for variant in found.values())}) == 3
    asking = (
        f"import json; import {source.wire.module} as m; f = m.{source.wire.function}; "
        f"one, two = [json.loads(f({canary.ENTRYPOINT!r}, {{}}, 0)[{canary.ARTIFACT!r}]) for _ in range(2)]; "
        "assert one['moment'] < two['moment']; assert one['wire'] == m.__file__; "
        "print(one['variant'], f(entrypoint='x', params={}, seed=0))"
    )
    for name, variant in found.items():
        ran = subprocess.run(
            [sys.executable, "-B", "-c", asking], cwd=variant.path, capture_output=True, text=True, check=True
        )
        assert ran.stdout == f"{name} {{'reported': b'x'}}\n"
    assert before == {file: file.read_bytes() for file in bundle.rglob("*") if file.is_file()}


def test_a_bundle_without_source_of_its_wire_function_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\nversion = '1'\n")
    with pytest.raises(NothingToDo, match="declares no wire function"):
        variants(formats.read(tmp_path), tmp_path)
    (tmp_path / ".modelops").mkdir()
    (tmp_path / ".modelops/modelops.toml").write_text("[modelops]\nwire = 'elsewhere:wire'\n")
    with pytest.raises(NothingToDo, match=r"wire function elsewhere:wire is not among its files"):
        variants(formats.read(tmp_path), tmp_path)
