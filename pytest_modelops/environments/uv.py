"""Runs uv with the variables listed here, and quotes its error messages.

Knows uv's command line and output; not what it resolves or installs, nor why.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import uv

from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, TimedOut, full_disk_in


class Runner(Protocol):
    """Runs a command to its end; nothing of it outlives the call, the deadline, Ctrl-C or pytest."""

    def __call__(
        self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, deadline: Deadline
    ) -> subprocess.CompletedProcess[str]:
        """Run it, without stdin. Raises `TimedOut`, or `CheckFailed` if it cannot be started."""


class UvFailed(CheckFailed):
    """A uv command failed.

    Attributes:
        output: everything that uv printed, without passwords.
    """

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


class NoAnswer(UvFailed):
    """A server did not answer, or asking was forbidden (`UV_OFFLINE`)."""


class NoSolution(UvFailed):
    """The index answered, and the requirements cannot be met."""


_PASSED_ON = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CLIENT_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"),
    # git requirements
    *("GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "SSH_AUTH_SOCK"),
    # compilers, for packages that have no wheel
    *("CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "PKG_CONFIG_PATH", "LD_LIBRARY_PATH"),
    *("MACOSX_DEPLOYMENT_TARGET", "SDKROOT", "DEVELOPER_DIR", "ARCHFLAGS"),
    # where uv looks, and what it may do
    *("UV_CONFIG_FILE", "UV_NO_CONFIG", "UV_CACHE_DIR", "UV_NO_CACHE", "UV_OFFLINE", "UV_LINK_MODE"),
    *("UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX", "UV_INSECURE_HOST"),
    *("UV_KEYRING_PROVIDER", "UV_CREDENTIALS_DIR", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_EXCLUDE_NEWER"),
    *("UV_REQUEST_TIMEOUT", "UV_LOCK_TIMEOUT", "UV_MANAGED_PYTHON", "UV_NO_MANAGED_PYTHON"),
)
_PASSED_ON_BY_PREFIX = (
    "UV_INDEX",  # also UV_INDEX_<NAME>_USERNAME and _PASSWORD
    "UV_HTTP_",
    "UV_CONCURRENT_",
    "UV_PYTHON_",
    "SETUPTOOLS_SCM_PRETEND_VERSION",
)


def listed_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the host's variables that a uv command, and each package build that it runs, gets.

    An empty variable is left out, so that it hides no setting of ours.
    """
    return {
        name: value
        for name, value in environ.items()
        if value and (name in _PASSED_ON or name.startswith(_PASSED_ON_BY_PREFIX))
    }


def without_passwords(text: str) -> str:
    """Return the text with the credentials in every URL replaced by `****`."""
    return re.sub(r"//[^/@\s'\"`]+@", "//****@", text)


def as_of_options(as_of: dt.date | None) -> tuple[str, ...]:
    """Return options to resolve as at the end of that day, UTC; uv takes a bare date in the machine's time zone."""
    if as_of is None:
        return ()
    return "--exclude-newer", f"{as_of + dt.timedelta(days=1)}T00:00:00Z"


def undated_files(output: str) -> list[str]:
    """Return the files that uv left out because they have no upload time, as its output names them."""
    return re.findall(r"([^\s`]+)`? is missing an upload date", output)


class Uv:
    """uv, as it is run for one project.

    Args:
        rootdir: where uv looks for its configuration.
        settings: further variables, such as a translated `pip.conf`; the host's own variables override them.
        environ: the host's variables.
    """

    def __init__(
        self,
        run: Runner,
        *,
        rootdir: Path,
        settings: Mapping[str, str] | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._run = run
        self._rootdir = rootdir
        self._binary = uv.find_uv_bin()
        # By default uv links installed files to its cache, so a module that is edited in a cell would change in every
        # other project. Copies of Dask and what it needs (22 MB) take 0.1 s, of 400 MB 2 s.
        own = {"UV_LINK_MODE": "copy", **(settings or {})}
        # NO_WRAP keeps sentences on one line: they are quoted in our own messages.
        fixed = {"NO_COLOR": "1", "UV_NO_PROGRESS": "1", "UV_NO_WRAP": "1"}
        self.variables = {**own, **listed_variables(environ), **fixed}

    def __call__(
        self, *arguments: str, deadline: Deadline, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a uv command.

        Raises:
            NoAnswer, NoSolution, UvFailed: it failed.
            TimedOut: the deadline passed.
        """
        if arguments[0] in {"pip", "build"} and self.variables.get("UV_NO_INDEX"):
            arguments = (*arguments, "--no-index")  # uv 0.13 knows the flag and no such variable
        try:
            finished = self._run(
                [self._binary, *arguments], env={**self.variables, **(env or {})}, cwd=self._rootdir, deadline=deadline
            )
        except TimedOut as error:
            raise TimedOut(f"uv {' '.join(arguments[:2])}: {error}") from None
        if finished.returncode == 0:
            return finished
        failure = _failure(finished)
        if isinstance(failure, NoAnswer):
            # uv tries four times within 6 to 10 s. After that a silent server is asked only once each time, or a run of
            # many cells would spend most of its time waiting for it.
            self.variables["UV_HTTP_RETRIES"] = "0"
        raise failure

    @property
    def index(self) -> str:
        """The index that variables name, for people."""
        named = (self.variables.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX"))
        return without_passwords(next(filter(None, named), "the index of uv's configuration, or pypi.org"))

    def compile(
        self, requirements: Sequence[str], *options: str, deadline: Deadline, resolution: str = "highest"
    ) -> subprocess.CompletedProcess[str]:
        """Find a solution for these requirements; its `stdout` is a requirements file.

        Settings in `[tool.uv.pip]` that would change that file's form are overridden.
        """
        with tempfile.TemporaryDirectory(prefix="modelops-") as directory:
            file = Path(directory, "requirements.in")
            file.write_text("".join(f"{line}\n" for line in requirements))
            return self(
                *("pip", "compile", "--no-header", "--no-annotate", "--resolution", resolution),
                *("--no-universal", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-build-options"),
                *options,
                str(file),
                deadline=deadline,
            )

    def index_lines(self, deadline: Deadline) -> list[str]:
        """Return the index and further places that uv asks, as lines of a requirements file, with their passwords."""
        with tempfile.TemporaryDirectory(prefix="modelops-") as directory:
            file = Path(directory, "requirements.in")
            file.touch()
            answer = self("pip", "compile", "--emit-index-url", "--emit-find-links", str(file), deadline=deadline)
        return [line for line in answer.stdout.splitlines() if line.startswith("--")]


_UNANSWERED = re.compile(
    r"error sending request|operation timed out|network was disabled|HTTP status server error"
    r"|401 Unauthorized|403 Forbidden"  # of an index that refuses, uv says that it lacks the package
)
_NO_SOLUTION = re.compile(r"No solution found when resolving")


def _failure(finished: subprocess.CompletedProcess[str]) -> UvFailed:
    output = without_passwords(finished.stderr + finished.stdout).strip()
    lines = _essence(output)
    if full := full_disk_in(output):
        return UvFailed("\n".join([full, *lines]), output)
    if _UNANSWERED.search(output):
        # Often a chain from the request down to the operating system's error; its first and last line say it all.
        ends = [line for line in lines if line.startswith("Failed to")][:1] + lines[-1:]
        return NoAnswer("; ".join(dict.fromkeys(ends)), output)
    if _NO_SOLUTION.search(output):
        return NoSolution("\n".join(lines[1:]), output)
    return UvFailed("\n".join(lines), output)


_FIRST = re.compile(r"\s*(?:error:|×)\s")
_MARK = re.compile(r"^(?:\s*(?:error:|cause:|Caused by:|hint:|×|╰─▶|├─▶|│)\s*| {1,9})")
_MOST_LINES = 40


def _essence(output: str) -> list[str]:
    """Return the lines of uv's error message, without progress, warnings and uv's marks.

    uv 0.13 marks them by `error:` and `cause:`, earlier versions by `×` and `╰─▶`, or `error:` and `Caused by:`;
    continuation lines are indented by nine columns at most.
    """
    lines = output.splitlines()
    start = next((number for number, line in enumerate(lines) if _FIRST.match(line)), 0)
    said = [_MARK.sub("", line) for line in lines[start:] if line.strip()] or ["uv printed nothing"]
    if len(said) > _MOST_LINES:
        return [*said[:8], "…", *said[9 - _MOST_LINES :]]
    return said
