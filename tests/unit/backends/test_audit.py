"""Whether a prebuilt image has what the settings ask for, from its packages."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.version import Version

from pytest_modelops.backends.docker import audit
from pytest_modelops.config.model import EnvironmentSpec
from tests.unit.backends.test_container_target import IMAGE, contents

PACKAGES = {"numpy": Version("1.26.4"), "acme-contracts": Version("2.0"), "later": Version("3.0rc1")}


def unmet(tmp_path: Path, *requirements: str, constraints: str = "") -> list[str]:
    path = tmp_path / "constraints.txt"
    path.write_text(constraints, encoding="utf-8")
    spec = EnvironmentSpec(requirements=requirements, constraints=path, rootdir=tmp_path)
    return list(audit.unmet(spec, IMAGE, contents("glibc 2.36"), PACKAGES))


@pytest.mark.parametrize(
    "line",
    [
        "numpy",
        "numpy>=1.26",
        "NumPy[extra] ~= 1.26.0",
        "acme_contracts",
        "later>=2",
        "/wheels/acme_contracts-2.0-py3-none-any.whl",
        "acme-contracts @ https://example.com/acme_contracts-2.0-py3-none-any.whl",
        "acme-contracts @ git+https://example.com/acme.git",
        "scipy; python_version < '3.12'",
        "pywin32; sys_platform == 'win32'",
        "/projects/contracts",
    ],
)
def test_what_is_there_or_need_not_be_is_no_fault(tmp_path: Path, line: str) -> None:
    assert unmet(tmp_path, line) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("scipy", "image acme:1 has no scipy, which requirements ask for (scipy)"),
        ("numpy>=2", "image acme:1 has numpy 1.26.4, and requirements ask for numpy>=2"),
        (
            "/wheels/acme_contracts-2.1-py3-none-any.whl",
            "image acme:1 has acme-contracts 2.0, and requirements ask for /wheels/acme_contracts-2.1-py3-none-any.whl",
        ),
        (
            "scipy; python_version >= '3.12'",
            "image acme:1 has no scipy, which requirements ask for (scipy; python_version >= '3.12')",
        ),
    ],
)
def test_what_is_not_there_or_another_release_is_reported(tmp_path: Path, line: str, message: str) -> None:
    assert unmet(tmp_path, line) == [message]


def test_constraints_are_for_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("numpy<1.26\n", encoding="utf-8")
    text = "# ours\n\n-r more.txt\nscipy==1\nnumpy==1.26.4 --hash=sha256:1\nacme-contracts<2  # not yet\nlater<4\n"
    assert unmet(tmp_path, constraints=text) == [
        "image acme:1 has acme-contracts 2.0, and constraints ask for acme-contracts<2",
        "image acme:1 has numpy 1.26.4, and constraints ask for numpy<1.26",
    ]


def test_what_a_directory_contains_is_not_known(tmp_path: Path) -> None:
    spec = EnvironmentSpec(requirements=("/projects/contracts", "numpy"), rootdir=tmp_path)
    assert list(audit.unreported(spec, IMAGE)) == [
        "image acme:1 is run as it is; whether it contains /projects/contracts is not known"
    ]
