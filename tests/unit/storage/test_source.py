"""Python of others is parsed and compiled whatever it would have Python warn of."""

from __future__ import annotations

import ast
import threading
import warnings
from collections.abc import Callable

import pytest

from pytest_modelops.storage.source import compiled, syntax_tree

WARNED_OF = {
    "invalid escape": 'digits = "\\d"\n',
    "comparison": "same = 1 is 1\n",
    "assertion": 'assert (1, "always true")\n',
    "call": '"text"()\n',
}


@pytest.mark.parametrize("text", WARNED_OF.values(), ids=WARNED_OF)
@pytest.mark.parametrize("read", [syntax_tree, compiled, lambda text: compiled(syntax_tree(text))])
def test_what_python_warns_of_is_read_in_silence(read: Callable[[str], object], text: str) -> None:
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        assert read(text)
    assert not recorded
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(text)


def test_the_owner_of_the_source_still_sees_it() -> None:
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        syntax_tree(WARNED_OF["invalid escape"])
        compile(WARNED_OF["invalid escape"], "theirs.py", "exec")
    assert [one.filename for one in recorded] == ["theirs.py"]


def test_threads_leave_warnings_as_they_were() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        syntax_tree("")
        before = list(warnings.filters)
        threads = [threading.Thread(target=lambda: [syntax_tree('"\\d"') for _ in range(200)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(warnings.filters) == before


def test_what_is_not_python_is_an_error() -> None:
    for read in (syntax_tree, compiled):
        with pytest.raises(SyntaxError):
            read("def")
    with pytest.raises(SyntaxError):
        syntax_tree("match x:\n    case 1: pass\n", (3, 9))
    assert isinstance(syntax_tree(b"# coding: latin-1\nx = '\xe9'\n"), ast.Module)
