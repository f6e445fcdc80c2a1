"""A bundle's files as text, tables and syntax trees. What cannot be read is a `MalformedBundle` that names the file."""

from __future__ import annotations

import ast
import codecs
import configparser
import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pytest_modelops.errors import MalformedBundle
from pytest_modelops.storage.source import syntax_tree
from pytest_modelops.storage.toml import tomllib

Table = Mapping[str, object]
"""A TOML table or a JSON object, before its values are checked."""


@contextlib.contextmanager
def unreadable_is_malformed() -> Iterator[None]:
    """Turn a file or directory that cannot be read into a `MalformedBundle`."""
    try:
        yield
    except OSError as error:
        raise MalformedBundle(f"{error.filename} cannot be read: {error.strerror}") from None


def read_bytes(file: Path) -> bytes:
    with unreadable_is_malformed():
        return file.read_bytes()


_MARKS = {codecs.BOM_UTF32: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""Byte order marks, such as PowerShell writes; that of UTF-32 begins with one of UTF-16."""
_CODING = re.compile(rb"^[ \t]*#.*coding[:=]\s*([-\w.]+)")


def read_text(file: Path) -> str:
    """Decode UTF-8, what a byte order mark says, or what a comment in the first two lines says, as pip does."""
    content = read_bytes(file)
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8-sig")
    named = next(filter(None, map(_CODING.match, content.split(b"\n", 2)[:2])), None)
    if named and encoding == "utf-8-sig":
        encoding = named[1].decode()
    try:
        return content.decode(encoding)
    except LookupError:
        raise MalformedBundle(f"{file} says that it is in {encoding!r}, which is no encoding") from None
    except UnicodeError:
        raise MalformedBundle(f"{file} is not text in UTF-8; save it as such") from None


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the logical lines of a requirements file without comments, each with the number of its first."""
    pending, start = "", 1
    for number, line in enumerate([*text.splitlines(), ""], 1):
        start = start if pending else number
        # A comment ends a continued line, as in pip.
        without = re.sub(r"(^|\s)#.*$", "", line)
        pending += without.removesuffix("\\")
        if without.endswith("\\"):
            continue
        if pending.strip():
            yield start, pending.strip()
        pending = ""


_LONG = {"-r": "--requirement", "-c": "--constraint", "-e": "--editable", "-i": "--index-url", "-f": "--find-links"}


def option_of(text: str) -> tuple[str, str]:
    """Return an option's long name and its value, as in `-rfile`, `-r file`, `--requirement=file`."""
    match = re.match(r"(--[\w-]+|-[A-Za-z])[\s=]*(.*)", text, re.DOTALL)
    name, value = (match[1], match[2]) if match else (text, "")
    return _LONG.get(name, name), value.strip().strip("'\"")


def read_toml(file: Path) -> Table:
    try:
        return tomllib.loads(read_bytes(file).decode())
    except (ValueError, RecursionError) as error:
        raise MalformedBundle(f"{file} is not valid TOML: {error}") from None


def read_json(file: Path) -> Table:
    try:
        value = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise MalformedBundle(f"{file} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise MalformedBundle(f"{file} is not a JSON object, such as {{}}")
    return value


def parse_ini(text: str, where: str) -> configparser.ConfigParser:
    """Parse setup.cfg or entry_points.txt; `where` begins the message."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise MalformedBundle(f"{where} cannot be read: {str(error).splitlines()[0]}") from None
    return parser


def parse_python(file: Path, feature_version: tuple[int, int] | None = None) -> ast.Module | None:
    """Return a Python file's syntax tree, `None` if it is too deep for this Python's parser.

    `feature_version` is the Python, X and Y, that the syntax must suit, as far as the parser knows; `None` for any.
    """
    content = read_bytes(file)
    which = f" {feature_version[0]}.{feature_version[1]}" if feature_version else ""
    try:
        return syntax_tree(content, feature_version)
    except SyntaxError as error:
        raise MalformedBundle(f"{file}:{error.lineno or 1}: invalid Python{which}: {error.msg}") from None
    except ValueError as error:  # NUL characters, in Python 3.10 and 3.11
        raise MalformedBundle(f"{file}: invalid Python{which}: {error}") from None
    except (RecursionError, MemoryError):
        return None


def table(value: object, *keys: str) -> Table:
    """Return the table at a path of keys, an empty one if it is missing or something else."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
