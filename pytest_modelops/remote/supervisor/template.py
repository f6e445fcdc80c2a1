"""The process that others of a cell are forked from: it has imported Dask's command line, and has one thread.

Forked processes share one import. Everything else is in each child as `python -m` leaves it: variables, working
directory, streams, session, `__main__`, `sys.argv`, `sys.path`, the command line that the system shows. Only the hash
seed stays that of this process.

A child is forked twice, so that the supervisor, a subreaper, becomes its parent: it waits for it and reports its end,
and the child gets the supervisor's parent-death signal. Linux only, Python 3.9 and up; run by the supervisor as
`python -c CODE FILE FD SUPERVISOR MODULES SPACE`, where SPACE makes room for the command lines of children.

Protocol, over the socket FD: this sends one `Prepared`; then each `ForkRequest`, with the descriptors of its streams,
gets a `Forked`. JSON, one per line.
"""

from __future__ import annotations

import builtins
import ctypes
import gc
import importlib
import json
import multiprocessing.process
import os
import runpy
import signal
import socket
import sys
import time
import types
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..shared.process_messages import Forked, ForkRequest, Prepared

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LIBC = ctypes.CDLL(None)
ADOPTION_SECONDS = 0.0002
THREAD_SECONDS = 0.1
STARTED_WITH = dict(os.environ)


def prepare(modules: Sequence[str]) -> str:
    """Import these modules; return why nothing can be forked now, or nothing.

    They are forgotten again, but not what they imported: `python -m` does not know its module by its own name either.
    """
    files = len(os.listdir("/proc/self/fd"))
    gc.disable()  # what is imported stays, and the collector takes a tenth of the time
    for name in modules:
        importlib.import_module(name)
    gc.enable()
    sys.stdout.flush()
    for name in modules:
        package, _, module = name.rpartition(".")
        del sys.modules[name]
        delattr(sys.modules[package], module)
    if threads_that_survive_a_fork():
        return "importing Dask's command line started threads"
    if len(os.listdir("/proc/self/fd")) > files:
        return "importing Dask's command line opened files"
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        gc.freeze()  # or each child would go through all that was imported, and so copy its pages
        return ""
    return "importing Dask's command line started a process"


def threads_that_survive_a_fork() -> bool:
    """Return whether other threads run here, and still do after a fork.

    OpenBLAS, which NumPy imports, ends its threads before each fork and starts them again when it needs them.
    """
    if len(os.listdir("/proc/self/task")) == 1:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about threads, since Python 3.12
        pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    end = time.monotonic() + THREAD_SECONDS
    while (several := len(os.listdir("/proc/self/task")) > 1) and time.monotonic() < end:
        time.sleep(ADOPTION_SECONDS)  # the kernel may still show one that has ended
    return several


def serve(connection: socket.socket, supervisor: int) -> list[str]:
    """Fork whatever the supervisor asks for; return in each child, with its module and arguments.

    Ends with the supervisor.
    """
    with connection:
        buffer, descriptors = b"", []
        while True:
            data, received, _, _ = socket.recv_fds(connection, 1 << 16, 3)
            if not data:
                os._exit(0)
            buffer += data
            descriptors += received
            if not buffer.endswith(b"\n"):
                continue
            request: ForkRequest = json.loads(buffer)
            answer: Forked
            try:
                pid = fork_twice()
                answer = {"pid": pid}
            except OSError as error:
                pid, answer = 0, {"error": f"{type(error).__name__}: {error}"}
            if pid < 0:
                become(request, descriptors, supervisor, -pid)
                return request["argv"]
            for descriptor in descriptors:
                os.close(descriptor)
            buffer, descriptors = b"", []
            connection.sendall(json.dumps(answer).encode() + b"\n")


def fork_twice() -> int:
    """Fork a grandchild whose parent has ended.

    Returns:
        Its pid; in the grandchild, that of the parent that ends, negative.
    """
    pid_of_child, write = os.pipe()
    between = os.fork()
    if not between:
        between = os.getpid()
        try:
            child = os.fork()
            if not child:
                os.close(pid_of_child)
                os.close(write)
                return -between
            os.write(write, str(child).encode())
        finally:
            if os.getpid() == between:
                os._exit(0)
    os.close(write)
    with os.fdopen(pid_of_child, "rb") as file:
        found = file.read()
    os.waitpid(between, 0)
    if not found:
        raise OSError("no process could be forked")
    return int(found)


def become(request: ForkRequest, descriptors: Sequence[int], supervisor: int, between: int) -> None:
    """Make this child what the supervisor would otherwise have executed."""
    *streams, log = descriptors
    with open("/proc/self/fd/2", "rb") as printed:  # while Dask was imported; it belongs into the log of each process
        os.write(log, printed.read())
    for descriptor, stream in enumerate([*streams, log] if streams else [0, log, log]):
        os.dup2(stream, descriptor)
    for descriptor in descriptors:
        os.close(descriptor)
    os.setsid()
    while os.getppid() == between:
        time.sleep(ADOPTION_SECONDS)
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != supervisor:
        os._exit(1)
    os.chdir(request["cwd"])
    set_variables(request["env"])
    sys.argv = ["-m", *request["argv"][1:]]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv = [sys.executable, "-m", *request["argv"]]
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = request["cwd"]
    multiprocessing.process.ORIGINAL_DIR = request["cwd"]  # type: ignore[attr-defined]
    multiprocessing.process.current_process().authkey = os.urandom(32)
    if "numpy.random" in sys.modules:  # the standard library's `random` does it by itself
        sys.modules["numpy.random"].seed()
    main = types.ModuleType("__main__")
    main.__builtins__ = builtins  # type: ignore[attr-defined]
    sys.modules["__main__"] = main
    set_command_line([sys.executable, "-m", *request["argv"]])


def set_variables(variables: dict[str, str]) -> None:
    """Set those that this process was not started with; what `PYTHONPATH` has more goes where Python would put it.

    The others stay, since Python itself changes some (PEP 538), and so may what was imported.
    """
    os.environ.update({name: text for name, text in variables.items() if STARTED_WITH.get(name) != text})
    before, now = (
        [path for path in given.get("PYTHONPATH", "").split(os.pathsep) if path] for given in (STARTED_WITH, variables)
    )
    start = 0 if getattr(sys.flags, "safe_path", False) else 1
    sys.path[start:start] = now[: len(now) - len(before)]


def set_command_line(argv: Sequence[str]) -> None:
    """Replace the command line that the system shows for this process.

    It is where the kernel put the arguments. If its last byte is not zero, the kernel shows what precedes the first
    zero, as for setproctitle(3) (`get_mm_cmdline` in fs/proc/base.c).
    """
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        stat = file.read()
    fields = stat[stat.rindex(")") + 2 :].split()
    first, end = int(fields[45]), int(fields[46])  # arg_start, arg_end: fields 48 and 49 of proc(5)
    if first < end:
        room = end - first
        text = os.fsencode(" ".join(argv))[: room - 2]
        ctypes.memmove(first, text.ljust(room - 1, b"\0") + b"\1", room)


def main() -> None:
    """Prepare and serve; in a child, run its module."""
    descriptor, supervisor, modules = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(",")
    os.set_inheritable(descriptor, False)
    connection = socket.socket(fileno=descriptor)
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.getcwd()
    sys.argv = ["-m"]
    set_command_line([sys.executable, "-m", "modelops_remote.supervisor.template", *modules])
    prepared: Prepared = {"cannot": prepare(modules)}
    connection.sendall(json.dumps(prepared).encode() + b"\n")
    module = serve(connection, supervisor)[0]
    del connection
    runpy._run_module_as_main(module)  # type: ignore[attr-defined] # noqa: SLF001 - what `python -m` itself calls


if __name__ == "template":  # as the supervisor runs it
    main()
