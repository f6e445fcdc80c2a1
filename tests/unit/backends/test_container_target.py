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
    ],
)
def test_wheels_are_for_the_image_s_libc_and_machine(libc: str, taken: list[str], not_taken: list[str]) -> None:
    here = target(libc)
    assert [platform for platform in taken if not takes(here, f"cp312-cp312-{platform}")] == []
    assert [platform for platform in not_taken if takes(here, f"cp312-cp312-{platform}")] == []


def test_wheels_are_for_the_image_s_python() -> None:
    here = target("glibc 2.36")
    assert takes(here, "cp312-cp312-manylinux2014_x86_64")
    assert takes(here, "cp39-abi3-manylinux2014_x86_64")
    assert takes(here, "py3-none-any")
    assert not takes(here, "cp313-cp313-manylinux2014_x86_64")
    assert not takes(here, "cp311-cp311-manylinux2014_x86_64")
    assert not takes(here, "cp313-abi3-manylinux2014_x86_64")


@pytest.mark.parametrize(
    ("libc", "machine", "platform"),
    [
        ("glibc 2.36", "x86_64", "x86_64-manylinux_2_36"),
        ("glibc 2.99", "x86_64", "x86_64-manylinux_2_40"),
        ("glibc 2.30", "aarch64", "aarch64-manylinux_2_28"),
        ("musl", "aarch64", "aarch64-unknown-linux-musl"),
    ],
)
def test_uv_resolves_for_the_newest_platform_that_it_knows_and_the_image_has(
    libc: str, machine: str, platform: str
) -> None:
    options = target(libc, machine=machine).uv_options
    assert options[options.index("--python-platform") + 1] == platform
    assert options[options.index("--python-version") + 1] == "3.12.1"


def test_a_prerelease_is_resolved_as_its_release() -> None:
    options = target("glibc 2.41", python="3.15.0a1").uv_options
    assert options[options.index("--python-version") + 1] == "3.15"


@pytest.mark.parametrize(
    ("libc", "machine", "words"),
    [
        ("glibc 2.36", "ppc64le", "is for ppc64le; packages can be added for aarch64 and x86_64"),
        ("glibc 2.12", "x86_64", "has linux x86_64, glibc 2.12; packages need glibc 2.17 or newer"),
    ],
)
def test_what_there_is_no_name_for_is_unavailable(libc: str, machine: str, words: str) -> None:
    with pytest.raises(Unavailable, match=words):
        target(libc, machine=machine)


def test_what_is_known_of_a_package_is_the_places_of_its_wheels() -> None:
    here = target("glibc 2.36")
    assert fits({"archive": {"path": "wheels/a-1.0-py3-none-any.whl"}}, here)
    assert fits({"wheels": [{"url": "https://example.com/a-1.0%2Bcpu-py3-none-any.whl#sha256=1"}]}, here)
    assert not fits({"archive": {"url": "https://example.com/a-1.0.tar.gz"}}, here)
    assert not fits({}, here)
    assert Version("3.12.1") == here.python
