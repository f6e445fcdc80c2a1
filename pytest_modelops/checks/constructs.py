"""One small function of each kind of construct: bytecode of another Python may run one and crash at the next.

Each takes 41 and returns 42, as the check's lambda does. They travel as source and are compiled by the client's Python.
"""

# No `from __future__ import annotations`: annotations are a construct, too.

import functools
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from packaging.version import Version

from pytest_modelops.shipping import Shipped, ship

NAME = "constructs"
"""Name of the function that calls all others."""


def loop(x: int) -> int:
    for step in range(3):
        if step == 1:
            x += step
    while x > 42:
        x -= 1
    return x


def comprehension(x: int) -> int:
    squares = {n: n * n for n in range(4)}
    return x + sum([squares[n] for n in squares if n == 1]) + len({n for n in squares if n > 9})


def closure(x: int) -> int:
    count = 0

    def add(n: int) -> int:
        nonlocal count
        count += n
        return x + count

    return add(1)


def defaults(x: int) -> int:
    def add(a: int, b: int = 1, *rest: int, c: int, **more: int) -> int:
        return a + b + c - 1 + sum(rest) + more.get("d", 0)

    more = {"d": 0}
    return add(x, 0, *[0], c=2, **more)


def attempt(x: int) -> int:
    nothing: dict[int, int] = {}
    try:
        x = nothing[x]
    except KeyError as error:
        x = int(error.args[0]) + 1
    finally:
        x += 0
    return x


def context(x: int) -> int:
    import contextlib

    @contextlib.contextmanager
    def adding(n: int) -> "Iterator[int]":
        yield x + n

    with adding(1) as answer, contextlib.suppress(ValueError):
        raise ValueError(answer)
    return answer


def generator(x: int) -> int:
    def numbers() -> "Iterator[int]":
        yield 1
        yield from (n for n in (x,))

    return sum(numbers())


def coroutine(x: int) -> int:
    import asyncio

    async def one() -> int:
        return 1

    async def add() -> int:
        return x + await one()

    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(add())
    finally:
        loop.close()


def nested_class(x: int) -> int:
    class Base:
        def add(self, n: int) -> int:
            return x + n

    class Adder(Base):
        def add(self, n: int) -> int:
            return super().add(n)

    return Adder().add(1)


def data_class(x: int) -> int:
    import dataclasses

    @dataclasses.dataclass(frozen=True)
    class Pair:
        a: int
        b: int = 1

    return sum(dataclasses.astuple(Pair(x)))


def unpacking(x: int) -> int:
    first, *rest = [x, *(1, 0)]
    return first + sum(rest) if (text := f"{first!r:>4}").strip() == "41" and text else 0


def annotations(x: int) -> int:
    def add(a: int, b: "int" = 1) -> int:
        return a + b

    return add(x) if set(add.__annotations__) == {"a", "b", "return"} else 0


_MATCH = textwrap.dedent("""
    def match(x):
        match {"x": x, "rest": [1, 2]}:
            case {"x": int(a), "rest": [b, *_]} if a > b:
                return a + b
            case _:
                return 0
    """).strip()
"""As text: syntax of Python 3.10, which an older client cannot compile."""
_NEWEST, _NEWEST_SINCE = "`match`", Version("3.10")

_KINDS: Mapping[str, Callable[[int], int]] = {
    "loop": loop,
    "comprehension": comprehension,
    "closure": closure,
    "defaults and keywords": defaults,
    "`try`": attempt,
    "`with`": context,
    "generator": generator,
    "coroutine": coroutine,
    "nested class": nested_class,
    "dataclass": data_class,
    "unpacking": unpacking,
    "annotations": annotations,
}


def kinds(python: Version) -> Mapping[str, Shipped]:
    """Return a function of each kind of construct that a client with this Python can compile."""
    return {kind: one for kind, one in all_kinds().items() if kind != _NEWEST or python >= _NEWEST_SINCE}


@functools.cache
def all_kinds() -> Mapping[str, Shipped]:
    """Return a function of each kind of construct."""
    made: dict[str, Any] = {**_KINDS, _NEWEST: _MATCH}
    shipped = {kind: ship(function) for kind, function in made.items()}
    return {
        kind: Shipped(one.source.removeprefix("from __future__ import annotations\n"), one.name, one.label)
        for kind, one in shipped.items()
    }


def together(of_kind: Mapping[str, Shipped]) -> Shipped:
    """Return one function that calls all of them and returns the values by kind: a healthy worker needs one task."""
    calls = ", ".join(f"{kind!r}: {one.name}(x)" for kind, one in of_kind.items())
    source = "".join(one.source for one in of_kind.values())
    return Shipped(f"{source}def {NAME}(x):\n    return {{{calls}}}\n", NAME, "a function of each kind of construct")
