"""What a bundle's lines ask of a solution: constraints, and the hashes that may stay in it."""

from __future__ import annotations

import pytest
from packaging.version import Version

from pytest_modelops.environments.wanted import Wanted
from pytest_modelops.errors import CheckFailed

PYTHON = Version("3.12.1")
SOLUTION = "one==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"


def kept(*lines: str, solution: str = SOLUTION) -> str:
    return Wanted.parse(lines).kept(solution, PYTHON)


def test_lines_are_taken_apart() -> None:
    wanted = Wanted.parse(["one==1 --hash=sha256:aa --hash=sha256:bb", "/lib[a]", "--constraint=two<2"])
    assert wanted.requirements == ("one==1", "/lib[a]")
    assert wanted.constraints == ("two<2",)
    assert wanted.hashes == (("one==1", frozenset({"sha256:aa", "sha256:bb"})),)


def test_without_hashes_a_solution_stays_as_it_is() -> None:
    assert kept("one", "--constraint=one<2") == SOLUTION


@pytest.mark.parametrize(
    ("lines", "hashes"),
    [
        (["one==1.0 --hash=sha256:bb"], ["bb"]),
        (["One==1 --hash=sha256:cc"], ["cc"]),  # pip shall say that no file has it
        (["one --hash=sha256:aa --hash=sha256:bb", "--constraint=one==1.0 --hash=sha256:bb"], ["bb"]),
        (["one==1.0 ; python_version < '3.12' --hash=sha256:aa", "one==1.0 --hash=sha256:bb"], ["bb"]),
        (["one==1.0 ; python_version >= '3.12' --hash=sha256:aa", "one==2.0 --hash=sha256:bb"], ["aa"]),
    ],
)
def test_only_hashes_that_are_given_stay(lines: list[str], hashes: list[str]) -> None:
    assert kept(*lines, "--require-hashes") == "one==1.0" + "".join(f" --hash=sha256:{one}" for one in hashes) + "\n"


@pytest.mark.parametrize(
    ("lines", "solution"),
    [
        (["two==1 --hash=sha256:aa"], SOLUTION),
        (["one==1.0 --hash=sha256:aa", "--constraint=one==1.0 --hash=sha256:bb"], SOLUTION),
        (["one==2.0 --hash=sha256:aa"], SOLUTION),
        ([], "one @ git+https://example.org/one@1234\n"),
    ],
)
def test_what_has_none_is_refused_by_name(lines: list[str], solution: str) -> None:
    with pytest.raises(CheckFailed, match=r"hashes are required.* none is given for one.*\n.*--generate-hashes"):
        kept(*lines, "--require-hashes", solution=solution)


def test_a_file_of_the_bundle_and_a_url_with_a_hash_need_no_other() -> None:
    solution = "one @ file:///b/one-1.0-py3-none-any.whl\ntwo @ https://example.org/two-1.0.zip#sha256=aa\n"
    assert kept("--require-hashes", solution=solution) == solution
