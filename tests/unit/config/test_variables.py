"""Variables of a cell: the host's in them, and what is never shown."""

from __future__ import annotations

import json

import pytest

from pytest_modelops.config.variables import Secrets, expanded, in_cell, is_secret
from pytest_modelops.errors import WrongInput

HOST = {"LICENSE": "lic-4711-xyz", "SITE": "north", "HOME": "/home/ann", "PIN": "7"}


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *((name, True) for name in ("API_TOKEN", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "my_credentials")),
        *((name, True) for name in ("SSH_KEY_FILE", "APIKEY", "TOKENS", "DB_PWD", "HTTP_COOKIE")),
        *((name, False) for name in ("PWD", "DASK_TOKENIZE__ENSURE_DETERMINISTIC", "TOKENIZERS_PARALLELISM")),
        *((name, False) for name in ("MONKEY", "KEYBOARD", "AUTHOR", "BYPASS", "OMP_NUM_THREADS")),
    ],
)  # fmt: skip
def test_a_name_says_whether_its_value_is_secret(name: str, secret: bool) -> None:
    assert is_secret(name) is secret


def test_the_host_s_variables_are_filled_in_and_other_braces_stay() -> None:
    assert expanded('{"a": {env:SITE}} {x}', HOST) == '{"a": north} {x}'
    assert in_cell({"STORE": "{cell-dir}/store"}, "/cell") == {"STORE": "/cell/store"}
    with pytest.raises(WrongInput, match=r"\{env:NOT_THERE\}: this machine has no variable NOT_THERE"):
        expanded("{env:NOT_THERE}", HOST)
    with pytest.raises(WrongInput, match="'A B' is not a variable's name"):
        expanded("{env:A B}", HOST)


def test_secrets_are_hidden_wherever_they_are_quoted() -> None:
    secrets = Secrets.of(
        {"LICENSE_FOR_CELL": "key {env:LICENSE}", "DB_PASSWORD": 'it\'s "odd"\\', "PLAIN": "visible"}, HOST
    )
    odd = 'it\'s "odd"\\'
    text = f"failed with lic-4711-xyz, {HOST['LICENSE']!r}, {odd!r}, {json.dumps(odd)}, {odd}, visible"
    hidden = secrets.hide(text)
    assert "4711" not in hidden
    assert "odd" not in hidden
    assert hidden.endswith("visible")


def test_each_line_of_a_long_secret_is_hidden() -> None:
    secrets = Secrets.of({"PRIVATE_KEY": "-----BEGIN-----\nabcdefgh12345\n-----END-----"}, {})
    assert "abcdefgh" not in secrets.hide("it read\n    abcdefgh12345\nand failed")


def test_a_short_or_ordinary_value_is_hidden_beside_its_name_only() -> None:
    secrets = Secrets.of({"CELL_PIN": "{env:PIN}", "CELL_HOME": "{env:HOME}", "USE_TOKEN": "true"}, HOST)
    assert (
        secrets.hide("7 of 7 workers, CELL_PIN='7', {'CELL_PIN': '7'}")
        == "7 of 7 workers, CELL_PIN='[…]', {'CELL_PIN': '[…]'}"
    )
    assert secrets.hide("Full log: /home/ann/x.log; CELL_HOME=/home/ann") == "Full log: /home/ann/x.log; CELL_HOME=[…]"
    assert secrets.hide("it is true that USE_TOKEN=true") == "it is true that USE_TOKEN=[…]"


def test_a_report_s_data_hold_no_secret() -> None:
    secrets = Secrets.of({"PIN_KEY": "{env:PIN}", "T": "{env:LICENSE}"}, HOST)
    plain = {"variables": {"PIN_KEY": "7", "N": "7"}, "lines": ("a lic-4711-xyz", 7)}
    assert secrets.hide_in(plain) == {"variables": {"PIN_KEY": "[…]", "N": "7"}, "lines": ("a […]", 7)}


def test_of_what_is_passed_on_only_secrets_are_hidden() -> None:
    host = {"A_TOKEN": "t-1234567", "LANG": "C.UTF-8", "DB": "postgres://ann:pa55wort@db/x", "ODD": "{env:NOT_THERE}"}
    secrets = Secrets.passed(host, host)
    assert secrets.hide("t-1234567 C.UTF-8 ann:pa55wort@db {env:NOT_THERE}") == "[…] C.UTF-8 ann:[…]@db {env:NOT_THERE}"


def test_the_beginning_of_a_secret_at_the_end_of_a_shortened_line_is_hidden() -> None:
    secrets = Secrets.of({"API_TOKEN": "abcdefghijklmnopqrstuvwxyz"}, {})
    assert secrets.hide("it read abcdefghijklmnopqrst") == "it read […]"
    assert secrets.hide("abcdefghijklmnop…, then abcdefghijklmnopqrstuvwxyz") == "[…]…, then […]"
    assert secrets.hide("abcdefgh") == "abcdefgh"
