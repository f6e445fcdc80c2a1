"""Wheels are chosen for the image's Python, machine and C library, not for those of this machine."""

from __future__ import annotations

import pytest
from packaging.version import Version

from pytest_modelops.backends.docker.contents import Contents, ImageAnswer
from pytest_modelops.backends.docker.images import Image
from pytest_modelops.backends.docker.target import target_of
from pytest_modelops.environments.target import Target, fits
from pytest_modelops.errors import Unavailable

IMAGE = Image(name="acme:1", id="sha256:1", digest="sha256:1", architecture="amd64", config={})


def contents(libc: str, *, machine: str = "x86_64", python: str = "3.12.1") -> Contents:
    reported: ImageAnswer = {
        "version": python,
        "implementation": "cpython",
        "executable": "/usr/bin/python3",
        "base": "/usr/bin/python3",
        "in_venv": False,
        "site": "/usr/lib/python3/dist-packages",
        "platform": f"linux-{machine}",
        "libc": libc,
        "packages": {},
        "modules": {},
        "uid": 0,
        "gid": 0,
    }
    return Contents(reported)


def target(libc: str, *, machine: str = "x86_64", python: str = "3.12.1") -> Target:
    return target_of(IMAGE, contents(libc, machine=machine, python=python))


def takes(target: Target, tags: str) -> bool:
    tags = tags if "-" in tags else f"cp312-cp312-{tags}"
    return fits({"wheels": [{"name": f"numpy-1.0-{tags}.whl"}]}, target)


@pytest.mark.parametrize(
    ("libc", "taken", "not_taken"),
    [
        (
            "glibc 2.36",
            ["manylinux_2_36_x86_64", "manylinux_2_17_x86_64.manylinux2014_x86_64", "manylinux1_x86_64"],
            ["manylinux_2_37_x86_64", "musllinux_1_2_x86_64", "manylinux_2_17_aarch64", "win_amd64"],
        ),
        (
            "glibc 2.28",
            ["manylinux_2_28_x86_64", "manylinux2014_x86_64", "linux_x86_64"],
            ["manylinux_2_31_x86_64", "musllinux_1_1_x86_64"],
        ),
        (
            "musl",
            ["musllinux_1_2_x86_64", "musllinux_1_1_x86_64"],
            ["manylinux_2_17_x86_64", "manylinux2014_x86_64", "musllinux_1_2_aarch64"],
        ),
        (
            "glibc 2.36",
            ["cp39-abi3-manylinux2014_x86_64", "py3-none-any"],
            [f"{tags}-manylinux2014_x86_64" for tags in ("cp313-cp313", "cp311-cp311", "cp313-abi3")],
        ),
    ],
)
def test_wheels_are_for_the_image_s_python_libc_and_machine(libc: str, taken: list[str], not_taken: list[str]) -> None:
    here = target(libc)
    assert [tags for tags in taken if not takes(here, tags)] == []
    assert [tags for tags in not_taken if takes(here, tags)] == []


@pytest.mark.parametrize(
    ("python", "libc", "machine", "version", "platform"),
    [
        ("3.12.1", "glibc 2.36", "x86_64", "3.12.1", "x86_64-manylinux_2_36"),
        ("3.12.1", "glibc 2.99", "x86_64", "3.12.1", "x86_64-manylinux_2_40"),
        ("3.12.1", "glibc 2.30", "aarch64", "3.12.1", "aarch64-manylinux_2_28"),
        ("3.12.1", "musl", "aarch64", "3.12.1", "aarch64-unknown-linux-musl"),
        ("3.15.0a1", "glibc 2.41", "x86_64", "3.15", "x86_64-manylinux_2_40"),  # a prerelease: as its release
    ],
)
def test_uv_resolves_for_the_newest_platform_that_it_knows_and_the_image_has(
    python: str, libc: str, machine: str, version: str, platform: str
) -> None:
    options = target(libc, machine=machine, python=python).uv_options
    assert options[options.index("--python-platform") + 1] == platform
    assert options[options.index("--python-version") + 1] == version


@pytest.mark.parametrize(
    ("libc", "machine", "message"),
    [
        ("glibc 2.36", "ppc64le", "is for ppc64le; packages can be added for aarch64 and x86_64"),
        ("glibc 2.12", "x86_64", "has linux x86_64, glibc 2.12; packages need glibc 2.17 or newer"),
    ],
)
def test_a_platform_without_a_name_is_unavailable(libc: str, machine: str, message: str) -> None:
    with pytest.raises(Unavailable, match=message):
        target(libc, machine=machine)


def test_a_package_is_judged_by_the_file_names_of_its_wheels() -> None:
    here = target("glibc 2.36")
    assert fits({"archive": {"path": "wheels/a-1.0-py3-none-any.whl"}}, here)
    assert fits({"wheels": [{"url": "https://example.com/a-1.0%2Bcpu-py3-none-any.whl#sha256=1"}]}, here)
    assert not fits({"archive": {"url": "https://example.com/a-1.0.tar.gz"}}, here)
    assert not fits({}, here)
    assert Version("3.12.1") == here.python
