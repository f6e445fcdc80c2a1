"""Plain data: what passes, what comes back, and the message about what does not pass."""

from __future__ import annotations

import collections
import enum
import json
import math
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_modelops.remote.shared import plain

if TYPE_CHECKING:
    from collections.abc import Hashable

HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters())
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)
PLAIN = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(HASHABLE, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=4)
    ),
    max_leaves=20,
)


TWICE = [1]


def through_json(value: object) -> Any:
    """What arrives when a value is packed, written, read and unpacked."""
    return plain.unpack(json.loads(json.dumps(plain.pack(value), allow_nan=False)))


def exactly(value: Any) -> Hashable:
    """Tells apart what `==` does not: 1, True and 1.0; 0.0 and -0.0; the order of a dict."""
    kind = type(value)
    if kind in {list, tuple}:
        return kind, tuple(exactly(item) for item in value)
    if kind in {set, frozenset}:
        return kind, frozenset(exactly(item) for item in value)
    if kind is dict:
        return kind, tuple((exactly(key), exactly(item)) for key, item in value.items())
    return kind, repr(value)


@given(PLAIN)
def test_plain_data_comes_back_exactly_as_it_was(value: object) -> None:
    assert exactly(through_json(value)) == exactly(value)


@pytest.mark.parametrize(
    "value",
    [
        math.inf,
        -math.inf,
        math.nan,
        -0.0,
        5e-324,
        complex(math.nan, -math.inf),
        complex(-0.0, -0.0),
        [1, True, 1.0],
        "\ud800",  # a file name that is not UTF-8
        "\ud83d\ude00",  # two halves, which JSON's escapes would join
        b"\x00\xff",
        set(),
        frozenset({(1, frozenset())}),
        {None: 1, (1, 2): {"int": "0x1"}, 1.5: [], b"k": {"set": [1]}},
        {"b": 1, "a": 2},
        [TWICE, TWICE],  # not a cycle
    ],
    ids=repr,
)
def test_what_json_alone_would_change_comes_back(value: object) -> None:
    assert exactly(through_json(value)) == exactly(value)


def test_integers_have_no_longest() -> None:
    for value in (2**64, -(2**64), 10**5000, -(7**9000)):
        assert through_json(value) == value


def test_simple_data_reads_the_same_in_json() -> None:
    value = [None, True, 1, -1.5, "é", ["a"]]
    assert plain.pack(value) == value


def test_the_packed_form_holds_nothing_of_the_value() -> None:
    value = [[1]]
    plain.pack(value)[0].append(2)
    assert value == [[1]]


class Point(NamedTuple):
    x: int


class Colour(enum.IntEnum):
    RED = 1


class Plainish(float):
    pass


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Plainish(1.0), r"argument 2 is a \S*\.Plainish: .*no subclass.*convert it with float\(…\)"),
        ({"a": [Plainish(1.0)]}, r"argument 2\['a'\]\[0\] is a \S*\.Plainish"),
        (({"a": 1, 3: (0, Colour.RED)},), r"argument 2\[0\]\[3\]\[1\] is a \S*\.Colour: .*int\(…\)"),
        ([0, Point(1)], r"argument 2\[1\] is a \S*\.Point: .*tuple\(…\)"),
        ({Point(1): 1}, r"argument 2 \(a key\) is a \S*\.Point"),
        ({(1, Colour.RED): 1}, r"argument 2 \(a key\)\[1\] is a \S*\.Colour"),
        ([{Colour.RED}], r"argument 2\[0\] \(an element\) is a \S*\.Colour"),
        (collections.OrderedDict(a=1), r"argument 2 is a collections\.OrderedDict: .*dict\(…\)"),
        (object(), r"argument 2 is a object: only plain data travels \(None, bool, int, float, .*dict\)"),
        (bytearray(b"a"), r"argument 2 is a bytearray"),
        ([len], r"argument 2\[0\] is a builtin_function_or_method"),
    ],
)
def test_what_is_not_plain_is_refused_with_its_type_and_place(value: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        plain.pack(value, "argument 2")


def test_data_that_contains_itself_is_refused() -> None:
    items: list[object] = [1]
    items.append({"again": items})
    with pytest.raises(TypeError, match=r"value\[1\]\['again'\] is the list that it is in: .*contains itself"):
        plain.pack(items)


def test_data_may_be_as_deep_as_promised_and_no_deeper() -> None:
    value: object = []
    for _ in range(plain.MAX_DEPTH - 1):
        value = (value,)
    assert exactly(through_json(value)) == exactly(value)
    with pytest.raises(TypeError, match=f"is nested more than {plain.MAX_DEPTH} deep"):
        plain.pack([value])


@pytest.mark.parametrize(
    "packed",
    [
        {},
        {"a": 1},
        {"int": "0x1", "float": "nan"},
        {"int": "many"},
        {"int": 1},
        {"bytes": "*"},
        {"dict": [[1], []]},
        {"dict": [[[1]], [1]]},
        {"tuple": 1},
    ],
    ids=repr,
)
def test_what_was_never_packed_is_refused(packed: object) -> None:
    with pytest.raises(TypeError):
        plain.unpack(packed)


def test_a_cell_needs_nothing_but_the_file() -> None:
    """It is copied there: no package of ours around it, no packages at all."""
    program = (
        "import json, runpy, sys\n"
        "plain = runpy.run_path(sys.argv[1])\n"
        "print(json.dumps(plain['pack'](plain['unpack'](json.loads(sys.argv[2])))))"
    )
    packed = json.dumps(plain.pack({(1, 2): {1.5}, "inf": math.inf}))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, plain.__file__, packed],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == (packed, "")
