"""Shortened tracebacks keep the user's frames."""

from __future__ import annotations

import pytest

from pytest_modelops.remote.shared.tracebacks import are_of_user, shortened

PYTHON = "/usr/local/lib/python3.12"
SITE = "/cell/venv/lib/python3.12/site-packages"


def frame(file: str, number: int = 1) -> list[str]:
    return [f'  File "{file}", line {number}, in call', f"    call_{number}()", "    ^^^^^^"]


def trace(*frames: list[str], error: str = "ValueError: it broke") -> list[str]:
    return ["Traceback (most recent call last):", *(line for one in frames for line in one), error]


@pytest.mark.parametrize(
    ("files", "of_user"),
    [
        (["/cell/bundle/model.py", f"{SITE}/numpy/x.py", f"{PYTHON}/json/decoder.py"], [True, False, False]),
        ([f"{SITE}/model/run.py", f"{SITE}/numpy/x.py", f"{SITE}/model/deep.py"], [True, False, True]),
        ([f"{SITE}/distributed/worker.py", f"{SITE}/acme.py", f"{SITE}/requests/x.py"], [False, True, False]),
        (["<frozen importlib._bootstrap>", "/x/modelops_remote/runner/runner.py", "wire.py"], [False, False, True]),
        (["/cell/bundle/m.py", f"{SITE}/lib/a.py", "/cell/bundle/callback.py"], [True, False, True]),
    ],
)
def test_frames_of_the_user_are_told_from_those_of_libraries(files: list[str], of_user: list[bool]) -> None:
    assert are_of_user(files) == of_user


def test_a_short_one_stays() -> None:
    lines = trace(frame("/cell/bundle/model.py"))
    assert shortened(lines, 14) == lines


@pytest.mark.parametrize("around", [5, 30, 300])
def test_the_user_s_frames_stay_however_many_of_the_library_s_there_are(around: int) -> None:
    library = [frame(f"{PYTHON}/pool.py", number) for number in range(around)]
    users = [frame("/cell/bundle/model.py", 1001), frame("/cell/bundle/callback.py", 1002)]
    found = shortened(trace(*library, users[0], *library, users[1], *library), 14)
    text = "\n".join(found)
    assert "model.py" in text
    assert "call_1001()" in text
    assert "callback.py" in text
    assert "call_1002()" in text
    assert found[-1] == "ValueError: it broke"
    assert f"line {around - 1}, in call" in text, "the innermost frame"
    assert sum("…" in line for line in found) >= 2
    assert len(found) <= 14 + 4


def test_of_chained_errors_and_long_messages_the_user_s_frames_stay() -> None:
    library = [frame(f"{SITE}/lib/a.py", number) for number in range(20)]
    first = trace(frame("/cell/bundle/model.py", 7), *library, error="KeyError: 'beta'")
    between = ["", "The above exception was the direct cause of the following exception:", ""]
    message = "\n".join(f"line {number}" for number in range(50))
    found = shortened([*first, *between, *trace(frame("wire.py", 8), *library), *message.splitlines()], 14)
    assert "    call_7()" in found
    assert "    call_8()" in found
    assert len(found) <= 14 + 4


def test_what_has_no_frames_is_cut_at_its_beginning() -> None:
    lines = [f"line {number}" for number in range(30)]
    assert shortened(lines, 14) == lines[-14:]
