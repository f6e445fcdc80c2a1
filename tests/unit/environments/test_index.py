"""Which index is asked: pip's configuration as uv's variables, and what counts as the same index."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pytest_modelops.environments.index import Index, configured_index

Find = Callable[..., Index]


@pytest.fixture
def find(tmp_path: Path) -> Find:
    """Find the index of a made-up machine: `files` by path below its root, `variables` of its environment."""
    for directory in ("project", "home", "prefix"):
        (tmp_path / directory).mkdir()

    def _find(files: Mapping[str, str] | None = None, **variables: str) -> Index:
        for name, content in (files or {}).items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        return configured_index(
            tmp_path / "project",
            environ={"HOME": str(tmp_path / "home"), **variables},
            prefix=tmp_path / "prefix",
            root=tmp_path,
        )

    return _find


def test_without_any_configuration_uv_is_left_alone(find: Find) -> None:
    assert find().variables == {}
    assert find().source == "the default"


@pytest.mark.parametrize(
    ("option", "variables"),
    [
        ("index-url = https://a.example/simple", {"UV_DEFAULT_INDEX": "https://a.example/simple"}),
        (
            "extra-index-url =\n  https://b.example/simple\n  https://c.example/simple",
            {"UV_INDEX": "https://b.example/simple https://c.example/simple", "UV_INDEX_STRATEGY": "unsafe-best-match"},
        ),
        ("find-links = https://d.example/x /", {"UV_FIND_LINKS": "https://d.example/x,/"}),
        ("no-index = yes", {"UV_NO_INDEX": "1"}),
        ("no-index = no", {}),
        ("trusted-host = a.example\n  b.example:81", {"UV_INSECURE_HOST": "a.example b.example:81"}),
        ("cert = /etc/own.pem", {"SSL_CERT_FILE": "/etc/own.pem"}),
        ("client-cert = /etc/me.pem", {"SSL_CLIENT_CERT": "/etc/me.pem"}),
        ("timeout = 2.5", {"UV_HTTP_TIMEOUT": "3"}),
        ("proxy = http://p.example:3128", {"ALL_PROXY": "http://p.example:3128"}),
        ("index-url = https://a.example/100%25", {"UV_DEFAULT_INDEX": "https://a.example/100%25"}),
        ("disable-pip-version-check = true", {}),
    ],
)
def test_options_of_pip_become_variables_of_uv(find: Find, option: str, variables: Mapping[str, str]) -> None:
    assert find({"etc/pip.conf": f"[global]\n{option}\n"}).variables == variables


def test_local_places_that_are_not_there_are_dropped_as_pip_does(find: Find, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "project" / "more").mkdir()
    index = find(
        PIP_FIND_LINKS=f"{tmp_path}/wheels {tmp_path}/gone file://{tmp_path}/gone more",
        PIP_EXTRA_INDEX_URL=f"file://{tmp_path}/gone/simple",
    )
    assert index.variables == {"UV_FIND_LINKS": f"{tmp_path}/wheels,{tmp_path}/project/more"}


def test_a_main_index_that_is_not_there_stays(find: Find) -> None:
    """Without it uv would ask pypi.org, which nobody configured."""
    index = find(PIP_INDEX_URL="file:///gone/simple")
    assert index.variables == {"UV_DEFAULT_INDEX": "file:///gone/simple"}


@pytest.mark.skipif(sys.platform == "darwin", reason="the directories of Linux")
def test_later_files_and_then_variables_override_earlier_ones(find: Find) -> None:
    directories = ("etc/xdg/pip", "etc", "home/.pip", "home/.config/pip", "prefix")
    for directory in directories:
        url = f"https://{directory.replace('/', '-')}.example"
        index = find({f"{directory}/pip.conf": f"[global]\nindex-url = {url}\n"})
        assert index.variables["UV_DEFAULT_INDEX"] == url
    assert find(PIP_INDEX_URL="https://v.example").variables["UV_DEFAULT_INDEX"] == "https://v.example"


def test_the_install_section_overrides_the_global_one_of_any_file(find: Find) -> None:
    index = find(
        {
            "etc/pip.conf": "[install]\nindex-url = https://install.example\n",
            "prefix/pip.conf": "[global]\nindex-url = https://global.example\n",
        }
    )
    assert index.variables["UV_DEFAULT_INDEX"] == "https://install.example"


def test_a_named_file_replaces_the_users_own(find: Find, tmp_path: Path) -> None:
    files = {
        "home/.config/pip/pip.conf": "[global]\nindex-url = https://user.example\n",
        "prefix/pip.conf": "[global]\ntimeout = 6\n",
        "named.conf": "[global]\ntimeout = 7\n",
    }
    index = find(files, PIP_CONFIG_FILE=str(tmp_path / "named.conf"))
    assert index.variables == {"UV_HTTP_TIMEOUT": "7"}


def test_the_null_device_as_configuration_turns_all_files_off(find: Find) -> None:
    index = find({"etc/pip.conf": "[global]\nindex-url = https://a.example\n"}, PIP_CONFIG_FILE="/dev/null")
    assert index.variables == {}


def test_the_bundle_that_pip_honours_is_passed_to_uv(find: Find) -> None:
    assert find(REQUESTS_CA_BUNDLE="/etc/own.pem").variables == {"SSL_CERT_FILE": "/etc/own.pem"}
    assert find(REQUESTS_CA_BUNDLE="/etc/own.pem", SSL_CERT_FILE="/etc/other.pem").variables == {}


PIP = {"etc/pip.conf": "[global]\nindex-url = https://pip.example/simple\n"}


@pytest.mark.parametrize(
    "files",
    [
        {"project/pyproject.toml": '[[tool.uv.index]]\nurl = "https://uv.example"\n'},
        {"project/pyproject.toml": '[tool.uv.pip]\nindex-url = "https://uv.example"\n'},
        {"project/uv.toml": 'index-url = "https://uv.example"\n'},
        {"uv.toml": 'find-links = ["/wheels"]\n'},
        {"home/.config/uv/uv.toml": "no-index = true\n"},
        {"etc/uv/uv.toml": 'extra-index-url = ["https://uv.example"]\n'},
    ],
)
def test_an_index_of_uv_goes_before_those_of_pip(find: Find, files: Mapping[str, str]) -> None:
    index = find({**PIP, **files})
    assert index.variables == {}
    assert index.source == "uv's configuration"


@pytest.mark.parametrize(
    "files",
    [
        {"project/pyproject.toml": '[project]\nname = "x"\n'},
        {"project/pyproject.toml": "[tool.uv]\nmanaged = true\n"},
        {"project/pyproject.toml": '[[tool.uv.index]]\nurl = "https://uv.example"\nexplicit = true\n'},
        {"project/uv.toml": "this is not TOML"},
    ],
)
def test_settings_of_uv_without_an_index_leave_it_to_pip(find: Find, files: Mapping[str, str]) -> None:
    assert find({**PIP, **files}).variables == {"UV_DEFAULT_INDEX": "https://pip.example/simple"}


def test_variables_of_uv_go_before_those_of_pip(find: Find) -> None:
    assert find(PIP, UV_DEFAULT_INDEX="https://uv.example").variables == {}


def test_uv_without_configuration_files_is_honoured(find: Find) -> None:
    files = {**PIP, "project/uv.toml": 'index-url = "https://uv.example"\n'}
    assert find(files, UV_NO_CONFIG="1").source == "pip's configuration"


def test_the_fingerprint_tells_indexes_apart(find: Find) -> None:
    configurations: list[dict[str, str]] = [
        {},
        {"PIP_INDEX_URL": "https://a.example"},
        {"PIP_INDEX_URL": "https://b.example"},
        {"PIP_EXTRA_INDEX_URL": "https://a.example"},
        {"PIP_NO_INDEX": "1"},
        {"UV_DEFAULT_INDEX": "https://a.example"},
        {"UV_INDEX": "https://a.example"},
        {"UV_EXCLUDE_NEWER": "2024-11-01"},
    ]
    prints = [find(**configuration).fingerprint for configuration in configurations]
    assert len(set(prints)) == len(configurations)


def test_the_fingerprint_sees_uvs_files(find: Find) -> None:
    one = find({"project/uv.toml": 'index-url = "https://a.example"\n'}).fingerprint
    two = find({"project/uv.toml": 'index-url = "https://b.example"\n'}).fingerprint
    assert one != two


def test_a_new_password_and_how_the_index_is_reached_leave_the_fingerprint_alone(find: Find) -> None:
    old = find(PIP_INDEX_URL="https://me:old@a.example/simple").fingerprint
    new = find(PIP_INDEX_URL="https://me:new@a.example/simple", PIP_TIMEOUT="90", PIP_CERT="/x.pem").fingerprint
    assert old == new


@pytest.mark.parametrize(
    ("files", "variables", "places"),
    [
        ({}, {}, {"https://pypi.org/simple"}),
        ({}, {"PIP_INDEX_URL": "https://me:x@a.example/simple"}, {"https://a.example/simple"}),
        ({}, {"PIP_EXTRA_INDEX_URL": "https://b.example/"}, {"https://pypi.org/simple", "https://b.example/"}),
        ({}, {"UV_INDEX": "b=https://b.example/ https://c.example/", "UV_DEFAULT_INDEX": "https://a.example/"}, None),
        ({"project/uv.toml": 'index-url = "https://a.example/"\nextra-index-url = ["https://b.example/"]'}, {}, None),
        ({"project/uv.toml": '[[index]]\nurl = "https://a.example/"\ndefault = true'}, {}, {"https://a.example/"}),
        ({"project/uv.toml": 'find-links = ["/wheels"]'}, {}, {"https://pypi.org/simple", "/wheels"}),
        ({}, {"PIP_NO_INDEX": "1"}, {"--no-index"}),
    ],
)
def test_the_places_that_are_asked_are_known_without_asking(
    find: Find, files: Mapping[str, str], variables: Mapping[str, str], places: set[str] | None
) -> None:
    found = find(files, **variables).places
    assert found == places if places else {"https://a.example/", "https://b.example/"} <= found
