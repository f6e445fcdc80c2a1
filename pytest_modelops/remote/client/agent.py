"""The agent: holds the cell's `distributed.Client` and answers pytest over JSON-RPC on stdin and stdout.

Run as `python -m modelops_remote.client.agent '{"scheduler_file": …}' SECONDS`, with the client's own Python. Each
request is answered in a thread of its own, so that one that hangs blocks no other. When stdin ends, pytest is gone and
the agent exits at once, whatever it is doing. Anything printed goes to stderr; stdout carries frames only.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import IO, Any

from ..runner import inspection
from ..shared import jsonrpc
from ..worker.plugins import error_text
from .bundles import ClientBundles
from .connection import Connection, Failure
from .diagnosis import diagnose
from .faults import ClientFaults
from .jobs import Jobs
from .plugin import Plugins
from .running import RunningJob
from .tasks import Tasks

Methods = Mapping[str, Callable[..., Any]]


def methods(connection: Connection) -> Methods:
    """Return what pytest may call, by name. Each takes keyword arguments and returns plain data."""
    tasks, plugins, bundles = Tasks(connection), Plugins(connection), ClientBundles(connection)
    jobs, running, faults = Jobs(tasks), RunningJob(tasks), ClientFaults(connection)
    return {
        "connect": connection.connect,
        "workers": connection.workers,
        "nannies_watch": connection.nannies_watch,
        "facts": connection.facts,
        "preloads": connection.preloads,
        "close": connection.close,
        "status": connection.status,
        "retire": connection.retire,
        "diagnose": functools.partial(diagnose, connection),
        "call_each": tasks.call_each,
        "pickled": tasks.pickled,
        "stuck": tasks.stuck,
        "aggregate": jobs.aggregate,
        "begin_job": running.begin,
        "progress": running.progress,
        "finish_job": running.finish,
        "run_bundle": jobs.run_bundle,
        "submit_by_reference": jobs.submit_by_reference,
        "count_tasks": faults.count_tasks,
        "fill_memory": faults.fill_memory,
        "register_plugin": plugins.register,
        "probe": plugins.probe,
        "ask_workers": bundles.ask_workers,
        "install_bundle": bundles.install,
        "uninstall_bundle": bundles.uninstall,
        "inspect_process": bundles.inspect_process,
        "inspect_scheduler": bundles.inspect_scheduler,
        "look_at_source": lambda source, files: {"missing": inspection.missing_in(source, files)},
    }


def serve(offered: Methods, requests: IO[bytes], writer: jsonrpc.Writer) -> None:
    """Answer until stdin ends."""

    def answer(message: jsonrpc.Message) -> None:
        method = offered.get(message["method"])
        if method is None:
            text = f"no method {message['method']!r}"
            writer.send({"id": message["id"], "error": {"code": jsonrpc.METHOD_NOT_FOUND, "message": text}})
            return
        try:
            result = method(**message["params"])
        except BaseException as error:  # noqa: BLE001 - every request gets an answer
            writer.send({"id": message["id"], "error": error_object(error)})
        else:
            writer.send({"id": message["id"], "result": result})

    while (message := jsonrpc.read_message(requests)) is not None:
        threading.Thread(target=answer, args=(message,), daemon=True).start()


def error_object(error: BaseException) -> jsonrpc.ErrorObject:
    """Return an error as JSON-RPC has it, with the cell's traceback as its data."""
    return {
        "code": jsonrpc.TIMED_OUT if isinstance(error, TimeoutError) else jsonrpc.SERVER_ERROR,
        "message": str(error) if isinstance(error, (Failure, TimeoutError)) else error_text(error),
        "data": {"traceback": error.traceback if isinstance(error, Failure) else traceback.format_exc()},
    }


def frames_on_stdout() -> jsonrpc.Writer:
    """Keep the real stdout for frames, and send everything else to stderr."""
    frames = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return jsonrpc.Writer(frames)


def main(connect: Callable[[Any, float], Any] = Connection, offered: Callable[[Any], Methods] = methods) -> None:
    """Serve.

    Args:
        connect: makes the connection of what the command line says.
        offered: what pytest may call.
    """
    writer = frames_on_stdout()
    serve(offered(connect(json.loads(sys.argv[1]), float(sys.argv[2]))), sys.stdin.buffer, writer)
    os._exit(0)  # threads may hang in Dask, and nobody waits for them


if __name__ == "__main__":
    main()
