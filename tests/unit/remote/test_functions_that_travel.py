"""Functions that arrive in the client as source go on to workers, whatever a decorator has made of them."""

from __future__ import annotations

import functools
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

from pytest_modelops.remote.client.tasks import define
from pytest_modelops.shipping import ship


@functools.lru_cache(maxsize=8)
def cached(x: int) -> int:
    return x * x


@functools.cache
def cached_too(x: int) -> int:
    return cached(x) + 1


@functools.wraps(cached.__wrapped__)
def traced(x: int) -> int:
    return cached.__wrapped__(x)


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


@logged
@functools.lru_cache
def both(x: int) -> int:
    return x * x


def uses(x: int) -> int:
    return cached(x) + int(both(x))


def plain(x: int) -> int:
    return x + 1


_WORKER = "import json, pickle, sys; print(json.dumps(pickle.load(sys.stdin.buffer)(7)))"


@pytest.mark.parametrize(
    ("function", "expected"), [(cached, 49), (cached_too, 50), (traced, 49), (both, 49), (uses, 98), (plain, 8)]
)
def test_a_decorated_function_travels_to_another_process(function: Callable[..., Any], expected: int) -> None:
    shipped = ship(function)
    pickled = cloudpickle.dumps(define({"source": shipped.source, "name": shipped.name}))
    done = subprocess.run([sys.executable, "-c", _WORKER], input=pickled, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == expected


def test_what_can_travel_as_it_is_does_so() -> None:
    """Workers then run what the client has compiled, as with a job's functions."""
    shipped = ship(plain)
    function = define({"source": shipped.source, "name": shipped.name})
    assert function.__code__.co_consts[-1] == 1
    assert pickle.loads(cloudpickle.dumps(function))(1) == 2
