"""A worker plugin in a cell: made in the client, watched while workers set it up, probed on each of them.

The probe is asked for by name over Dask's own connection and answered as plain data. It trusts neither what
`register_plugin` returned nor that a worker lists the plugin: a worker whose setup raised stays, lists it all the same
and runs tasks (https://github.com/dask/distributed/issues/8694). Python 3.9 and up.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import enum
import functools
import importlib
import os
import reprlib
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..shared import plain

NOT_SET_UP = "pytest-modelops: a worker plugin ended its worker's start"
"""Begins a line in the log of a worker that did not survive a plugin, so that nobody can ask it."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200
_ENVIRON: Any = type(os.environ)


# What is read. ------------------------------------------------------------------------------------------------


class Reads:
    """What Python code of this process looked up while somebody watched.

    Attributes:
        variables: names of environment variables, be they there or not.
        settings: keys of Dask's configuration that others than Dask itself asked for: what they are, or `None` where
            they are not set and a default was taken.
    """

    def __init__(self) -> None:
        self.variables: set[str] = set()
        self.settings: dict[str, str | None] = {}

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return {"read": sorted(self.variables), "settings": dict(sorted(self.settings.items()))}


_watching: list[Reads] = []
_unwatched: list[Any] = []
"""Dask's own `config.get`, while it is watched."""
_lock = threading.Lock()


class _Watched(_ENVIRON):  # type: ignore[misc] # its type is private
    """`os.environ` while somebody watches it: what is looked up is noted, be it there or not."""

    def __getitem__(self, key: str) -> str:
        for noted in tuple(_watching):
            noted.variables.add(str(key))
        value: str = super().__getitem__(key)
        return value


def _watched(get: Any) -> Any:
    """`dask.config.get` while somebody watches it."""

    @functools.wraps(get)
    def watched(key: str, *args: Any, **kwargs: Any) -> Any:
        caller = str(sys._getframe(1).f_globals.get("__name__"))  # noqa: SLF001 - the way to know who asks
        of_the_callers_own = args[1:] or kwargs.keys() - {"default"}
        if not of_the_callers_own and caller.partition(".")[0] not in {"dask", "distributed"}:
            try:
                found: str | None = _SHORT.repr(get(key))
            except KeyError:
                found = None
            for noted in tuple(_watching):
                noted.settings[str(key)] = found
        return get(key, *args, **kwargs)

    return watched


@contextlib.contextmanager
def reads() -> Iterator[Reads]:
    """Note which environment variables and Dask settings this process's Python code looks up meanwhile."""
    from dask import config

    noted = Reads()
    with _lock:
        if not _watching:
            _unwatched.append(config.get)
            config.get, os.environ.__class__ = _watched(config.get), _Watched
        _watching.append(noted)
    try:
        yield noted
    finally:
        with _lock:
            _watching.remove(noted)
            if not _watching:
                config.get, os.environ.__class__ = _unwatched.pop(), _ENVIRON


# In the client. ----------------------------------------------------------------------------------------------


def make(path: str, arguments: Mapping[str, Any]) -> Any:
    """The plugin: an instance of the class `module:Class`, made here as a job's client makes it.

    Raises:
        TypeError: it is no plugin for workers. Besides, whatever the import or the class raises.
    """
    module, _, name = path.partition(":")
    kind: Any = importlib.import_module(module)
    for step in name.split("."):
        kind = getattr(kind, step)
    made = kind(**arguments)
    from distributed import WorkerPlugin

    if not isinstance(made, WorkerPlugin):
        raise TypeError(f"{path} is a {class_of(made)}, which is no distributed.WorkerPlugin")
    return made


def register(client: Any, plugin: Any, name: str) -> Any:
    """Register it as this Dask does; before 2023.9.2, the method had another name."""
    if hasattr(client, "register_plugin"):
        return client.register_plugin(plugin, name=name)
    return client.register_worker_plugin(plugin, name=name)


# On a worker. ------------------------------------------------------------------------------------------------


def serve(worker: Any) -> None:
    """Watch what becomes of the plugins that this worker is given, and answer `modelops_probe`."""
    setups: dict[str, dict[str, Any]] = {}
    threads = concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="modelops-probe")
    _watch(worker, setups)

    async def modelops_probe(plugin: str, paths: Sequence[str], variables: Sequence[str], **_: Any) -> Any:
        # Not on the event loop: a property of the user's may take its time.
        ask = functools.partial(probe, worker, paths)
        values = await asyncio.get_running_loop().run_in_executor(threads, ask)
        return {
            "pid": os.getpid(),
            "listed": plugin in map(str, worker.plugins),
            "setup": setups.get(plugin),
            "values": values,
            "variables": {name: os.environ.get(name) for name in variables},
        }

    worker.handlers["modelops_probe"] = modelops_probe


def _watch(worker: Any, setups: dict[str, dict[str, Any]]) -> None:
    """Have the worker's `plugin_add` note how each plugin's setup ended: Dask itself only logs it on a late worker."""
    add = worker.plugin_add

    @functools.wraps(add)
    async def plugin_add(*args: Any, **kwargs: Any) -> Any:
        name = str(kwargs.get("name") or (args[1] if len(args) > 1 else ""))
        reply: dict[str, Any] = {"done": False, "error": None, "traceback": "", **Reads().facts()}
        setups[name] = reply
        with reads() as noted:
            try:
                answer = await add(*args, **kwargs)
            except BaseException as error:
                reply.update(error=in_words(error), traceback=traceback.format_exc())
                print(f"{NOT_SET_UP}: {name}\n{reply['traceback']}", file=sys.stderr, flush=True)  # noqa: T201
                raise
            finally:
                reply.update(done=True, **noted.facts())
        if isinstance(answer, dict) and "exception_text" in answer:
            reply.update(_error_of(answer))
        return answer

    worker.plugin_add = plugin_add
    if "plugin-add" in worker.handlers:
        worker.handlers["plugin-add"] = plugin_add


def _error_of(answer: Mapping[str, Any]) -> dict[str, str]:
    """What Dask's message about an error says, with causes and frames where the error itself is in it."""
    from distributed.protocol import pickle

    with contextlib.suppress(Exception):  # of the user's class: it may be anything
        packed = answer["exception"]
        error = pickle.loads(getattr(packed, "data", packed))
        if isinstance(error, BaseException) and error.__traceback__ is not None:
            trace = traceback.format_exception(type(error), error, error.__traceback__)
            return {"error": in_words(error), "traceback": "".join(trace)}
    text = str(answer["exception_text"])
    return {"error": text, "traceback": f"{answer.get('traceback_text') or ''}{text}\n"}


def probe(worker: Any, paths: Sequence[str]) -> dict[str, Any]:
    """What stands at each of these dotted paths of the worker, as plain data.

    A step is an attribute, or else a key of a mapping. Each gives `{"class", "repr"}` and, where it is plain data,
    `{"plain"}`; or `{"missing": which step, "of": path before it, "class": of what is there}`; or `{"raised": words}`.
    """
    return {path: _look_up(worker, path) for path in paths}


def _look_up(worker: Any, path: str) -> dict[str, Any]:
    value = worker
    walked: list[str] = []
    for step in path.split("."):
        try:
            value = value[step] if isinstance(value, Mapping) and step in value else getattr(value, step)
        except AttributeError:
            return {"missing": step, "of": ".".join(walked), "class": class_of(value)}
        except Exception as error:  # noqa: BLE001 - a property of the user's; it is the answer
            return {"raised": in_words(error), "step": step, "of": ".".join(walked)}
        walked.append(step)
    return _described(value)


def _described(value: Any) -> dict[str, Any]:
    reply = {"class": class_of(value), "repr": _SHORT.repr(value)}  # also of what has a broken `repr`
    simple = value.value if isinstance(value, enum.Enum) else value
    with contextlib.suppress(TypeError):
        reply["plain"] = plain.pack(os.fspath(simple) if isinstance(simple, os.PathLike) else simple)
    return reply


def class_of(value: Any) -> str:
    """`module:Class`, as it would be configured."""
    kind = value if isinstance(value, type) else type(value)
    return f"{kind.__module__}:{kind.__qualname__}"


def in_words(error: BaseException) -> str:
    """`Type: text`."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
