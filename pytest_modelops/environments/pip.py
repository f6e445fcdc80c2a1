"""Runs pip for what uv cannot do: download wheels as files, and build those that no index has.

pip gets the indexes that uv asks as lines of a requirements file that only its owner can read and that is removed
afterwards. The rest of pip's own configuration is ignored: a constraint, a target or a format that a user has set for
daily work would make another wheelhouse, or none.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.index import Index
from pytest_modelops.environments.target import Target
from pytest_modelops.environments.uv import Runner, Uv, listed_variables, without_passwords
from pytest_modelops.errors import CheckFailed, TimedOut, full_disk_in


class PipFailed(CheckFailed):
    """A pip command failed; the message quotes pip, or the build that it ran."""


class WrongHash(PipFailed):
    """A file does not have one of the hashes that are allowed; the message names it, and both."""


class Pip:
    """The pip that is installed beside this interpreter.

    Args:
        index: what uv is configured for.
        rootdir: of the project; relative paths of its configuration refer to it or a directory above.
        environ: the host's variables.
    """

    def __init__(self, run: Runner, uv: Uv, *, index: Index, rootdir: Path, environ: Mapping[str, str]) -> None:
        self._run = run
        self._uv = uv
        self._rootdir = rootdir
        for_uv = uv.variables
        given = {
            "PIP_CERT": for_uv.get("SSL_CERT_FILE"),
            "PIP_CLIENT_CERT": for_uv.get("SSL_CLIENT_CERT"),
            "PIP_DEFAULT_TIMEOUT": for_uv.get("UV_HTTP_TIMEOUT"),
            "PIP_KEYRING_PROVIDER": for_uv.get("UV_KEYRING_PROVIDER"),
            "PIP_PROXY": for_uv.get("ALL_PROXY"),
            **{name: environ.get(name) for name in ("PIP_CACHE_DIR", "PIP_NO_CACHE_DIR")},
        }
        listed = {name: value for name, value in listed_variables(environ).items() if not name.startswith("UV_")}
        self._variables = {
            **listed,
            **{name: value for name, value in given.items() if value},
            "PIP_CONFIG_FILE": os.devnull,  # then pip reads no other file either
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "PIP_NO_COLOR": "1",
            "PIP_RETRIES": "2",  # the index has just answered uv
        }
        self._index = index
        self._index_lines: list[str] | None = None

    def download(self, lines: Sequence[str], target: Target, into: Path, deadline: Deadline) -> None:
        """Download wheels for a target, whatever Python this is.

        Args:
            lines: pins, each with its hashes; or all without.

        Raises:
            PipFailed: a wheel is missing, or no index answered.
            WrongHash: a wheel differs from its hash.
            TimedOut: the deadline passed.
        """
        fit = (
            *("--python-version", target.python.base_version, "--implementation", "cp", "--abi", target.abi),
            *(f"--platform={platform}" for platform in target.platforms),
        )
        self._pip([*("download", "--no-deps", "--only-binary=:all:"), *fit, "--dest", str(into)], lines, deadline)

    def build(self, line: str, interpreter: Path, into: Path, deadline: Deadline) -> None:
        """Build the wheel of one pin with an interpreter.

        Raises:
            PipFailed: it could not be downloaded or built; the message quotes the builder.
            TimedOut: the deadline passed.
        """
        chosen = ("--python", str(interpreter))  # pip then runs in it, from where it is installed here
        self._pip([*chosen, "wheel", "--no-deps", "--wheel-dir", str(into)], [line], deadline)

    def _pip(self, arguments: Sequence[str], lines: Sequence[str], deadline: Deadline) -> None:
        if importlib.util.find_spec("pip") is None:
            raise PipFailed(
                f"pip is not installed beside {sys.executable}; get it with: "
                f"uv pip install --python {sys.executable} pip"
            )
        if self._index_lines is None:
            self._index_lines = self._translate(deadline)
        verb = "download" if "download" in arguments else "wheel"
        # A directory of its own, since `-m` looks for modules in the working directory first, and since a killed pip
        # leaves behind what it has unpacked.
        with tempfile.TemporaryDirectory(prefix="modelops-") as directory:
            file = Path(directory, "requirements.txt")
            file.write_text("".join(f"{line}\n" for line in (*self._index_lines, *lines)), encoding="utf-8")
            try:
                finished = self._run(
                    [sys.executable, "-m", "pip", *arguments, "--quiet", "--requirement", str(file)],
                    env={**self._variables, "TMPDIR": directory},
                    cwd=Path(directory),
                    deadline=deadline,
                )
            except TimedOut as error:
                raise TimedOut(without_passwords(f"pip {verb}: {error}")) from None
        if finished.returncode != 0 and (mismatch := _mismatch(finished.stderr + finished.stdout)):
            raise WrongHash(mismatch)
        if finished.returncode != 0:
            raise PipFailed(_message(finished))

    def _translate(self, deadline: Deadline) -> list[str]:
        """Return the places that uv asks, as options of pip."""
        options = (line.partition(" ")[::2] for line in self._uv.index_lines(deadline))
        places = [(option, self._url(place)) for option, place in options]
        if self._uv.variables.get("UV_OFFLINE"):
            places = [(option, place) for option, place in places if place.startswith("file:")]
        lines = [f"{option} {shlex.quote(place)}" for option, place in places]
        if not any(option == "--index-url" for option, _ in places):
            lines.append("--no-index")  # or pip would ask pypi.org
        # uv asks an index without TLS, pip only if its host is trusted.
        without_tls = [_host(place) for _, place in places if place.startswith("http:")]
        trusted = dict.fromkeys((*self._index.insecure_hosts, *without_tls))
        return [*lines, *(f"--trusted-host {shlex.quote(host)}" for host in trusted)]

    def _url(self, place: str) -> str:
        if not (url := urlsplit(place)).scheme:
            below = (directory / Path(place).expanduser() for directory in (self._rootdir, *self._rootdir.parents))
            return next((path.as_uri() for path in below if path.exists()), place)
        if login := self._index.logins.get(place.rstrip("/")):
            user, password = (quote(part, safe="") for part in login)
            return url._replace(netloc=f"{user}:{password}@{_host(place)}").geturl()
        return place


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


_WRONG_HASH = re.compile(
    r"^ +(?P<what>\S[^\n]*?) \(from -r [^\n]*\n(?P<expected>(?: +Expected [^\n]*\n)+) +Got +(?P<got>\w+)", re.MULTILINE
)


def _mismatch(output: str) -> str:
    """Return what pip says of files that differ from their hashes, each in a line; empty if it does not."""
    lines = []
    for match in _WRONG_HASH.finditer(output):
        package, _, file = match["what"].partition(" from ")
        url = urlsplit(file or package)
        algorithm, *digests = re.sub(r" *\n *Expected +or +", " ", match["expected"].strip()).split()[1:]
        expected = " or ".join(f"{algorithm}:{digest}" for digest in digests)
        name = f"{package} ({url.path.rpartition('/')[2]})" if file else without_passwords(package)
        lines.append(
            f"{name} does not match its hash in the bundle's requirements: expected {expected}, "
            f"got {algorithm}:{match['got']}"
        )
    advice = "Compare the file with one that you trust; if it is right, `uv pip compile --generate-hashes` has its hash"
    return "\n".join([*lines, advice]) if lines else ""


_REPORTED_LINES = 30
_FRAME = re.compile(r"^ {0,6}(?:[×│] )?(?:ERROR: )?")
_NOISE = re.compile(
    r"\[(notice|end of output)\]|note: This (error|is an issue)|hint: See (above|below)"
    r"|error: (subprocess-exited|metadata-generation)|exit code: "
    r"|╰─>|full command: |WARNING: (Location|The directory) "
)


def _message(finished: subprocess.CompletedProcess[str]) -> str:
    """Return the last lines that pip, or the build that it ran, printed; without pip's frame around them."""
    output = without_passwords(finished.stderr.strip() or finished.stdout.strip())
    lines: list[str] = []
    for printed in output.splitlines():
        line = _FRAME.sub("", printed.rstrip())
        repeated = not line.startswith(" ") and line in lines  # pip prints some lines within and after the frame
        if line and not _NOISE.search(printed) and not repeated:
            lines.append(line)
    text = "\n".join(lines[-_REPORTED_LINES:]) or f"pip exited with code {finished.returncode}"
    if "/pip/_internal/" in text:
        text += f"\nThis pip is {importlib.metadata.version('pip')}; it may be too old for that Python."
    full = full_disk_in(output)
    return f"{full}\n{text}" if full else text
