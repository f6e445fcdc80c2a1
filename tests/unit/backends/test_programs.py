"""Programs for containers: taken out of an image that compiled them, whatever else it answers."""

from __future__ import annotations

import contextlib
import io
import tarfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from pytest_modelops.backends.docker.one_off import Ran
from pytest_modelops.backends.docker.programs import Programs
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.remote_package import NAME, RemotePackages
from pytest_modelops.errors import CheckFailed

BASE: Any = types.SimpleNamespace(
    image=types.SimpleNamespace(id="sha256:1", name="base:1"),
    contents=types.SimpleNamespace(python=Version("3.12.1"), facts={"executable": "/usr/bin/python3"}),
)


def archive_of(*members: tuple[str, bytes, bytes]) -> bytes:
    """An archive of names, kinds and contents."""
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name, kind, content in members:
                info = tarfile.TarInfo(name)
                info.type, info.size, info.linkname = kind, len(content), "/etc"
                tar.addfile(info, io.BytesIO(content))
        return file.getvalue()


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Any]:
    """Makes programs with an image that ends with a code and answers with an archive."""
    packages = RemotePackages(tmp_path / "remote", fresh=False, session="1")

    def made(code: int, answer: bytes = b"") -> Path | None:
        api = types.SimpleNamespace(
            create_host_config=lambda **_: None, put_archive=lambda *_: True, get_archive=lambda *_: ([answer], {})
        )
        one_off = types.SimpleNamespace(
            container=lambda *_, **__: contextlib.nullcontext("1"),
            to_its_end=lambda *_: Ran(code, f"exited with code {code}", "", "no such module"),
        )
        engine: Any = types.SimpleNamespace(api=api, address="")
        return Programs(engine, one_off, packages).obtain(BASE, Deadline(30))  # type: ignore[arg-type]

    yield made
    packages.close()


def test_bytecode_and_pip_are_added_and_nothing_else(made: Any, tmp_path: Path) -> None:
    bytecode = f"programs/{NAME}/__pycache__/a.pyc"
    answer = archive_of(
        (bytecode, tarfile.REGTYPE, b"1"),
        ("programs/pip/cpython-312/pip-1/pip/__init__.py", tarfile.REGTYPE, b"2"),
        (f"programs/{NAME}/__init__.py", tarfile.REGTYPE, b"another one"),
        ("programs/../../outside", tarfile.REGTYPE, b"3"),
        ("programs/link", tarfile.SYMTYPE, b""),
        ("programs/link/inside", tarfile.REGTYPE, b"4"),
    )
    directory = made(0, answer)
    assert (directory / NAME / "__pycache__" / "a.pyc").read_bytes() == b"1"
    assert (directory / "pip" / "cpython-312" / "pip-1" / "pip" / "__init__.py").read_bytes() == b"2"
    assert (directory / NAME / "__init__.py").read_bytes() != b"another one"
    assert not (directory / "link").is_symlink()
    assert not list(tmp_path.rglob("outside"))
    assert made(1) == directory, "it is found again, and no image is asked"


def test_an_image_that_cannot_compile_them_is_no_obstacle(made: Any) -> None:
    assert made(1) is None


def test_an_engine_that_refuses_is_no_obstacle(tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise CheckFailed("could not make a container")

    engine: Any = types.SimpleNamespace(api=types.SimpleNamespace(create_host_config=lambda **_: None))
    one_off: Any = types.SimpleNamespace(container=refuse)
    packages = RemotePackages(tmp_path, fresh=False, session="1")
    assert Programs(engine, one_off, packages).obtain(BASE, Deadline(30)) is None
    packages.close()


def test_a_pip_that_was_changed_in_the_cache_is_made_again(tmp_path: Path) -> None:
    def compile_in(directory: Path) -> None:
        (directory / "pip").mkdir()
        (directory / "pip" / "__init__.py").write_text("as it was")

    def obtained() -> Path:
        with contextlib.closing(RemotePackages(tmp_path, fresh=False, session="1")) as packages:
            return packages.obtain(Version("3.12.1"), "build", compile_in, Deadline(30)) / "pip" / "__init__.py"

    first = obtained()
    assert obtained() == first
    first.write_text("changed")
    assert obtained().read_text() == "as it was"
