"""The same contract for a user who is not root, for whom mistakes about permissions show."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pytest_modelops.errors import ModelopsError

NOBODY = 65534
PART = "put or directory or home or closing or variables or streams"


def engines_group() -> int:
    """The group that may use the engine's socket; nobody's own where there is none."""
    from pytest_modelops.backends.docker.engine import connect

    try:
        found = connect()
    except ModelopsError:
        return NOBODY
    found.api.close()
    path = urlsplit(found.address).path
    return Path(path).stat().st_gid if found.address.startswith("unix:") else NOBODY


@pytest.mark.parametrize("backend", ["process", "docker"])
def test_a_user_who_is_not_root_is_promised_the_same(
    backend: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    if os.geteuid() != 0:
        pytest.skip("this user is not root: the other tests of this directory show the same")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv, which changes the user, is missing; to run it: apt-get install util-linux")
    if backend == "docker":
        request.getfixturevalue("engine")
    home = Path(tempfile.gettempdir(), f"modelops-not-root-{os.getpid()}-{backend}")  # that of pytest is root's alone
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    try:
        which = "docker" if backend == "docker" else "not docker"  # some tests have "process" in their names
        # It may still read all files: the interpreter and these tests may be in root's home.
        may_read = "+dac_read_search"
        done = subprocess.run(
            [
                *("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--groups", str(engines_group())),
                *("--inh-caps", f"-all,{may_read}", "--ambient-caps", f"-all,{may_read}"),
                *("--bounding-set", f"-all,{may_read}"),
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
                *(str(Path(__file__).with_name("test_sandbox.py")), "-k", f"({PART}) and {which}"),
                *("--rootdir", str(Path(__file__).parents[2]), "--basetemp", str(home / "tests")),
            ],
            cwd=Path(__file__).parents[2],
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
                "HOME": str(home),
                "TMPDIR": str(home),
                "PYTHONDONTWRITEBYTECODE": "1",
                "MODELOPS_TEST_ENGINE": "0",
                "HYPOTHESIS_STORAGE_DIRECTORY": str(home),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert " passed" in done.stdout
        assert "skipped" not in done.stdout, done.stdout
    finally:
        shutil.rmtree(home, ignore_errors=True)
