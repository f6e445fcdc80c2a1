"""What is being done now, for people who wait.

At a terminal: one line below pytest's, rewritten as time passes and wiped at the end. In a log: a line for each phase
that takes longer than some seconds. With xdist the workers write what they do into the run's directory and the
controller shows it. A thread shows it, because the main thread waits; it writes to a duplicate of the real stdout,
which pytest does not capture.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest

_TICK_SECONDS = 0.25
_LOG_AFTER_SECONDS = 5.0
"""In a log, a shorter phase gets no line."""
_LOG_AGAIN_SECONDS = 30.0
"""In a log, a long phase is reported again, because CI systems end silent jobs."""


class Progress:
    """Collects what cells are doing, and shows it unless this is an xdist worker.

    Args:
        directory: of the run, shared by its processes.
    """

    def __init__(self, config: pytest.Config, directory: Path) -> None:
        self._config = config
        self._directory = directory / "doing"
        self._worker: str | None = getattr(config, "workerinput", {}).get("workerid")
        self._doing: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._reported: dict[str, float] = {}
        self._drawn = False
        self._over = threading.Event()
        self._encoding = getattr(sys.stdout, "encoding", None) or "ascii"
        self._out = self._open_out()
        if self._out is not None:
            self._terminal = os.isatty(self._out) and os.environ.get("TERM", "dumb") != "dumb"
            self._watcher = threading.Thread(target=self._watch, name="progress", daemon=True)
            self._watcher.start()

    def _open_out(self) -> int | None:
        if self._worker is not None or self._config.getoption("verbose", -2) < -1:  # -p no:terminal
            return None
        try:
            return os.dup(sys.stdout.fileno())
        except (OSError, ValueError, AttributeError):  # pytest runs inside something without a real stdout
            return None

    def say(self, cell: str, doing: str) -> None:
        """Set what is being done for a cell now; an empty text for nothing."""
        with self._lock:
            if doing:
                self._doing[cell] = (f"{cell}: {doing}", time.time())
            else:
                self._doing.pop(cell, None)
            if self._worker is not None:
                self._directory.mkdir(parents=True, exist_ok=True)
                file = self._directory / self._worker
                temporary = file.with_suffix(".new")
                temporary.write_text(json.dumps([*self._doing.values()]), encoding="utf-8")
                temporary.replace(file)

    def forget(self, worker: str) -> None:
        """Drop what an xdist worker did last, after its end."""
        (self._directory / worker).unlink(missing_ok=True)

    def close(self) -> None:
        """Wipe the line, and show nothing more."""
        self._over.set()
        if self._out is not None:
            self._watcher.join()  # what it draws after the wipe would stay
        if self._worker is None:
            shutil.rmtree(self._directory, ignore_errors=True)
        if self._out is not None:
            self._draw("")
            os.close(self._out)
            self._out = None

    def _watch(self) -> None:
        while not self._over.wait(_TICK_SECONDS):
            with self._lock:
                doing = [*self._doing.values()]
            doing += self._of_workers()
            if self._terminal:
                self._draw("  ·  ".join(f"{time.time() - since:.0f} s {text}" for text, since in doing))
            elif self._config.getoption("verbose") >= 0:
                self._log(doing)

    def _of_workers(self) -> list[tuple[str, float]]:
        doing: list[tuple[str, float]] = []
        for file in sorted(self._directory.glob("gw*[0-9]")) if self._directory.exists() else ():
            with contextlib.suppress(OSError, ValueError):
                doing += [(text, since) for text, since in json.loads(file.read_text(encoding="utf-8"))]
        return doing

    def _draw(self, text: str) -> None:
        """Show a text in the line below the cursor, and leave the cursor where it is."""
        if not text and not self._drawn:
            return
        width = os.get_terminal_size(self._out or 0).columns if text else 0
        # Index down (scrolls at the bottom) and up again makes room; then save, draw below, restore.
        room = "\x1bD\x1b[A" if text else ""
        self._write(f"{room}\x1b7\x1b[B\r\x1b[2K\x1b[2m{text[: width - 1]}\x1b[0m\x1b8")
        self._drawn = bool(text)

    def _log(self, doing: list[tuple[str, float]]) -> None:
        now = time.time()
        for text, since in doing:
            wait = _LOG_AGAIN_SECONDS if text in self._reported else _LOG_AFTER_SECONDS
            if now - self._reported.get(text, since) >= wait:
                self._reported[text] = now
                reporter = self._config.pluginmanager.get_plugin("terminalreporter")
                in_line = reporter is not None and reporter._tw.width_of_current_line > 0  # noqa: SLF001
                self._write(f"{os.linesep if in_line else ''}{text} ({now - since:.0f} s)\n")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the reader of our output is gone
            os.write(self._out or 1, text.encode(self._encoding, "replace"))
