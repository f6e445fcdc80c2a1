"""Which processes a process has started while some work was done, and which Python they run. Python 3.9 and up.

A runtime or a runner names the pid of the process that did its work. A stored answer names a pid that is gone, or that
is another worker's. Whatever makes environments may take any interpreter. So the system is asked: processes are looked
at while they run, because some end with their task, and their interpreters are asked what they are.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator

from ..shared.facts import Interpreter, NamedProcess

_POLL_SECONDS = 0.002
_ANSWER_SECONDS = 20.0
"""For an interpreter to say what it is; it needs milliseconds."""
_IS_PYTHON = re.compile(r"(?:python|pypy|graalpy)[\w.+-]*$")
_SHOWN = 120
_CODE = """
import importlib.machinery, sys
print(ascii((
    sys.executable,
    ".".join(map(str, sys.version_info[:3])),
    sys.prefix,
    "".join(importlib.machinery.EXTENSION_SUFFIXES[:1])[1:].rpartition(".")[0] or sys.implementation.name,
)))
"""
"""An interpreter's answer to what it is; it imports nothing that takes long."""


@dataclasses.dataclass(frozen=True)
class _Seen:
    """A process as it was when it was looked at last."""

    parent: int
    program: str  # path of the file that it executes
    argv0: str  # as which it was started, an absolute path where that can be known


class Watch:
    """Looks at all descendants of a process, from `__enter__` to `__exit__`."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._seen: dict[int, _Seen] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="modelops-watch", daemon=True)
        self._first = _newest_pid()

    def __enter__(self) -> Watch:  # noqa: PYI034 - Self is newer than some workers
        self.look()  # the thread may wait for a core until what is to be seen has ended
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.look()

    def _run(self) -> None:
        while not self._over.wait(_POLL_SECONDS):
            self.look()

    def look(self) -> None:
        """Look at what runs now. A process may execute another program than before: the latest counts."""
        for pid, parent in descendants(self._root):
            if (found := _look_at(pid, parent)) is not None:
                self._seen[pid] = found

    def named(self, pid: int) -> NamedProcess:
        """Return what is known of a process that was named as the one that did the work."""
        seen = pid in self._seen
        newest = _newest_pid()
        return {
            "pid": pid,
            "of": self._root,
            "seen": seen,
            "lives": lives(pid),
            "born": bool(self._first) and self._first < pid <= newest,
            "command": "" if seen else _command(pid),
            "runs": self._interpreter(pid) if seen else {},
        }

    def _interpreter(self, pid: int) -> Interpreter:
        """Ask the Python of a process, or those of the processes that it has started if it is a wrapper of them."""
        one = self._seen[pid]
        if _IS_PYTHON.match(os.path.basename(one.program)):
            return ask(one.program, one.argv0)
        for child, seen in sorted(self._seen.items()):
            if seen.parent == pid:
                found = self._interpreter(child)
                if "unknown" not in found:
                    return found
        if not one.program:
            return {"unknown": "its program may not be read, as it is another user's"}
        return {"unknown": f"it runs {one.program}, which is no Python and has started none"}


def look_at(pid: int, root: int) -> NamedProcess:
    """Return what is known of a process that has to run now, below another one."""
    watch = Watch(root)
    watch.look()
    return watch.named(pid)


def descendants(root: int) -> Iterator[tuple[int, int]]:
    """Yield pid and parent of what runs below a process, parents first."""
    for pid in _children(root):
        yield pid, root
        yield from descendants(pid)


def _children(pid: int) -> list[int]:
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):  # another system, or another kernel
        import psutil  # which distributed needs, too

        with contextlib.suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children()]
        return []
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def lives(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, ValueError, OverflowError):
        return False


def stopped(pid: int) -> bool:
    """Return whether the system does not run a process until somebody continues it."""
    import psutil

    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}
    return False


def _look_at(pid: int, parent: int) -> _Seen | None:
    import psutil

    try:
        process = psutil.Process(pid)
        program, argv = process.exe(), process.cmdline()
        argv0 = argv[0] if argv else ""
        if argv0 and not os.path.isabs(argv0):
            path = process.environ().get("PATH")
            argv0 = os.path.join(process.cwd(), argv0) if os.sep in argv0 else shutil.which(argv0, path=path) or ""
    except psutil.AccessDenied:  # of another user; it is there all the same
        return _Seen(parent, "", "") if lives(pid) else None
    except (psutil.Error, OSError):
        return None
    return _Seen(parent, program, argv0) if program else None


def _command(pid: int) -> str:
    import psutil

    with contextlib.suppress(psutil.Error, ValueError, OverflowError):
        return " ".join(psutil.Process(pid).cmdline())[:_SHOWN]
    return ""


def ask(program: str, argv0: str = "") -> Interpreter:
    """Ask an interpreter what it is; by the name under which it was started, which may be in an environment."""
    with contextlib.suppress(OSError):
        if argv0 and os.path.samefile(program, argv0):
            return {**_ask(argv0, program)}
    found: Interpreter = {**_ask(program, program)}
    if "prefix" in found and argv0 != program:
        found["prefix"] = ""  # an environment's interpreter is often a link to this one
    return found


@functools.lru_cache(maxsize=64)
def _ask(python: str, program: str) -> Interpreter:  # noqa: ARG001 - the same path may become another Python's
    try:
        done = subprocess.run(
            [python, "-I", "-c", _CODE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_SECONDS,
            check=True,
        )
        executable, version, prefix, platform = ast.literal_eval(done.stdout.splitlines()[-1].decode())
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, SyntaxError, IndexError) as error:
        return {"unknown": f"its interpreter {python} could not be asked: {error}"[: 4 * _SHOWN]}
    return {"executable": executable, "version": version, "prefix": prefix, "platform": platform}


def _newest_pid() -> int:
    """Return the pid that was given out last, of a process or a thread; 0 where the system does not say."""
    try:
        with open("/proc/loadavg", encoding="ascii") as file:
            return int(file.read().split()[-1])
    except (OSError, ValueError, IndexError):
        return 0
