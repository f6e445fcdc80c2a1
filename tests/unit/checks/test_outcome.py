"""What a check that raises comes to."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

from pytest_modelops.checks.outcome import outcome_of
from pytest_modelops.environments import pip, uv
from pytest_modelops.errors import full_disk_in
from pytest_modelops.report.model import Status


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_with_the_path(number: int) -> None:
    def run() -> None:
        raise OSError(number, os.strerror(number), "/cache/environments/3.12/lib")

    status, message, _ = outcome_of(run)
    assert status is Status.FAILED
    assert message.startswith(f"/cache/environments/3.12/lib: {os.strerror(number)}; ")
    assert "--modelops-cache" in message
    assert "\n" not in message


def test_another_error_of_the_system_is_a_bug_with_its_traceback() -> None:
    def run() -> None:
        raise FileNotFoundError(errno.ENOENT, "no such file", "/nowhere")

    status, message, _ = outcome_of(run)
    assert status is Status.FAILED
    assert message.startswith("the check itself failed: FileNotFoundError: ")
    assert "Traceback" in message


FULL = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize(
    ("output", "place"),
    [
        (
            f"error: Failed to install: a.whl\n  Caused by: failed to copy /root/a.py to /c/b.py: {FULL} (os error 28)",
            "/c/b.py: ",
        ),
        (f"Traceback:\n  ...\nOSError: [Errno 28] {FULL}: '/c/with space/b.py'", "/c/with space/b.py: "),
        (f"ERROR: Could not install packages due to an OSError: [Errno 28] {FULL}\n", ""),
        (f"cc1: fatal error: error writing to /tmp/ccX.s: {FULL}\ncompilation terminated.", "/tmp/ccX.s: "),
        (f"error: failed to open `/c/.lock`: {os.strerror(errno.EDQUOT)} (os error 122)", "/c/.lock: "),
        ("error: Failed to install: no such file", None),
    ],
)
def test_what_an_installer_says_of_a_full_disk_is_one_line_with_the_path(output: str, place: str | None) -> None:
    found = full_disk_in(output)
    if place is None:
        assert found == ""
        return
    reason = FULL if FULL in output else os.strerror(errno.EDQUOT)
    assert found.startswith(f"{place}{reason}; free some")


def test_uv_and_pip_report_a_full_disk_first() -> None:
    output = f"error: Failed to install: a.whl\n  Caused by: failed to copy file to /c/b.py: {FULL} (os error 28)"
    finished = subprocess.CompletedProcess(["uv"], 2, "", output)
    first = str(uv._failure(finished)).splitlines()[0]
    assert first == pip._message(finished).splitlines()[0]
    assert first.startswith(f"/c/b.py: {FULL}; ")
