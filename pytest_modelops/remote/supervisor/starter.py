"""Forks supervisors: a process that needs many of them, as a worker does for runners, starts one interpreter for all.

Run as `python -I -S starter.py FD`. Each message on FD is a line with a directory that the supervisor removes at its
end, or an empty one, and two descriptors: the supervisor's end of its socket, and its log. The answer is its pid, in a
line. When the other end of FD closes, however its process ended, this process ends, and with it all supervisors.
Standard library only, one thread.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from . import supervisor
else:  # run by its path
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    supervisor = importlib.import_module("supervisor")

LOOK_SECONDS = 1.0
MOST_BYTES = 1 << 16


def serve(host: socket.socket) -> int:
    """Fork one for each message until the end; return the exit code of a supervisor in its own process, here 0."""
    parent = os.getppid()
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # A process that the host forked may hold its socket open for longer than the host lives.
    while os.getppid() == parent:
        ready, _, _ = select.select([host, woken], [], [], LOOK_SECONDS)
        if woken in ready:
            woken.recv(4096)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:  # reaped, so that their CPU time counts
                    pass
        if host not in ready:
            continue
        try:
            message, descriptors, _, _ = socket.recv_fds(host, MOST_BYTES, 2)
        except ConnectionError:
            break
        if not message:
            break
        theirs, log = descriptors
        if not (pid := os.fork()):
            signal.set_wakeup_fd(-1)
            for connection in (host, woken, wake):
                connection.close()
            return become_supervisor(theirs, log, os.fsdecode(message[:-1]))
        os.close(theirs)
        os.close(log)
        with contextlib.suppress(OSError):  # the next read notices if it is gone
            host.sendall(f"{pid}\n".encode())
    signal.set_wakeup_fd(-1)  # or a child that ends now would have Python write to a socket that is closed, and say so
    return 0


def become_supervisor(descriptor: int, log: int, directory: str) -> int:
    """Serve as a supervisor in this process; return its exit code."""
    os.setsid()  # Ctrl-C at the terminal is not for it
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    return supervisor.serve(descriptor, directory)


def main() -> int:
    """Take over the socket and serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    host = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(host.fileno(), False)
    gc.freeze()  # or the collector of each child would copy pages
    return serve(host)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # without Python's own end, which would copy all that was imported into each child
