"""What a Dask request means, with and without an index."""

from __future__ import annotations

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pytest_modelops.errors import ModelopsError, WrongInput, said_of
from pytest_modelops.matrix.versions import DaskRequest, Keyword, NoIndex, expand, parse_specifier
from tests.unit.matrix.index import Index

INSTALLED = Version("2025.1.0")
INDEX = Index("2024.7.1", "2024.8.0", "2024.8.1", "2024.10.0", "2024.12.1", "2025.1.0rc1", "2025.1.0")


def releases_of(text: str, index: Index = INDEX, installed: Version | None = INSTALLED) -> list[str | None]:
    found = expand(DaskRequest.parse(text), releases=index, installed=installed)
    return [None if release is None else str(release) for release in found]


@pytest.mark.parametrize(
    ("text", "wanted", "shown"),
    [
        ("2024.10.0", Version("2024.10.0"), "2024.10.0"),
        ("2024.08.0", Version("2024.8.0"), "2024.8.0"),
        (" 2024.10.0 ", Version("2024.10.0"), "2024.10.0"),
        ("2025.1.0rc1", Version("2025.1.0rc1"), "2025.1.0rc1"),
        ("latest", Keyword.LATEST, "latest"),
        ("installed", Keyword.INSTALLED, "installed"),
        (">=2024.8, <2025", SpecifierSet(">=2024.8,<2025"), ">=2024.8,<2025"),
        ("==2024.10.0", SpecifierSet("==2024.10.0"), "==2024.10.0"),
        ("~=2024.8.0", SpecifierSet("~=2024.8.0"), "~=2024.8.0"),
    ],
)
def test_a_request_is_a_release_a_keyword_or_a_range(
    text: str, wanted: Version | SpecifierSet | Keyword, shown: str
) -> None:
    request = DaskRequest.parse(text)
    assert request.wanted == wanted
    assert type(request.wanted) is type(wanted)
    assert request.text == shown


def test_only_a_range_is_a_range() -> None:
    assert DaskRequest.parse("==2024.10.0").is_range
    assert not any(DaskRequest.parse(text).is_range for text in ("2024.10.0", "latest", "installed"))


@pytest.mark.parametrize("text", ["", "newest", "Latest", "2024.10.x", ">=", "v2024.10.0", "2024.8.0,2024.10.0"])
def test_what_is_no_request_is_refused_with_the_valid_forms(text: str) -> None:
    with pytest.raises(ValueError, match="not a Dask version") as raised:
        DaskRequest.parse(text)
    assert str(raised.value) == (
        f"{text!r} is not a Dask version; write a release such as 2024.10.0, latest, installed, "
        "or a range such as >=2024.8,<2025"
    )


@pytest.mark.parametrize(("text", "family"), [("2024.10", "2024.10"), ("2024", "2024"), ("2024.10rc1", "2024.10")])
def test_half_a_release_is_refused_because_it_reads_as_any_of_its_month(text: str, family: str) -> None:
    with pytest.raises(ValueError, match="whole release") as raised:
        DaskRequest.parse(text)
    assert str(raised.value) == (
        f"{text!r} is not a whole release of Dask; write one such as 2024.10.0, or the range =={family}.*"
    )


@pytest.mark.parametrize(
    ("text", "admitted", "refused"), [("2024.10.0", "2024.10.0", "2024.10.1"), ("<2024.8", "2024.7.1", "2024.8.0")]
)
def test_a_specifier_is_a_range_or_one_release(text: str, admitted: str, refused: str) -> None:
    specifier = parse_specifier(text)
    assert specifier.contains(admitted)
    assert not specifier.contains(refused)


@pytest.mark.parametrize("text", ["latest", "installed", "2024.8.*"])
def test_a_specifier_is_nothing_else_and_no_keyword_is_offered(text: str) -> None:
    with pytest.raises(ValueError, match="not a Dask version") as raised:
        parse_specifier(text)
    assert str(raised.value) == (
        f"{text!r} is not a Dask version; write a release such as 2024.10.0, or a range such as >=2024.8,<2025"
    )


@pytest.mark.parametrize(
    ("text", "releases"),
    [
        ("2024.10.0", ["2024.10.0"]),
        ("2025.1.0rc1", ["2025.1.0rc1"]),
        ("latest", ["2025.1.0"]),
        ("installed", ["2025.1.0"]),
        (">=2024.8,<2024.12", ["2024.8.0", "2024.8.1", "2024.10.0"]),
        (">=2025.1.0rc1", ["2025.1.0"]),
    ],
)
def test_the_index_says_which_releases_a_request_means(text: str, releases: list[str]) -> None:
    assert releases_of(text) == releases


def test_what_is_installed_needs_no_index() -> None:
    assert releases_of("installed", Index(reachable=False), Version("2023.1.0")) == ["2023.1.0"]


@pytest.mark.parametrize(("text", "releases"), [("2024.99.0", ["2024.99.0"]), ("latest", [None]), (">=2024.8", [None])])
def test_without_an_index_a_release_is_believed_and_the_rest_is_unknown(text: str, releases: list[str | None]) -> None:
    assert releases_of(text, Index(reachable=False)) == releases


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2024.9.0", "the index has no Dask 2024.9.0; near it: 2024.8.0, 2024.8.1, 2024.10.0, 2024.12.1"),
        ("2030.1.0", "the index has no Dask 2030.1.0; near it: 2024.12.1, 2025.1.0"),
        ("2020.1.0", "the index has no Dask 2020.1.0; near it: 2024.7.1, 2024.8.0"),
        (">=2030", "no final release of Dask is in >=2030; the newest is 2025.1.0"),
    ],
)
def test_a_release_that_the_index_does_not_have_is_wrong_input_naming_near_ones(text: str, message: str) -> None:
    with pytest.raises(WrongInput) as raised:
        releases_of(text)
    assert str(raised.value) == message


def test_the_message_says_what_limits_the_index() -> None:
    with pytest.raises(WrongInput, match=r"^the index has no Dask 2024.10.0 \(as of 2024-09-01\); near it: 2024.8.0$"):
        releases_of("2024.10.0", Index("2024.8.0", note="as of 2024-09-01"))


def test_an_empty_index_is_told_from_one_that_lacks_a_release() -> None:
    with pytest.raises(WrongInput, match=r"near it: no other release$"):
        releases_of("2024.10.0", Index())


def test_installed_without_a_dask_says_what_to_do() -> None:
    with pytest.raises(WrongInput) as raised:
        releases_of("installed", installed=None)
    assert str(raised.value) == "no dask is installed beside pytest; install distributed, or name a release"


def test_no_index_is_an_error_of_this_package() -> None:
    assert issubclass(NoIndex, ModelopsError)
    assert not issubclass(NoIndex, WrongInput)


@pytest.mark.parametrize("error", [ValueError("no"), WrongInput("no")])
def test_a_place_is_put_before_what_is_wrong_there(error: Exception) -> None:
    with pytest.raises(WrongInput, match=r"^here: no$"), said_of("here"):
        raise error


def test_other_errors_keep_their_kind() -> None:
    with pytest.raises(NoIndex, match=r"^silent$"), said_of("here"):
        raise NoIndex("silent")
