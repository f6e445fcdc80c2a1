"""Loaded into every scheduler, nanny and worker by Dask's own `--preload`, so that the process can say what it runs.

The facts are asked for by name over Dask's own connection and answered as plain data, so they also arrive where
functions cannot be sent (another Python at the other end). This file imports none of ours, and its name is unique,
because Dask imports it as a top-level module. Python 3.9 and up.
"""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import importlib
import importlib.util
import os
import platform
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..shared.diagnosis_messages import SchedulerView, WorkerView
    from ..shared.facts import ConfigValue, PreloadSetup, ProcessFacts, TaskCount

# Real-time signals are those that neither Dask nor its users' code is likely to use; macOS has none.
_REAL_TIME = int(getattr(signal, "SIGRTMIN", 0))
_STACKS_SIGNAL = _REAL_TIME and _REAL_TIME + 6
_FORCED_STACKS_SIGNAL = _REAL_TIME + 7 if _REAL_TIME else int(signal.SIGUSR2)


def print_stacks_into(file: IO[str]) -> None:
    """Have this process print its stacks there on either signal; see `ProcessFacts`.

    The forced one is for a thread that holds the GIL for ever, or a main thread that does not return to Python.
    """
    faulthandler.register(_FORCED_STACKS_SIGNAL, file=file, all_threads=True, chain=False)

    def modelops_stacks(*_: Any) -> None:
        faulthandler.dump_traceback(file, all_threads=True)

    if _STACKS_SIGNAL and threading.current_thread() is threading.main_thread():  # Python's condition
        signal.signal(_STACKS_SIGNAL, modelops_stacks)


print_stacks_into(sys.stderr)


def _version_of(name: str) -> str | None:
    """Return a package's version as this process has imported it, else as it is installed."""
    module = sys.modules.get(name)
    version = getattr(module, "__version__", None) or getattr(module, "version", None)
    if isinstance(version, tuple):
        return ".".join(map(str, version))
    if isinstance(version, str):
        return version
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _configured(names: Sequence[str]) -> dict[str, ConfigValue]:
    """Compare each setting that a `DASK_…` variable asks for with Dask's configuration in this process."""
    import dask

    found: dict[str, ConfigValue] = {}
    for name in names:
        asked = dask.config.collect_env({name: os.environ[name]}) if name in os.environ else {}
        for key, value in _leaves(asked):
            found[key] = {"asked": repr(value), "actual": repr(dask.config.get(key, None))}
    return found


def _leaves(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, prefix + key + ".")
        else:
            yield prefix + key, value


def facts(variables: Sequence[str] = ()) -> ProcessFacts:
    """Return what this process runs, and these environment variables."""
    return {
        "pid": os.getpid(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "packages": {name: _version_of(name) for name in ("dask", "distributed", "cloudpickle", "msgpack", "tornado")},
        "variables": {name: os.environ.get(name) for name in variables},
        "config": _configured([name for name in variables if name.startswith("DASK_")]),
        "stacks_signal": _STACKS_SIGNAL if _STACKS_SIGNAL and callable(signal.getsignal(_STACKS_SIGNAL)) else 0,
        "forced_stacks_signal": _FORCED_STACKS_SIGNAL,
    }


def _beside(module: str) -> Any:
    """Import a module of this package on a worker; `sys.path` stays as it is.

    Dask copies a preload before it imports it, so this file cannot find the others by its own path.
    """
    if "modelops_remote" not in sys.modules:
        here = os.path.join(os.environ["PYTEST_MODELOPS_REMOTE"], "modelops_remote")
        spec = importlib.util.spec_from_file_location(
            "modelops_remote", os.path.join(here, "__init__.py"), submodule_search_locations=[here]
        )
        assert spec is not None and spec.loader is not None  # noqa: S101, PT018
        package = sys.modules["modelops_remote"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(package)
    return importlib.import_module(f"modelops_remote.{module}")


def _load_configured(server: Any) -> None:
    """Load the preloads of Dask's configuration, which Dask ignores where its command line has one, as ours always is.

    If the user's own arguments have one, Dask ignores them in production, too.
    """
    import dask
    from distributed import Nanny, preloading

    if isinstance(server, Nanny) or len(server.preloads) != 1:
        return  # nor does Dask's command line load those that are configured for nannies
    kind = "worker" if hasattr(server, "nanny") else "scheduler"
    names = dask.config.get(f"distributed.{kind}.preload", None)
    if not names:
        return
    argv = dask.config.get(f"distributed.{kind}.preload-argv", None) or []
    directory = getattr(server, "local_directory", None)
    # Dask starts them after this one, because it is on its way through this list.
    loaded = getattr(server.preloads, "_preloads", server.preloads)
    loaded.extend(preloading.process_preloads(server, names, argv, file_dir=directory))


def _watch_preloads(server: Any) -> list[PreloadSetup]:
    """Record how the setup of each preload after this one ends, which Dask only logs."""
    setups: list[PreloadSetup] = []
    try:
        _load_configured(server)
    except BaseException as error:  # noqa: BLE001 - it is reported
        setups.append(_setup_of("of Dask's configuration"))
        setups[-1]["done"] = True
        _note(setups[-1], error)
    for preload in server.preloads:
        if os.path.basename(preload.name) != os.path.basename(__file__):
            name = preload.name.strip().partition("\n")[0]  # it may be the text of a module
            setup = _setup_of(name)
            setups.append(setup)
            preload.start = functools.partial(_watched, preload.start, setup)
    return setups


def _setup_of(name: str) -> PreloadSetup:
    return {"name": name, "done": False, "error": "", "traceback": "", "uncaught": False}


async def _watched(start: Any, setup: PreloadSetup) -> None:
    try:
        await start()
    except BaseException as error:
        _note(setup, error)
        # What Dask does not catch would end this process before it is asked.
        if isinstance(error, (Exception, asyncio.CancelledError, GeneratorExit)):
            raise
    finally:
        setup["done"] = True


def _note(setup: PreloadSetup, error: BaseException) -> None:
    """Record an error and its traceback, without the frames of this file and of Dask above the preload's own."""
    trace = error.__traceback__
    above = (os.path.basename(__file__), "preloading.py")
    while trace and trace.tb_next and os.path.basename(trace.tb_frame.f_code.co_filename) in above:
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace))
    setup["error"], setup["traceback"] = f"{type(error).__name__}: {error}".rstrip(": "), text
    setup["uncaught"] = not isinstance(error, Exception)


def _serve_faults(server: Any) -> None:
    """Answer what is asked when a fault is to happen; see `cluster/faults.py`."""

    def modelops_count(operation: str, **_: Any) -> TaskCount:
        counts: TaskCount = _beside("worker.counting").count(server, operation)
        return counts

    def modelops_fill_memory(most: int, **_: Any) -> bool:
        return bool(_beside("worker.filling").fill_memory(most))

    if hasattr(server, "nanny"):
        server.handlers["modelops_fill_memory"] = modelops_fill_memory
    else:
        server.handlers["modelops_count"] = modelops_count


def dask_setup(server: Any) -> None:
    """Serve; Dask calls this with the scheduler, the nanny or the worker, before it calls other preloads."""
    serve(server, _watch_preloads(server))


def serve(server: Any, setups: list[PreloadSetup], *, registering: bool = False) -> None:
    """Answer `modelops_facts`, and on a worker everything else.

    Args:
        setups: how the setup of each preload goes.
        registering: whether this is called by a worker plugin instead of a preload.
    """

    def modelops_preloads(**_: Any) -> list[PreloadSetup]:
        return setups

    def modelops_facts(variables: Sequence[str] = (), **_: Any) -> ProcessFacts:
        answer = facts(variables)
        if hasattr(server, "nanny"):
            state = getattr(server, "state", server)
            answer["settings"] = {
                "threads": getattr(state, "nthreads", None),
                "nanny": server.nanny is not None,
                "name": str(server.name),
                "resources": dict(getattr(state, "total_resources", {})),
            }
        return answer

    def modelops_running(**_: Any) -> list[str]:
        # Keys of the tasks that threads are on, including those that have seceded or are not awaited any more.
        state = getattr(server, "state", server)
        tasks = [*getattr(state, "executing", ()), *getattr(state, "long_running", ())]
        return [str(getattr(task, "key", task)) for task in tasks]

    def modelops_wanted(clients: Sequence[str], **_: Any) -> list[str]:
        # Keys of the tasks that these clients want, and of those that these need.
        waiting = [task for name in clients if name in server.clients for task in server.clients[name].wants_what]
        wanted = {}
        while waiting:
            task = waiting.pop()
            if task.key not in wanted:
                wanted[task.key] = str(task.key)
                waiting += task.dependencies
        return [*wanted.values()]

    def modelops_pending(**_: Any) -> SchedulerView | WorkerView:
        pending = _beside("worker.pending")  # imported only after a deadline has passed
        said: SchedulerView | WorkerView = (pending.of_worker if hasattr(server, "nanny") else pending.of_scheduler)(
            server
        )
        return said

    _serve_faults(server)
    server.handlers["modelops_facts"] = modelops_facts
    server.handlers["modelops_pending"] = modelops_pending
    server.handlers["modelops_preloads"] = modelops_preloads
    serving = _beside("worker.serving")
    if hasattr(server, "nanny"):
        server.handlers["modelops_running"] = modelops_running
        bundles = server.modelops_bundles = _beside("worker.bundles").Bundles(str(server.name))  # for tasks, too
        serving.serve_bundles(server, lambda: bundles, serving.IN_WORKER)
        _beside("worker.plugins").serve(server, registering=registering)
    else:
        server.handlers["modelops_wanted"] = modelops_wanted
        # Imported only where a bundle goes into the scheduler.
        of_scheduler = functools.lru_cache(lambda: _beside("worker.bundles").Bundles("scheduler"))
        serving.serve_bundles(server, of_scheduler, serving.IN_SCHEDULER)
