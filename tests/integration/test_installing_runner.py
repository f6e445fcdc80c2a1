"""The reference runner installs by itself into the environment that it runs in, and verifies what it finds there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_modelops.remote.runner import installing

RUNNER = Path(installing.__file__).with_name("runner.py")
VERSION = ".".join(map(str, sys.version_info[:3]))
SECONDS = 120.0
DIGEST = "d" * 64

Start = Callable[..., subprocess.CompletedProcess[str]]


def write_wheel(directory: Path, version: str) -> None:
    """Write a wheel of a package `lib` that has its version."""
    info = f"lib-{version}.dist-info"
    files = {
        "lib/__init__.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: lib\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(directory / f"lib-{version}-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


@pytest.fixture(scope="session")
def unpacked_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pip of this Python as workers unpack it, which starts in a quarter of the time."""
    directory = tmp_path_factory.mktemp("pip")
    with zipfile.ZipFile(installing.ensured_pip()) as archive:
        archive.extractall(directory)
    return directory


@pytest.fixture
def start(tmp_path: Path, unpacked_pip: Path) -> Start:
    """Start a runner once, on a bare environment, a bundle that returns the version of `lib`, and wheels of 1 and 2."""
    venv, bundle, wheels = (tmp_path / name for name in ("venv", "bundle", "wheels"))
    subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", str(venv)], check=True)
    bundle.mkdir()
    wheels.mkdir()
    (bundle / "wire.py").write_text(
        "import lib\n\ndef wire(entrypoint, params, seed):\n    return {'lib': lib.VERSION.encode()}\n"
    )
    for version in ("1", "2"):
        write_wheel(wheels, version)

    def start(
        pins: str = "lib==1", *more: str, digest: str = DIGEST, python: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        (wheels / installing.PINS).write_text(pins)
        flags = ["--bundle-path", str(bundle), "--venv-path", str(venv), "--bundle-digest", digest, "--one-shot"]
        return subprocess.run(
            [str(python or venv / "bin/python"), str(RUNNER), *flags, "--install-from", str(wheels), *more],
            cwd=bundle,
            env={**os.environ, installing.PIP: str(unpacked_pip), **variables},
            input=json.dumps({"method": "execute", "params": {"entrypoint": "x", "params": {}, "seed": 0}}),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    return start


ONE, TWO = '"lib": "MQ=="', '"lib": "Mg=="'


def test_it_installs_once_and_stdout_has_the_answer_alone(start: Start) -> None:
    first = start(**{installing.PIP: ""})
    assert (first.returncode, json.loads(first.stdout)) == (0, {"result": {"lib": "MQ=="}})
    assert first.stderr.count("no install was completed in it") == 1
    again = start("lib==1", "--python-version", VERSION)
    assert (again.stdout, again.stderr) == (first.stdout, "")


MARKER = "../../../modelops-installed.json"
"""Seen from site-packages."""


@pytest.mark.parametrize(
    ("name", "change", "reported"),
    [
        ("lib/__init__.py", lambda _: "", "__init__.py is not what was installed"),
        ("lib/__init__.py", None, "__init__.py is gone"),
        (
            "foreign.pth",
            lambda _: "import os; os.environ['FOREIGN'] = 'yes'\n",
            "foreign.pth is not what was installed",
        ),
        (MARKER, lambda _: "{", "its marker cannot be read (JSONDecodeError)"),
        (MARKER, lambda text: text.replace(VERSION, "3.1.0"), "it was made by another Python, 3.1.0"),
    ],
)
def test_what_is_not_as_it_was_installed_is_installed_again(
    start: Start, tmp_path: Path, name: str, change: Callable[[str], str] | None, reported: str
) -> None:
    start()
    [site] = tmp_path.glob("venv/lib/python3*/site-packages")
    if change is None:
        (site / name).unlink()
    else:
        (site / name).write_text(change((site / name).read_text() if (site / name).exists() else ""))
    again = start()
    assert ONE in again.stdout
    assert reported in again.stderr
    assert not (site / "foreign.pth").exists()
    assert start().stderr == ""


def test_all_of_a_digest_counts_and_nothing_is_left_of_the_other_one(start: Start, tmp_path: Path) -> None:
    start()
    other = start("lib==2", digest=f"{DIGEST[:-1]}e")
    assert TWO in other.stdout
    assert f"it was made for digest {DIGEST}, and {DIGEST[:-1]}e is wanted" in other.stderr
    assert not list(tmp_path.glob("venv/lib/*/site-packages/lib-1*"))


def test_a_fresh_one_is_made_when_it_is_wanted(start: Start) -> None:
    start()
    forced = start("lib==2", MODELOPS_FORCE_FRESH_VENV="true")
    assert TWO in forced.stdout
    assert forced.stderr.count("a fresh one is wanted") == 1
    assert start("lib==2", MODELOPS_FORCE_FRESH_VENV="false").stderr == ""


def test_another_environment_than_it_should_be_is_refused_and_stays(start: Start, tmp_path: Path) -> None:
    wrong = start("lib==1", "--python-version", "3.1.0")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert f"has Python {VERSION}, and Python 3.1.0 is wanted" in wrong.stderr
    outside = start("lib==1", python=Path(sys.executable))
    assert outside.returncode == 1
    assert "and runs in another" in outside.stderr
    assert not list(tmp_path.glob("venv/lib/*/site-packages/lib*"))


def test_pip_s_words_are_reported_and_nothing_is_believed_afterwards(start: Start) -> None:
    failed = start("lib==3")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "No matching distribution found for lib==3" in failed.stderr
    assert "could not be made: pip exited with code 1" in failed.stderr
    assert ONE in start().stdout
