"""The first cause in what pip, uv and Python really wrote to stderr."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_modelops.remote.shared.causes import first_cause, last_lines

# Written by pip 23.2.1 and uv 0.13.9 with Python 3.12.1.
PIP_PYTHON = "ERROR: Package 'needs-newer' requires a different Python: 3.12.1 not in '>=3.13'\n"
UV_PYTHON = """\
Using Python 3.12.1 environment at: v312
error: No solution found when resolving dependencies
  cause: Because the current Python version (3.12.1) does not satisfy Python>=3.13 and needs-newer==1.0 depends on \
Python>=3.13, we can conclude that needs-newer==1.0 cannot be used.
         And because only needs-newer==1.0 is available and you require needs-newer, we can conclude that your \
requirements are unsatisfiable.
"""
UV_PYTHON_IN_BOXES = """\
  × No solution found when resolving dependencies:
  ╰─▶ Because the current Python version (3.12.1) does not satisfy
      Python>=3.13 and needs-newer-python==0.1.0 depends on Python>=3.13,
      we can conclude that needs-newer-python==0.1.0 cannot be used.
"""
PIP_MISSING = """\
ERROR: Could not find a version that satisfies the requirement no-such-lib>=2 (from needs-lib) (from versions: none)
ERROR: No matching distribution found for no-such-lib>=2
"""
UV_MISSING = """\
Using Python 3.12.1 environment at: v312
error: No solution found when resolving dependencies
  cause: Because no-such-lib was not found in the provided package locations and all versions of needs-lib depend on \
no-such-lib>=2, we can conclude that all versions of needs-lib cannot be used.
"""
PIP_WHEEL = "ERROR: tagged-1.0-cp39-cp39-win32.whl is not a supported wheel on this platform.\n"
PIP_BUILD = """\
  error: subprocess-exited-with-error
  × pip subprocess to install build dependencies did not run successfully.
  │ exit code: 1
  ╰─> [3 lines of output]
      ERROR: Could not find a version that satisfies the requirement setuptools (from versions: none)
      ERROR: No matching distribution found for setuptools
      [end of output]
  note: This error originates from a subprocess, and is likely not a problem with pip.
"""
UV_BUILD = """\
Using Python 3.12.1 environment at: v312
   Building bad @ file:///tmp/bad
error: Failed to build `bad @ file:///tmp/bad`
  cause: The build backend returned an error
  cause: Call to `nope.build_wheel` failed (exit status: 1)

         [stderr]
         Traceback (most recent call last):
           File "<string>", line 8, in <module>
         ModuleNotFoundError: No module named 'nope'
"""
NO_STANDARD_LIBRARY = """\
Python path configuration:
  PYTHONHOME = '/nonexistent'
Fatal Python error: init_fs_encoding: failed to get the Python codec of the filesystem encoding
Python runtime state: core initialized
ModuleNotFoundError: No module named 'encodings'

Current thread 0x00007fcfa7345b80 (most recent call first):
  <no Python frame>
"""
TRACEBACK = """\
Traceback (most recent call last):
  File "/cell/runner.py", line 302, in main
    wire = find_wire(given.bundle_path)
ModuleNotFoundError: No module named 'scipy'
"""
DEEP = """\
Traceback (most recent call last):
  File "/cell/bundle/model.py", line 9, in run
    with Pool(2) as pool:
  File "/usr/lib/python3.12/mp.py", line 118, in start
    assert False
AssertionError: no children
"""


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (PIP_PYTHON, "ERROR: Package 'needs-newer' requires a different Python: 3.12.1 not in '>=3.13'"),
        (
            UV_PYTHON,
            (
                "error: No solution found when resolving dependencies cause: Because the current Python version "
                "(3.12.1) does not satisfy Python>=3.13 and needs-newer==1.0 depends on Python>=3.13, we can"
            ),
        ),
        (
            UV_PYTHON_IN_BOXES,
            (
                "× No solution found when resolving dependencies: ╰─▶ Because the current Python version (3.12.1) does "
                "not satisfy Python>=3.13 and needs-newer-python==0.1.0 depends"
            ),
        ),
        (
            UV_PYTHON_IN_BOXES.partition("\n")[2].replace("satisfy\n      ", "satisfy "),
            "╰─▶ Because the current Python version (3.12.1) does not satisfy Python>=3.13 and needs-newer-python",
        ),
        (PIP_MISSING, "ERROR: Could not find a version that satisfies the requirement no-such-lib>=2 (from"),
        (PIP_MISSING.partition("\n")[2], "ERROR: No matching distribution found for no-such-lib>=2"),
        (
            UV_MISSING,
            (
                "error: No solution found when resolving dependencies cause: Because no-such-lib was not found in the "
                "provided package locations"
            ),
        ),
        (UV_MISSING.splitlines()[2], "cause: Because no-such-lib was not found in the provided package"),
        ("/cell/venv/bin/python: No module named pip\n", "/cell/venv/bin/python: No module named pip"),
        (
            DEEP,
            "AssertionError: no children (/cell/bundle/model.py, line 9, in run; raised in /usr/lib/python3.12/mp.py, ",
        ),
        (PIP_WHEEL, "ERROR: tagged-1.0-cp39-cp39-win32.whl is not a supported wheel on this platform."),
        (PIP_BUILD, "ERROR: Could not find a version that satisfies the requirement setuptools"),
        (UV_BUILD, "error: Failed to build `bad @ file:///tmp/bad`"),
        (NO_STANDARD_LIBRARY, "Fatal Python error: init_fs_encoding: failed to get the Python codec"),
        (TRACEBACK, "ModuleNotFoundError: No module named 'scipy' (/cell/runner.py, line 302, in main)"),
        ("bash: /x/python: cannot execute: required file not found\n", "bash: /x/python: cannot execute"),
    ],
)
def test_the_cause_is_found_in_what_tools_write(text: str, cause: str) -> None:
    assert (first_cause(text) or "").startswith(cause)
    assert (first_cause(NOISE + text + NOISE) or "").startswith(cause)


NOISE = "".join(f"[{number}] simulated a day of the year, {number} agents\n" for number in range(20_000))
PROGRESS = "\r".join(f"{number:6}%|####      | 17/20 it/s" for number in range(40_000))


def test_noise_is_no_cause() -> None:
    assert len(NOISE) + len(PROGRESS) > 2_000_000
    for text in ("", "\n", NOISE, PROGRESS, "UserWarning: 3 errors were corrected\n"):
        assert first_cause(text) is None


@pytest.mark.parametrize("text", [PIP_PYTHON, UV_PYTHON, TRACEBACK, UV_BUILD, PIP_WHEEL])
def test_a_line_of_a_megabyte_hides_nothing(text: str) -> None:
    """A progress bar never ends its line; searched carelessly, this takes hours."""
    alone = first_cause(text)
    assert alone
    assert first_cause(f"{PROGRESS}\n{text}\n{PROGRESS}") == alone


def test_a_line_of_a_megabyte_with_the_cause_at_its_end_is_reported_from_near_it() -> None:
    cause = first_cause(PROGRESS + "\rfatal: it broke\n")
    assert cause is not None
    assert cause.endswith("fatal: it broke")
    assert len(cause) < 300


@pytest.mark.parametrize(
    ("first", "second", "cause"),
    [
        (PIP_PYTHON, TRACEBACK, "ERROR: Package 'needs-newer' requires"),
        (TRACEBACK, PIP_PYTHON, "ModuleNotFoundError: No module named 'scipy'"),
        (TRACEBACK, NO_STANDARD_LIBRARY, "ModuleNotFoundError: No module named 'scipy'"),
        ("error: something general\n", PIP_MISSING, "ERROR: Could not find a version that satisfies"),
    ],
)
def test_of_several_causes_the_first_is_reported(first: str, second: str, cause: str) -> None:
    assert (first_cause(first + second) or "").startswith(cause)


# What this Python writes of modules that cannot be imported: module → its source, and what must be reported.
MODULES = {
    "missing": ("import scipy_that_is_not", "ModuleNotFoundError: No module named 'scipy_that_is_not' ({}, line 1"),
    "chained": (
        "try:\n    import numpy_that_is_not\nexcept ImportError as error:\n    raise RuntimeError('no') from error",
        "ModuleNotFoundError: No module named 'numpy_that_is_not' ({}, line 2, in <module>)",
    ),
    "during": (
        "try:\n    import first_missing\nexcept ImportError:\n    import second_missing",
        "ModuleNotFoundError: No module named 'first_missing' ({}, line 2, in <module>)",
    ),
    "deep": (
        "def inner():\n    raise ValueError('first line\\nsecond line')\n\ninner()",
        "ValueError: first line ({}, line 2, in inner)",
    ),
    "syntax": ("x = 1\ndef wire(entrypoint)\n    pass", "SyntaxError: "),
    "indented": ("if True:\npass", "IndentationError: expected an indented block"),
    "native": ("import _native", "ImportError: {directory}/_native.so: "),
    "crashing": ("import ctypes\nctypes.string_at(0)", "Fatal Python error: Segmentation fault"),
}


@pytest.mark.parametrize(
    ("name", "reported"), [(name, reported) for name, (_, reported) in MODULES.items()], ids=MODULES
)
def test_the_cause_is_found_in_what_this_python_writes(tmp_path: Path, name: str, reported: str) -> None:
    module = tmp_path / f"{name}.py"
    module.write_text(MODULES[name][0])
    (tmp_path / "_native.so").write_text("no object")
    importing = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); __import__({name!r})"
    ran = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", importing], capture_output=True, text=True, check=False
    )
    assert ran.returncode != 0
    cause = first_cause(ran.stderr) or ""
    assert cause.startswith(reported.format(module, directory=tmp_path)), ran.stderr
    if name in {"syntax", "indented"}:
        assert cause.endswith(f"({module}, line 2)")


def test_last_lines_are_those_with_something_on_them() -> None:
    text = "one\n\n  two  \n\nthree\n\n"
    assert last_lines(text) == ["one", "  two", "three"]
    assert last_lines(text, 2) == ["  two", "three"]
    assert last_lines("") == []
    assert len(last_lines("x" * 10_000)[0]) == 600


def test_last_lines_keep_the_user_s_frames_of_a_long_traceback() -> None:
    library = "".join(f'  File "/usr/lib/python3.12/a.py", line {line}, in f\n    f()\n' for line in range(50))
    head, frame, code, *rest, error = DEEP.splitlines()
    found = last_lines("\n".join([head, frame, code, library + "\n".join(rest), error]), 20)
    assert found[1:3] == [frame, code] or found[0:2] == [frame, code]
    assert found[-1] == error
    assert len(found) <= 22
