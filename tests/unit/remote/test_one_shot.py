"""A one-shot runner as its worker sees it: a process for every request, and nothing but its document on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from pytest_modelops.checks import handshake
from pytest_modelops.checks.bundle_messages import fault_of, polluted
from pytest_modelops.remote.shared.bundle_messages import Outcome
from pytest_modelops.remote.worker import one_shot
from pytest_modelops.remote.worker.one_shot import OneShot, find_answer
from tests.conftest import MUTATIONS
from tests.unit.remote.test_frames import MUTATED, mutate

SERVERS = Path(__file__).parents[2] / "servers"
RUNNER = Path(one_shot.__file__).parents[1] / "runner" / "runner.py"
SECONDS = 60.0
"""Whatever takes so long, hangs."""
ASKED = {"entrypoint": "a/b", "params": {"beta": 0.3}, "seed": 7}

Start = Callable[[str], OneShot]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def made(server: str) -> OneShot:
        flags = ["--bundle-path", str(tmp_path), "--venv-path", "/v", "--bundle-digest", "abc"]
        path = SERVERS / f"{server}.py" if server else RUNNER
        return OneShot(
            [sys.executable, str(path), *flags, *(() if server else ["--one-shot"])],
            env=dict(os.environ),
            cwd=str(tmp_path),
            directory=str(tmp_path / "logs"),
        )

    return made


def reported_of(outcome: Outcome, request: str = "execute") -> str:
    """What people read about an outcome that is no result."""
    return fault_of(outcome, request, seconds=5, python=Version("3.12.1")).head


# --- without fault -----------------------------------------------------------------------------------------------


def test_every_request_has_a_process_of_its_own(start: Start) -> None:
    runner = start("one_shot")
    pids = []
    for _ in range(3):
        ready = runner.call("ready", {}, SECONDS)
        assert ready["result"]["pid"] == runner.pid
        assert ready["outside"] == ""
        assert not psutil.pid_exists(runner.pid or 0)
        pids.append(runner.pid)
    assert len(set(pids)) == 3
    assert runner.call("execute", ASKED, SECONDS)["result"] == {"reported.txt": "dG9sZA=="}
    assert runner.close(seconds=1) == {"outside": "", "ended": None, "survived": [], "left": []}
    assert Path(runner.stdout).read_text().count('{"result"') == 4


def test_the_reference_runner_is_one_too(start: Start, tmp_path: Path) -> None:
    (tmp_path / "wire.py").write_text(
        "import sys\n"
        "def wire(entrypoint, params, seed):\n"
        "    if seed == 0:\n        raise ValueError('no seed')\n"
        "    return {'reported.txt': f'{entrypoint} {seed} {len(params)}'.encode()}\n"
    )
    (tmp_path / "targets.py").write_text("def loss(returns, data):\n    return {'loss': len(returns)}\n")
    runner = start("")
    assert runner.call("ready", {}, SECONDS)["result"]["pid"] == runner.pid
    executed = runner.call("execute", ASKED, SECONDS)
    assert executed == {"result": {"reported.txt": "YS9iIDcgMQ=="}, "outside": "", "protocol": "one-shot"}
    failed = runner.call("execute", {**ASKED, "seed": 0}, SECONDS)
    assert (failed["error"]["code"], failed["error"]["data"]["exc"]) == (-32000, "no seed")
    assert reported_of(failed) == "`execute` raised ValueError: no seed"
    aggregate = {"target_entrypoint": "targets:loss", "sim_returns": [{}, {}], "target_data": {}}
    assert runner.call("aggregate", aggregate, SECONDS)["result"]["loss"] == 2
    assert runner.call("nonsense", {}, SECONDS)["error"]["code"] == -32601


@pytest.mark.parametrize(("asked", "code"), [(b"{", -32700), (b"[]", -32600), (b"", -32700)])
def test_the_reference_runner_answers_what_is_no_request(tmp_path: Path, asked: bytes, code: int) -> None:
    (tmp_path / "wire.py").write_text("def wire(e, p, s):\n    return {}\n")
    flags = ["--bundle-path", str(tmp_path), "--venv-path", "/v", "--bundle-digest", "abc", "--one-shot"]
    done = subprocess.run(
        [sys.executable, str(RUNNER), *flags], cwd=tmp_path, input=asked, capture_output=True, check=True
    )
    assert json.loads(done.stdout)["error"]["code"] == code


def test_large_documents_pass_both_ways(start: Start, tmp_path: Path) -> None:
    (tmp_path / "wire.py").write_text("def wire(e, p, s):\n    return {'echo': p['text'].encode()}\n")
    large = {**ASKED, "params": {"text": "é" * (8 << 20)}}  # 16 MiB of UTF-8, 48 MiB as JSON writes it
    outcome = start("").call("execute", large, SECONDS)
    assert len(outcome["result"]["echo"]) > 16 << 20
    assert outcome["outside"] == ""


def test_a_bundle_that_writes_much_to_stderr_passes(start: Start, tmp_path: Path) -> None:
    text = "import sys\nsys.stderr.write('x' * (1 << 20))\ndef wire(e, p, s):\n    return {'a': b'1'}\n"
    (tmp_path / "wire.py").write_text(text)
    runner = start("")
    assert "result" in runner.call("execute", ASKED, SECONDS)
    assert Path(runner.stderr).stat().st_size == 1 << 20


# --- peers that misbehave ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "outside"),
    [
        ("one_shot_prints_before", "loading the model\n"),
        ("one_shot_prints_after", " done\n"),
        ("one_shot_answers_twice", '\n{"result": {"reported.txt": "dG9sZA=="}}\n'),
    ],
)
def test_what_is_besides_the_document_is_reported(start: Start, server: str, outside: str) -> None:
    outcome = start(server).call("execute", ASKED, SECONDS)
    assert (outcome["result"], outcome["outside"]) == ({"reported.txt": "dG9sZA=="}, outside)
    head = polluted(outcome["outside"], "execute", outcome["protocol"]).head
    assert head.startswith(
        f"stdout carried something else than the one JSON document that answers `execute`: {outside!r}."
    )


@pytest.mark.parametrize(
    ("server", "kind", "reported"),
    [
        (
            "one_shot_broken_json",
            "garbled",
            ('answered `execute` with \'{"result": {"reported.txt"', "not a JSON document: Expecting"),
        ),
        (
            "one_shot_no_answer",
            "garbled",
            ('answered `execute` with \'{"ready"', 'a document with neither a "result" nor an "error", or with both.'),
        ),
        (
            "one_shot_says_nothing",
            "exited",
            ("its runner exited with code 0 during `execute`, having printed nothing to stdout.",),
        ),
        (
            "one_shot_exits_3",
            "exited",
            (
                'its runner exited with code 3 during `execute`, having printed \'{"result": ',
                "' to stdout. First cause: OSError: no space left.",
            ),
        ),
        (
            "one_shot_is_killed",
            "exited",
            (
                "its runner was killed by SIGKILL during `execute`, having printed nothing to stdout.",
                "It printed nothing to stderr.",
            ),
        ),
    ],
)
def test_each_way_not_to_answer_has_its_own_message(
    start: Start, server: str, kind: str, reported: tuple[str, ...]
) -> None:
    runner = start(server)
    outcome = runner.call("execute", ASKED, SECONDS)
    assert kind in outcome
    head, at = reported_of(outcome), 0
    for text in reported:
        assert (at := head.find(text, at)) >= 0, head
    assert runner.close(seconds=0)["left"] == []


def test_one_that_answers_and_does_not_end_is_reported_where_it_stands(start: Start) -> None:
    runner = start("one_shot_does_not_end")
    outcome = runner.call("ready", {}, 5)
    assert outcome["silent"] == 5
    fault = fault_of(outcome, "ready", seconds=5)
    assert fault.head.startswith(
        'its runner did not end after `ready` within the deadline of 5 s, having printed \'{"result":'
    )
    assert any("one_shot_does_not_end.py" in line for line in fault.details)
    assert not psutil.pid_exists(runner.pid or 0)


def test_one_that_reads_nothing_is_silent(start: Start) -> None:
    outcome = start("slow_reader").call("execute", {"params": "x" * (1 << 20)}, 1.5)
    assert reported_of(outcome).endswith("having printed nothing to stdout.")


def test_a_server_that_it_leaves_behind_is_reported_and_ended(start: Start) -> None:
    runner = start("one_shot_leaves_a_server")
    assert runner.call("execute", ASKED, SECONDS)["result"] == {"reported.txt": "dG9sZA=="}
    closed = runner.close(seconds=1)
    [survivor] = closed["survived"]
    assert "time.sleep(600)" in survivor
    assert not psutil.pid_exists(int(survivor.split()[0]))
    assert closed["left"] == []
    assert runner.close(seconds=1)["survived"] == [], "it was reported"


def test_one_that_cannot_be_started_is_reported(tmp_path: Path) -> None:
    runner = OneShot(["/no/such/python"], env={}, cwd=str(tmp_path), directory=str(tmp_path / "logs"))
    outcome = runner.call("ready", {}, SECONDS)
    assert reported_of(outcome, "ready").startswith("its runner could not be started: could not start /no/such")
    assert runner.close(seconds=0)["left"] == []


@pytest.mark.parametrize(("first", "again", "warm"), [(1, 1, True), (1, 2, False), (None, None, False)])
def test_one_process_that_answers_twice_is_no_one_shot_runner(first: int | None, again: int | None, warm: bool) -> None:
    answer: Any = {"outcome": {"result": {"pid": first}}, "again": {"result": {"pid": again}}}
    assert bool(list(handshake._warm(answer))) is warm
    answer["again"] = None
    assert list(handshake._warm(answer)) == []


# --- the document ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"result": 1}', ({"result": 1}, "", "")),
        ('\n {"error": {}, "id": 3}\n', ({"error": {}, "id": 3}, "", "")),
        ('{"result": null, "error": null}', ({"result": None, "error": None}, "", "")),
        ('{"result": null, "error": {}}', ({"result": None, "error": {}}, "", "")),
        ('{"a": 1}\n{"result": 2}\n', ({"result": 2}, '{"a": 1}\n', "\n")),
        ('x {"result": {"result": 1}} y', ({"result": {"result": 1}}, "x ", " y")),
        ('{"result": 1}{"result": 2}', ({"result": 1}, "", '{"result": 2}')),
    ],
)
def test_the_answer_is_found_in_what_was_printed(text: str, found: object) -> None:
    assert find_answer(text) == found


@pytest.mark.parametrize(
    "text",
    ["nothing", "[1]", '{"error": null}', '{"result": 1, "error": 2}', "{}", '{"result": ', "[" * 100_000, '"result"'],
)
def test_where_there_is_no_answer_it_is_said_why(text: str) -> None:
    assert isinstance(find_answer(text), str)


DOCUMENTS = st.fixed_dictionaries({"result": st.dictionaries(st.text(), st.text() | st.integers())}).map(
    lambda document: json.dumps(document, ensure_ascii=False).encode()
)


@pytest.mark.timeout(300)
@settings(max_examples=MUTATIONS)
@given(st.lists(DOCUMENTS, max_size=3), MUTATED)
def test_in_a_mutated_document_an_answer_is_found_or_said_why_not(
    documents: list[bytes], mutations: list[tuple[int, int, bytes]]
) -> None:
    text = mutate(b"\n".join(documents), mutations).decode(errors="backslashreplace")
    found = find_answer(text)
    if isinstance(found, str):
        assert found
    else:
        answer, before, after = found
        assert "result" in answer or answer["error"]
        assert text.startswith(before)
        assert text.endswith(after)
