"""Parsing and compiling Python of others, without its warnings.

Its owner sees them elsewhere, and under `pytest -W error` they would be errors here.
"""

from __future__ import annotations

import ast
import types
import warnings

_FILE = "<not of pytest-modelops>"


def syntax_tree(source: str | bytes, feature_version: tuple[int, int] | None = None) -> ast.Module:
    """Return a syntax tree, without warnings such as of an invalid escape.

    Args:
        feature_version: the Python, X and Y, that the syntax must suit, as far as the parser knows; `None` for any.

    Raises:
        SyntaxError: it is not valid Python.
        ValueError: it has NUL characters, in Python 3.10 and 3.11.
    """
    _silence()
    return ast.parse(source, _FILE, feature_version=feature_version)


def compiled(source: str | ast.Module, optimize: int = -1) -> types.CodeType:
    """Return the code of a module, without warnings.

    Raises:
        SyntaxError: it is not valid Python.
    """
    _silence()
    code: types.CodeType = compile(source, _FILE, "exec", dont_inherit=True, optimize=optimize)
    return code


def _silence() -> None:
    """Have warnings of this file ignored.

    Not by `warnings.catch_warnings`: cells are checked in threads, which would restore each other's state.
    """
    warnings.filterwarnings("ignore", module=_FILE)
