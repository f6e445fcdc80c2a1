"""A worker plugin on its worker: how its setup ended, what it has set, and what its configuration may come from.

Workers are asked by name over Dask's own connection and answer with plain data. Neither what `register_plugin` returned
nor that a worker lists the plugin is trusted: a worker whose setup raised stays, lists the plugin and runs tasks
(https://github.com/dask/distributed/issues/8694). Nothing of the user's, of Python's or of Dask's configuration is
replaced here, so what a plugin reads is not known; variables and settings are compared instead. Python 3.9 and up.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import enum
import functools
import logging
import os
import re
import reprlib
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..shared import plain

if TYPE_CHECKING:
    from ..shared.facts import FoundValue, Origins, PluginFacts, PluginQuestion, PluginSetup

NOT_SET_UP = "pytest-modelops: a worker plugin ended its worker's start"
"""Begins a line in the log of a worker that did not survive a plugin, so that it cannot be asked."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200


def serve(worker: Any, *, registering: bool = False) -> None:
    """Record how each plugin's setup on this worker ends, and answer `modelops_probe`.

    Args:
        registering: whether this worker is being given all plugins of the cluster, of which this runs in the first.
    """
    setups: dict[str, PluginSetup] = {}
    if registering:
        logging.getLogger("distributed.worker").addHandler(_FailedSetups(worker, setups))
    threads = concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="modelops-probe")
    _record_setups(worker, setups)

    async def modelops_probe(plugin: str, question: PluginQuestion, **_: Any) -> PluginFacts:
        # Not on the event loop: a property of the user's may take its time.
        look_up = functools.partial(probe, worker, question["attributes"])
        return {
            "values": await asyncio.get_running_loop().run_in_executor(threads, look_up),
            "pid": os.getpid(),
            "listed": plugin in map(str, worker.plugins),
            "setup": setups.get(plugin) or (_of_registration(worker, plugin) if registering else None),
            "origins": origins(question),
        }

    worker.handlers["modelops_probe"] = modelops_probe


class _FailedSetups(logging.Handler):
    """Records what Dask logs of plugins whose setup was on its way before `plugin_add` was wrapped."""

    def __init__(self, worker: Any, setups: dict[str, PluginSetup]) -> None:
        super().__init__(logging.ERROR)
        self._worker, self._setups = worker, setups

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == "Worker plugin %s failed to setup" and record.args and record.exc_info:
            name, error = str(record.args[0]), record.exc_info[1]  # type: ignore[index] # Dask's arguments are a tuple
            if error is not None and name in map(str, self._worker.plugins):
                trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
                self._setups[name] = {"done": True, "error": error_text(error), "traceback": trace}


def _of_registration(worker: Any, plugin: str) -> PluginSetup | None:
    """Return how the setup of a plugin went that the worker was given when it registered; `None` if it was not.

    Dask starts the worker's heartbeat when all of these have ended.
    """
    if plugin not in map(str, worker.plugins):
        return None
    return {"done": worker.periodic_callbacks["heartbeat"].is_running(), "error": None, "traceback": ""}


def _record_setups(worker: Any, setups: dict[str, PluginSetup]) -> None:
    """Wrap the worker's `plugin_add`: on a worker that joins late, Dask only logs how a setup ended."""
    add = worker.plugin_add

    @functools.wraps(add)
    async def plugin_add(*args: Any, **kwargs: Any) -> Any:
        name = str(kwargs.get("name") or (args[1] if len(args) > 1 else ""))
        setup: PluginSetup = {"done": False, "error": None, "traceback": ""}
        setups[name] = setup
        try:
            answer = await add(*args, **kwargs)
        except BaseException as error:
            setup["error"], setup["traceback"] = error_text(error), traceback.format_exc()
            print(f"{NOT_SET_UP}: {name}\n{setup['traceback']}", file=sys.stderr, flush=True)  # noqa: T201
            raise
        finally:
            setup["done"] = True
        if isinstance(answer, dict) and "exception_text" in answer:
            setup["error"], setup["traceback"] = _error_of(answer)
        return answer

    worker.plugin_add = plugin_add
    if "plugin-add" in worker.handlers:
        worker.handlers["plugin-add"] = plugin_add


def _error_of(answer: Mapping[str, object]) -> tuple[str, str]:
    """Return error and traceback of Dask's message about an error, with causes where it holds the error itself."""
    from distributed.protocol import pickle

    with contextlib.suppress(Exception):  # of the user's class: it may be anything
        packed = answer["exception"]
        error = pickle.loads(getattr(packed, "data", packed))
        if isinstance(error, BaseException) and error.__traceback__ is not None:
            return error_text(error), "".join(traceback.format_exception(type(error), error, error.__traceback__))
    text = str(answer["exception_text"])
    return text, f"{answer.get('traceback_text') or ''}{text}\n"


def origins(question: PluginQuestion) -> Origins:
    """Return what a plugin's configuration may come from, in this process."""
    from dask import config

    def concerns(name: str) -> bool:
        return any(is_named_like(name, attribute) for attribute in question["attributes"])

    # No others: their values may be secrets.
    names = [*question["variables"], *filter(concerns, os.environ)]
    variables = {name: os.environ.get(name) for name in names}
    settings = {key: _SHORT.repr(value) for key, value in _leaves(config.config) if concerns(key)}
    return {"variables": variables, "settings": settings}


def _leaves(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def is_named_like(name: str, attribute: str) -> bool:
    """Return whether a name ends like an attribute's: MODELOPS_EXECUTOR_TYPE, acme.executor-type, x.executor_type."""
    last = attribute.rpartition(".")[2].strip("_").lower()
    return bool(last) and ("_" + re.sub(r"[.-]", "_", name.lower())).endswith(f"_{last}")


def probe(worker: Any, attributes: Sequence[str]) -> dict[str, FoundValue]:
    """Look up dotted paths of the worker. A step is an attribute, or else a key of a mapping."""
    return {attribute: _look_up(worker, attribute) for attribute in attributes}


def _look_up(worker: Any, attribute: str) -> FoundValue:
    value = worker
    walked: list[str] = []
    for step in attribute.split("."):
        try:
            value = value[step] if isinstance(value, Mapping) and step in value else getattr(value, step)
        except AttributeError:
            return {"missing": step, "of": ".".join(walked), "type": class_of(value)}
        except Exception as error:  # noqa: BLE001 - a property of the user's; it is the answer
            return {"raised": error_text(error), "step": step, "of": ".".join(walked)}
        walked.append(step)
    found: FoundValue = {"type": class_of(value), "repr": _SHORT.repr(value)}  # safe where its own `repr` is broken
    simple = value.value if isinstance(value, enum.Enum) else value
    with contextlib.suppress(TypeError):
        found["plain"] = plain.pack(os.fspath(simple) if isinstance(simple, os.PathLike) else simple)
    return found


def class_of(value: object) -> str:
    """Return `module:Class`, as it would be configured."""
    kind = value if isinstance(value, type) else type(value)
    return f"{kind.__module__}:{kind.__qualname__}"


def error_text(error: BaseException) -> str:
    """Return `Type: text`."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
