"""What `handshake` concludes from a runner's answer and from what the system knows of its process."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_modelops.checks import handshake
from pytest_modelops.checks.bundle_messages import Fault
from pytest_modelops.deadline import Deadline

OWN = {"executable": "/py/bin/python", "version": "3.12.1", "prefix": "/py", "platform": "cpython-312-x86_64-linux"}
IN_VENV = {**OWN, "executable": "/cell/venv/bin/python", "prefix": "/cell/venv"}
READY = {"ready": True, "bundle_digest": "d1", "python": "/cell/venv/bin/python", "version": "3.12", "pid": 5}
PROCESS = {"pid": 5, "of": 5, "seen": True, "lives": True, "born": True, "command": "", "runs": IN_VENV}


def faults(wanted: str | None = None, protocol: str = "json-rpc", version: str = "3.12", **process: Any) -> list[Fault]:
    outcome = {
        "result": {**READY, "version": version}, "outside": "", "process": {**PROCESS, **process}
    }  # fmt: skip
    answer: Any = {
        "outcome": outcome,
        "again": None,
        "end": {},
        "worker": {"python": "/py/bin/python", "version": "3.12.1"},
        "own": OWN,
        "venv": "/cell/venv",
    }
    location: Any = {"digest": "d1", "command": ["{python}", "{runner}"], "protocol": protocol}
    return list(handshake._faults(answer, location, Deadline(5), wanted))


def test_a_runner_s_own_process_of_the_worker_s_python_is_right() -> None:
    assert faults() == []
    assert faults("3.12") == []
    assert faults("any", runs={"unknown": "no"}) == []


@pytest.mark.parametrize(
    ("process", "text"),
    [
        (
            {"seen": False, "lives": False, "born": False},
            "names pid 5, which does not exist; it is no process that its",
        ),
        (
            {"seen": False, "command": "python x"},
            "names pid 5 (python x), which is no descendant of its runner (pid 5)",
        ),
        ({"lives": False}, "names pid 5, which ended before the answer arrived"),
        (
            {"runs": {**IN_VENV, "version": "3.11.2"}},
            "the work was done by Python 3.11.2 (/cell/venv/bin/python, prefix",
        ),
        ({"runs": {"unknown": "it runs /bin/sh"}}, "which Python did the work is not known: it runs /bin/sh"),
        ({"runs": {**OWN, "prefix": "/other"}}, "really runs /py/bin/python, of another environment"),
    ],
)
def test_what_the_system_knows_counts_and_not_what_was_answered(process: dict[str, Any], text: str) -> None:
    [fault] = faults(**process)
    assert text in fault.head


def test_a_one_shot_process_has_ended_when_its_answer_is_there() -> None:
    assert faults(protocol="one-shot", lives=False) == []
    [fault] = faults(protocol="one-shot", seen=False, lives=False, born=True)
    assert "pid 5, which its answer to `ready` names, was not seen below its runner" in fault.head


def test_another_python_may_be_declared() -> None:
    eleven = {**IN_VENV, "version": "3.11.2", "platform": "cpython-311-x86_64-linux"}
    assert faults("3.11", version="3.11", runs=eleven) == []
    assert faults("any", version="3.11", runs=eleven) == []
    heads = [fault.head for fault in faults("3.10", version="3.11", runs=eleven)]
    assert any("runner says that it runs Python 3.11, and has to run 3.10" in head for head in heads)
    assert any("by Python 3.11.2" in head and "[tool.modelops.runner] python is '3.10'" in head for head in heads)
