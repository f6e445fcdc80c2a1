"""Runs pip for what uv cannot do: get wheels as files, and build those that no index has.

pip asks the index that uv asks, by options of a requirements file that only its owner can read and that is gone
afterwards. Of pip's own configuration nothing else counts: a constraint, a target or a format that a user
has set for daily work would make another wheelhouse, or none.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

import packaging
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.version import Version

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.index import Index
from pytest_modelops.environments.interpreters import Interpreter
from pytest_modelops.environments.uv import Finished, Runner, Uv, listed_variables, without_passwords
from pytest_modelops.errors import CheckFailed, TimedOut


class PipFailed(CheckFailed):
    """A pip command failed; the message is pip's words, or those of a build that it ran."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """What wheels are for. Its Python need not be at hand, unless something has to be built.

    Attributes:
        python: to the patch.
        abi: tag of its own ABI (`cp312`).
        platforms: tags of all platforms whose wheels it takes, best first.
        build: how its Python was built, as in `sys.version`.
        uv_options: by which uv resolves for it.
        interpreter: path of its Python on this machine.
    """

    python: Version
    abi: str
    platforms: tuple[str, ...]
    build: str
    uv_options: tuple[str, ...]
    interpreter: Path | None

    @functools.cached_property
    def tags(self) -> frozenset[Tag]:
        """Tags of the wheels that it takes."""
        python = self.python.release[:2]
        name = f"cp{python[0]}{python[1]}"
        return frozenset(
            [*cpython_tags(python, [self.abi], self.platforms), *compatible_tags(python, name, self.platforms)]
        )


TAGS_QUESTION = """
import json, sys
sys.path.append(sys.argv[1])
from packaging.tags import sys_tags
tags = list(sys_tags())
print(json.dumps([tags[0].abi, list(dict.fromkeys(t.platform for t in tags if t.platform != "any"))]))
"""
"""For the target's Python; its argument is a directory that holds the package `packaging`."""
_ANSWER_SECONDS = 30.0


def target_of(interpreter: Interpreter, run: Runner, *, env: Mapping[str, str], deadline: Deadline) -> Target:
    """An interpreter of this machine as a target.

    Raises:
        CheckFailed: it did not tell its tags.
        TimedOut: the deadline passed.
    """
    home = str(Path(str(packaging.__file__)).parents[1])
    command = [str(interpreter.path), "-I", "-c", TAGS_QUESTION, home]
    finished = run(command, env=env, cwd=interpreter.path.parent, deadline=deadline.at_most(_ANSWER_SECONDS))
    try:
        abi, platforms = json.loads(finished.stdout)
    except ValueError:
        words = finished.stderr.strip()
        raise CheckFailed(f"{interpreter.path} does not tell which wheels it takes: {words}") from None
    return Target(
        python=interpreter.version,
        abi=abi,
        platforms=tuple(platforms),
        build=interpreter.build,
        uv_options=("--python", str(interpreter.path)),
        interpreter=interpreter.path,
    )


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
        said_to_uv = uv.variables
        given = {
            "PIP_CERT": said_to_uv.get("SSL_CERT_FILE"),
            "PIP_CLIENT_CERT": said_to_uv.get("SSL_CLIENT_CERT"),
            "PIP_DEFAULT_TIMEOUT": said_to_uv.get("UV_HTTP_TIMEOUT"),
            "PIP_KEYRING_PROVIDER": said_to_uv.get("UV_KEYRING_PROVIDER"),
            "PIP_PROXY": said_to_uv.get("ALL_PROXY"),
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
        """Get wheels for a target, whatever Python this is.

        Args:
            lines: pins, each with its hashes; or all without.

        Raises:
            PipFailed: one is not there, or not what its hash says; or no index answered.
            TimedOut: the deadline passed.
        """
        fit = (
            *("--python-version", target.python.base_version, "--implementation", "cp", "--abi", target.abi),
            *(f"--platform={platform}" for platform in target.platforms),
        )
        self._pip([*("download", "--no-deps", "--only-binary=:all:"), *fit, "--dest", str(into)], lines, deadline)

    def build(self, line: str, interpreter: Path, into: Path, deadline: Deadline) -> None:
        """Build the wheel of one pin by an interpreter.

        Raises:
            PipFailed: it could not be had or built; the message is the builder's words.
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
        verb = next(word for word in arguments if word in {"download", "wheel"})
        # A directory of its own, since `-m` looks for modules in the working directory first, and since a pip that is
        # killed leaves what it has unpacked.
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
        if finished.returncode != 0:
            raise PipFailed(_words(finished))

    def _translate(self, deadline: Deadline) -> list[str]:
        """What uv asks, as pip takes it."""
        answer = [line.partition(" ")[::2] for line in self._uv.index_lines(deadline)]
        places = [(option, self._url(place)) for option, place in answer]
        if self._uv.variables.get("UV_OFFLINE"):
            places = [(option, place) for option, place in places if place.startswith("file:")]
        lines = [f"{option} {shlex.quote(place)}" for option, place in places]
        if not any(option == "--index-url" for option, _ in places):
            lines.append("--no-index")  # or pip would ask pypi.org
        # uv takes an index without TLS as it is, pip wants to be reported.
        open_ones = [_host(place) for _, place in places if place.startswith("http:")]
        trusted = dict.fromkeys((*self._index.insecure_hosts, *open_ones))
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


_REPORTED_LINES = 30
_FRAME = re.compile(r"^ {0,6}(?:[×│] )?(?:ERROR: )?")
_NOISE = re.compile(
    r"\[(notice|end of output)\]|note: This (error|is an issue)|hint: See (above|below)"
    r"|error: (subprocess-exited|metadata-generation)|exit code: "
    r"|╰─>|full command: |WARNING: (Location|The directory) "
)


def _words(finished: Finished) -> str:
    """What pip, or the build that it ran, said at the end; without pip's frame around it."""
    output = without_passwords(finished.stderr.strip() or finished.stdout.strip())
    answer: list[str] = []
    for line in output.splitlines():
        words = _FRAME.sub("", line.rstrip())
        repeated = not words.startswith(" ") and words in answer  # pip says some things within and after the frame
        if words and not _NOISE.search(line) and not repeated:
            answer.append(words)
    text = "\n".join(answer[-_REPORTED_LINES:]) or f"pip exited with code {finished.returncode}"
    if "/pip/_internal/" in text:
        text += f"\nThis pip is {importlib.metadata.version('pip')}; it may be too old for that Python."
    return text
