"""Functions and values on their way into a cell: functions as source, values as plain data.

The host's bytecode is not the cell's, so a function travels as the text of a module of its own. Its text is cut out
of the file by the positions of the syntax tree and neither dedented nor printed anew, because both change strings
that span lines. What cannot travel is refused by name. Knows nothing of cells.
"""

from __future__ import annotations

import __future__

import ast
import builtins
import copy
import dataclasses
import dis
import functools
import importlib.metadata
import importlib.util
import inspect
import io
import itertools
import json
import linecache
import math
import os
import re
import sys
import textwrap
import tokenize
import types
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_modelops.errors import NotShippable
from pytest_modelops.incell import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_HEADER = "from __future__ import annotations\n"  # so that nothing that only annotations name has to travel
_NOT_IN_CELLS = frozenset({"pytest", "_pytest", "pytest_modelops"})
_OWN_NAMES = frozenset({"__name__", "__annotations__"})  # every module, and every class body, has its own
_FUTURES = functools.reduce(
    int.__or__, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)
_MISSING = object()
_Node = ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef


@dataclasses.dataclass(frozen=True)
class Shipped:
    """A function as the source of a module.

    Attributes:
        source: executed in an empty namespace, it defines `name`.
        name: what the module calls the function.
        label: what people call it: `double`, or a lambda's own text.
    """

    source: str
    name: str
    label: str


def ship(function: Callable[..., Any] | str, *, oldest: tuple[int, int] | None = None) -> Shipped:
    """Turn a function into source that defines it anew, with the functions and data of its module that it uses.

    Data travels as it is now. Modules, and what comes from the standard library or an installed distribution, are
    imported there; whether a cell has them is for the cell to say.

    Args:
        function: a function of Python source, or the text of one lambda expression or one `def`.
        oldest: the oldest Python that must be able to read it; `None` leaves that to the cell.

    Raises:
        NotShippable: it cannot travel, or something that it uses cannot; names what, why and what to do.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the user's source warns of was told when it was imported
        if not isinstance(function, str) and (shipped := _ship_library_function(function)):
            return shipped
        definition = _parse(function) if isinstance(function, str) else _find(function)
        module = _Module(oldest)
        module.define(definition.name, definition)
        if definition.is_generator:
            raise NotShippable(f"{definition.what} is a generator function, and no generator travels back: return a list")
        return Shipped(module.source, definition.name, definition.label)


def pack(value: Any, where: str = "value") -> Any:
    """Turn plain data into what `json` can write; messages call it `where`.

    Raises:
        NotShippable: something in it is not plain data; says what and where.
    """
    try:
        return plain.pack(value, where)
    except TypeError as error:
        raise NotShippable(str(error)) from None


def unpack(packed: Any) -> Any:
    """Return the value that `pack` made this of, here or in a cell.

    Raises:
        NotShippable: `pack` makes no such thing.
    """
    try:
        return plain.unpack(packed)
    except TypeError as error:
        raise NotShippable(str(error)) from None
