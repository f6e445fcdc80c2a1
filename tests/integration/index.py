"""A package index on loopback with made-up packages, and sessions that make environments and wheelhouses from it."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment, Lock, Wheelhouse
from pytest_modelops.environments.commands import Commands
from pytest_modelops.environments.local import Environments
from pytest_modelops.errors import Unavailable
from pytest_modelops.matrix.cell import PythonVersion, Versions

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
UNREACHABLE = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"}


@dataclasses.dataclass(frozen=True)
class Upload:
    """A file of the index; `day` is that of its upload."""

    file: Path
    day: str = "2024-01-01"
    yanked: bool = False


class Index:
    """Serves files below `/simple`, without upload times below `/undated`; `/private/…` is for `me` with `s3cret`."""

    def __init__(self, uploads: Sequence[Upload]) -> None:
        self._uploads = {upload.file.name: upload for upload in uploads}
        self.requests = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                path = self.path.strip("/").removeprefix("private/")
                kind, _, rest = path.partition("/")
                known = "Basic " + base64.b64encode(b"me:s3cret").decode()
                if self.path.startswith("/private/") and self.headers["Authorization"] != known:
                    self._answer(401, "text/plain", b"")
                elif kind == "files" and rest in outer._uploads:
                    self._answer(200, "application/octet-stream", outer._uploads[rest].file.read_bytes())
                elif kind != "files" and (page := outer._page(rest, dated=kind == "simple")):
                    self._answer(200, "application/vnd.pypi.simple.v1+json", json.dumps(page).encode())
                else:
                    self._answer(404, "text/plain", b"")

            def _answer(self, status: int, kind: str, content: bytes) -> None:
                self.send_response(status)
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="x"')
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Cache-Control", "max-age=0")
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            do_HEAD = do_GET  # noqa: N815 - as the base class wants it

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _page(self, name: str, *, dated: bool) -> dict[str, Any]:
        files = [
            {
                "filename": upload.file.name,
                "url": f"../../files/{upload.file.name}",
                "hashes": {"sha256": hashlib.sha256(upload.file.read_bytes()).hexdigest()},
                "yanked": upload.yanked,
                **({"upload-time": f"{upload.day}T22:00:00Z"} if dated else {}),
            }
            for upload in self._uploads.values()
            if upload.file.name.startswith(f"{name}-")
        ]
        return {"meta": {"api-version": "1.1"}, "name": name, "files": files} if files else {}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def variables(index: Index, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The host's variables with our index, and caches of our own: tests damage files that are linked to uv's."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    return {
        **others,
        "PATH": "/usr/bin:/bin",  # no shims, which are slow; those of pyenv are found behind them
        "UV_DEFAULT_INDEX": f"{index.address}/simple",
        "UV_CACHE_DIR": str(tmp_path_factory.mktemp("uv-cache")),
        "PIP_CACHE_DIR": str(tmp_path_factory.mktemp("pip-cache")),
        "UV_HTTP_RETRIES": "0",
    }


class Session:
    """A pytest session, as far as environments and wheelhouses notice."""

    def __init__(self, root: Path, environ: Mapping[str, str], **changes: Any) -> None:
        options = {"cache": root / "cache", "fresh": False, "session": "one", **changes}
        spec = {key: options.pop(key) for key in ("requirements", "constraints", "as_of") if key in options}
        environ = {**environ, **options.pop("variables", {})}
        (root / "project").mkdir(exist_ok=True)
        self.said: list[str] = []
        self.commands = Commands(root / f"commands-{os.getpid()}-{id(self)}")
        self.made = Environments(
            EnvironmentSpec(rootdir=root / "project", **spec), run=self.commands, environ=environ, **options
        )

    def resolve(self, dask: str = "2024.10.0", python: str = "") -> Lock:
        versions = Versions(PythonVersion.parse(python or HERE), Version(dask))
        return self.made.resolve(versions, deadline=Deadline(60), progress=self.said.append)

    def install(self, lock: Lock | None = None) -> Environment:
        return self.made.install(lock or self.resolve(), deadline=Deadline(60), progress=self.said.append)

    def lock(self, python: str) -> Lock:
        """A lock, as far as wheelhouses are concerned."""
        wanted = PythonVersion.parse(python)
        try:
            found = self.made._tools.interpreters.find(wanted, deadline=Deadline(30), progress=self.said.append)
        except Unavailable as error:
            pytest.skip(str(error).partition("\n")[0])
        return Lock(
            versions=Versions(wanted, Version("2024.10.0")),
            python=found.version,
            interpreter=str(found.path),
            requirements="",
            packages={},
            resolved=dt.datetime.now(dt.timezone.utc),
        )

    def make(self, *requirements: str, python: str = "", lock: Lock | None = None, seconds: float = 60) -> Wheelhouse:
        lock = lock or self.lock(python or HERE)
        self.said.clear()
        return self.made.wheelhouse(requirements, lock, deadline=Deadline(seconds), progress=self.said.append)

    def close(self) -> None:
        self.made.close()
        self.commands.close()


Open = Callable[..., Session]


@contextlib.contextmanager
def sessions(root: Path, environ: Mapping[str, str]) -> Iterator[Open]:
    """Start sessions that share a cache."""
    started = []

    def start(**changes: Any) -> Session:
        started.append(Session(root, environ, **changes))
        return started[-1]

    yield start
    for session in started:
        session.close()


IN_ANOTHER_PROCESS = """
import json, sys
from pathlib import Path
sys.path.insert(0, {repository!r})
from tests.integration.index import Session
session = Session(Path({root!r}), json.loads({environ!r}))
print(session.{call}.reused)
session.close()
"""


def in_three_processes_at_once(call: str, root: Path, environ: Mapping[str, str]) -> list[str]:
    """What each reports: whether it reused the result of another."""
    code = IN_ANOTHER_PROCESS.format(
        repository=str(Path(__file__).parents[2]), root=str(root), environ=json.dumps(environ), call=call
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    return sorted(process.communicate(timeout=60)[0].strip() for process in processes)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def make_repository(project: Path) -> None:
    """Make a directory a git repository with one commit."""
    for command in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "first")):
        author = ("-c", "user.name=me", "-c", "user.email=me@example.org")
        subprocess.run(["git", *author, *command], cwd=project, check=True)
