"""The cause of a build that fails, found in what builders print."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from packaging.version import Version

from pytest_modelops.checks import unread_messages
from pytest_modelops.checks.build_messages import cause_of, on_build
from pytest_modelops.checks.bundle_messages import Fault
from pytest_modelops.environments.uv import UvFailed
from pytest_modelops.errors import CheckFailed

FRAMES = 'Traceback (most recent call last):\n  File "<string>", line 11, in <module>\n    run()\n    ^^^^^\n'
SAID = "error: Failed to build `/b`\n  cause: The build backend returned an error\n"


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        (
            f"Building wheel...\n{FRAMES}RuntimeError: Building a package is not possible in non-package mode.\n{SAID}",
            "RuntimeError: Building a package is not possible in non-package mode.",
        ),
        (
            (
                f"{FRAMES}vendor.ParserSyntaxError: no\n\nThe above exception was the direct cause:\n\n"
                f"{FRAMES}vendor.requirements.InvalidRequirement: Expected package name\n    --pre\n    ^\n{SAID}"
            ),
            "InvalidRequirement: Expected package name: --pre",
        ),
        (
            (
                "Building wheel...\nerror: Multiple top-level packages discovered in a flat-layout: ['a', 'b'].\n\n"
                f"To avoid accidental inclusion, setuptools will not proceed.\n{SAID}"
            ),
            "Multiple top-level packages discovered in a flat-layout: ['a', 'b'].",
        ),
        (
            f"fast.c:1:10: fatal error: nothing.h: No such file or directory\ncompilation terminated.\n{SAID}",
            "fast.c:1:10: fatal error: nothing.h: No such file or directory",
        ),
        (f"{FRAMES[35:]}ValueError: none\n", "ValueError: none"),  # the beginning was cut off
        ("exit code 1\n", ""),
    ],
)
def test_the_cause_of_a_build(output: str, cause: str) -> None:
    assert cause_of(output) == cause


def test_it_is_told_with_what_to_do() -> None:
    source: Any = SimpleNamespace(projects=())
    error = UvFailed("could not build a wheel of /b:\n…", f"{FRAMES}RuntimeError: not possible in non-package mode.\n")
    first, last = on_build(error, Version("3.12.1"), source)
    assert first == " RuntimeError: not possible in non-package mode."
    assert last.startswith("`package-mode = false` in pyproject.toml")
    assert on_build(CheckFailed("no solution for numpy"), Version("3.12.1"), source) == ("", "")


def test_a_module_that_is_missing_points_to_what_is_not_read() -> None:
    location: Any = {"unread": ["environment.yml (numpy)", "[tool.uv.sources] of pyproject.toml (own)"]}

    def hinted(head: str, *details: str) -> str:
        [fault] = unread_messages.with_hint([Fault(head=head, details=details)], location)
        return fault.head.removeprefix(head)

    assert "environment.yml (numpy); [tool.uv.sources] of pyproject.toml (own)" in hinted("No module named 'numpy'")
    assert "environment.yml" in hinted("it exited", "ModuleNotFoundError: No module named 'numpy'")
    assert "[tool.uv.sources]" in hinted("AttributeError: module 'own' has no attribute 'SITE'")
    assert "environment.yml" not in hinted("AttributeError: module 'own' has no attribute 'SITE'")
    assert hinted("ValueError: 3") == ""
