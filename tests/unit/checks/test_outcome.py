"""What a check that raises comes to."""

from __future__ import annotations

import errno
import os

import pytest

from pytest_modelops.checks.outcome import outcome_of
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
