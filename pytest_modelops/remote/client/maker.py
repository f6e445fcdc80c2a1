"""The maker: makes a cell's cluster with a Dask cluster class, and closes it. Many classes run the scheduler here.

It serves pytest over JSON-RPC on stdin and stdout, as the agent does. The main thread makes, scales and closes the
cluster. When stdin ends or SIGTERM arrives, pytest is gone: the cluster is closed, and the maker exits.
"""

from __future__ import annotations

import atexit
import base64
import concurrent.futures
import contextlib
import importlib
import importlib.util
import json
import operator
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Optional

from ..shared.cluster_messages import CloseReport, ClusterContact, ClusterQuestion
from ..shared.waiting import poll
from ..worker.plugins import class_of, error_text
from . import agent
from .connection import Failure
from .listings import Listing, Port, listings_of, mark

_POLL_SECONDS = 0.1
_CLOSE_SECONDS = 20.0
"""How long closing may take when pytest is gone."""
_FORCE_SECONDS = 5.0
"""How long before the end of that what is left is ended by force."""
_IN_PROCESS = "inproc://"
_FRAMES = 6
"""How many frames are shown of where the class's code stands, the innermost last."""


class Maker:
    """The cluster, and what pytest asks of it."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Optional[Callable[[], None]]] = queue.SimpleQueue()  # noqa: UP045 - Python 3.9
        self._made = threading.Event()
        self._making = False
        self._failure: Failure | None = None
        self._cluster: Any = None
        self._listings: list[Listing] = []
        self._report: CloseReport | None = None

    # In the main thread ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Do what the other threads ask for, until the cluster is closed for good."""
        signal.signal(signal.SIGTERM, self._on_signal)
        while True:
            with contextlib.suppress(KeyboardInterrupt):  # it came when the class had just made the cluster
                job = self._jobs.get()
                if job is None:
                    return
                job()

    def _on_signal(self, *_: Any) -> None:
        if self._making:
            raise KeyboardInterrupt  # so that the class ends what it has begun
        self._jobs.put(self._end)

    def _end(self) -> None:
        self._close(_CLOSE_SECONDS)
        self._jobs.put(None)

    def _in_main(self, function: Callable[[], Any]) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def job() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - who waits for it raises it
                future.set_exception(error)

        self._jobs.put(job)
        return future

    def _make(self, asked: ClusterQuestion) -> None:
        try:
            self._making = True
            self._cluster = self._called(asked)
            self._making = False
            address = self._address_of(asked)
            self._listings = listings_of(self._cluster, address)
            self._resize(asked["workers"], asked["maximum"])
            _write_contact(asked["contact"], address, getattr(self._cluster, "security", None))
        except Failure as failure:
            self._failure = failure
        except BaseException as error:  # noqa: BLE001 - a SystemExit of a class is reported too
            self._failure = Failure(
                f"{asked['path']} could not make a cluster: {error_text(error)}", traceback.format_exc()
            )
        finally:
            self._making = False
            self._made.set()

    def _called(self, asked: ClusterQuestion) -> Any:
        mark()
        return _found(asked["path"], asked["directory"])(**asked["options"])

    def _address_of(self, asked: ClusterQuestion) -> str:
        address = getattr(self._cluster, "scheduler_address", None)
        if not isinstance(address, str) or "://" not in address:
            raise Failure(f"{asked['path']} made a {class_of(self._cluster)}, which has no scheduler's address")
        if address.startswith(_IN_PROCESS):
            raise Failure(
                f"the scheduler that {asked['path']} made is at {address}, which no other process can reach; set "
                'processes = true, or protocol = "tcp", in its options'
            )
        return address

    def _resize(self, workers: int, maximum: int = 0) -> None:
        cluster = self._cluster
        there = len(getattr(cluster, "worker_spec", ()))
        if getattr(cluster, "new_spec", "none") is None and workers != there:
            raise Failure(
                f"its options give this cluster {there} workers, so it cannot have {workers}; set workers = {there}"
            )
        if maximum:
            cluster.adapt(minimum=workers, maximum=maximum)
        else:
            cluster.scale(workers)

    def _close(self, seconds: float) -> CloseReport:
        if self._report is not None or self._cluster is None:
            return self._report or {"left": [], "notes": []}
        end = time.monotonic() + seconds
        left, notes = [], []
        self._look()  # the cluster forgets what it has when it is closed
        try:
            if hasattr(self._cluster, "close"):  # it is what a class returned that makes no cluster
                self._cluster.close()
        except Exception as error:  # noqa: BLE001 - it is reported, with what is left
            notes.append(f"closing the cluster raised {error_text(error)}")
        for listing in self._listings:
            there = _gone(listing, min(time.monotonic() + listing.seconds, end - _FORCE_SECONDS))
            if there and listing.end():
                notes.append(f"ended by force, since closing the cluster left it: {'; '.join(there)}")
                there = _gone(listing, end)
            left += there
        self._report = {"left": left, "notes": notes}
        return self._report

    # What pytest calls -----------------------------------------------------------------------------------------------

    def make(self, question: ClusterQuestion) -> bool:
        """Begin to make the cluster."""
        self._in_main(lambda: self._make(question))
        return True

    def made(self, seconds: float) -> bool:
        """Wait until it is made; raises `Failure` if it cannot be."""
        self._made.wait(seconds)
        if self._failure is not None:
            raise self._failure
        return self._made.is_set()

    def scale(self, workers: int, seconds: float) -> bool:
        """Have so many workers from now on."""
        self._result(self._in_main(lambda: self._resize(workers)), "scaling it", seconds)
        return True

    def stands(self) -> str:
        """Return where the main thread stands, which is in the class's code while that runs."""
        frames = traceback.extract_stack(sys._current_frames()[threading.main_thread().ident or 0])  # noqa: SLF001
        return "\n".join(f'    File "{one.filename}", line {one.lineno} in {one.name}' for one in frames[-_FRAMES:])

    def _result(self, job: concurrent.futures.Future[Any], what: str, seconds: float) -> Any:
        try:
            return job.result(seconds)
        except concurrent.futures.TimeoutError:
            raise TimeoutError(f"{what} has not ended after {seconds:g} s; it stands at\n{self.stands()}") from None

    def look(self, seconds: float) -> list[str]:
        """Return what the cluster's engine lists of it, for people."""
        found: list[str] = []
        _within(lambda: found.extend(self._look()), seconds)
        return found

    def _look(self) -> list[str]:
        found = []
        for listing in self._listings:
            if not isinstance(listing, Port):  # Dask would log the connection
                with contextlib.suppress(Exception):  # nothing is proven by it
                    found += listing.active() or [listing.nothing]
        return found

    def logs(self, seconds: float) -> dict[str, str]:
        """Return what the class's own `get_logs` returns. Dask's, which asks the workers, is left to the agent."""
        found: dict[str, str] = {}

        def ask() -> None:
            from distributed.deploy.cluster import Cluster

            if getattr(type(self._cluster), "get_logs", Cluster.get_logs) is not Cluster.get_logs:
                with contextlib.suppress(Exception):  # there are others
                    found.update({str(name): str(text) for name, text in self._cluster.get_logs().items()})

        _within(ask, seconds)
        return found

    def close(self, seconds: float) -> CloseReport:
        """Close the cluster and look whether its engine still has anything of it."""
        if self._making:
            os.kill(os.getpid(), signal.SIGTERM)
        report: CloseReport = self._result(self._in_main(lambda: self._close(seconds)), "closing it", seconds)
        return report

    def leave(self) -> None:
        """Close it, if it is not closed, and have `run` return."""
        if self._making:
            os.kill(os.getpid(), signal.SIGTERM)
        self._jobs.put(self._end)


def _found(path: str, directory: str) -> Any:
    """Import a class or function; its errors are the user's, with their traceback."""
    module, _, name = path.partition(":")
    top = module.partition(".")[0]
    if importlib.util.find_spec(top) is None:
        sys.path.append(directory)
    try:
        return operator.attrgetter(name)(importlib.import_module(module))
    except ModuleNotFoundError as error:
        if error.name != top:
            raise
        raise Failure(
            f"{path}: there is no module {top} in the environment of the cell's scheduler ({sys.executable}), nor in "
            f"{directory}. Add the distribution that has it ({top.replace('_', '-')}?) to requirements in "
            "[tool.modelops.environment]"
        ) from None
    except AttributeError:
        raise Failure(f"{path}: module {module} has no {name}") from None


def _write_contact(path: str, address: str, security: Any) -> None:
    """Write where clients find the scheduler; only this user may read it."""
    plain = address.startswith("tcp://") or security is None
    contact: ClusterContact = {
        "address": address,
        "security": "" if plain else base64.b64encode(pickle.dumps(security, protocol=4)).decode(),
    }
    with open(os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
        json.dump(contact, file)
    os.replace(f"{path}.new", path)


def _gone(listing: Listing, end: float) -> list[str]:
    """Wait until a listing is empty; return what is left."""

    def active() -> list[str]:
        try:
            return listing.active()
        except Exception as error:  # noqa: BLE001 - nothing is proven then
            return [f"whether anything is left is not known: {error_text(error)}"]

    return poll(active, end=end, every=_POLL_SECONDS, done=operator.not_)


def _within(function: Callable[[], None], seconds: float) -> None:
    """Call a function in a thread, and wait for it for so long at most."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(seconds)


def main() -> None:
    """Serve in a thread."""
    writer, maker = agent.frames_on_stdout(), Maker()
    methods = {name: getattr(maker, name) for name in ("make", "made", "stands", "scale", "look", "logs", "close")}

    def serve() -> None:
        agent.serve(methods, sys.stdin.buffer, writer)
        maker.leave()

    threading.Thread(target=serve, daemon=True).start()
    maker.run()
    atexit._run_exitfuncs()  # noqa: SLF001 - of a class that was interrupted while it made a cluster
    os._exit(0)  # threads may hang in the class's code, and nobody waits for them
