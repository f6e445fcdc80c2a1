"""What is in an image, as its own Python reports it: its version to the patch, platform, libc, packages and modules.

The image is asked in a container that may do nothing. The answer is cached by the image's id, a hash of its content.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from packaging.version import Version

from pytest_modelops.backends.docker import confinement
from pytest_modelops.backends.docker.engine import Engine
from pytest_modelops.backends.docker.images import Image
from pytest_modelops.backends.docker.one_off import OneOff
from pytest_modelops.config.docker import ContainerSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Progress
from pytest_modelops.errors import CheckFailed, TimedOut, Unavailable
from pytest_modelops.storage.files import read_json, write_json

_ASK_SECONDS = 60.0
"""A container answers within a second or two; this is for machines under heavy load."""
_MARK = "\x1emodelops\x1e"
_QUESTION = f"""
import importlib.machinery as m, importlib.metadata as md, json, os, platform, sys, sysconfig
def there(name):
    path, spec = None, None
    for part in name.split("."):
        full = part if spec is None else spec.name + "." + part
        if path is None and spec is None and part in sys.builtin_module_names:
            return True
        spec = m.PathFinder.find_spec(full, path)
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return True
asked = json.loads(sys.argv[1])
release = "%d.%d.%d" % sys.version_info[:3]
level = {{"alpha": "a", "beta": "b", "candidate": "rc", "final": ""}}[sys.version_info[3]]
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION")
except (ValueError, OSError):
    libc = ""
sys.path[:] = [p for p in sys.path if p]
print({_MARK!r} + json.dumps({{
    "version": release + (level + str(sys.version_info[4]) if level else ""),
    "implementation": sys.implementation.name,
    "executable": sys.executable,
    "base": os.path.realpath(getattr(sys, "_base_executable", sys.executable)),
    "in_venv": sys.prefix != sys.base_prefix,
    "site": sysconfig.get_path("purelib"),
    "platform": sysconfig.get_platform(),
    "libc": libc or "musl",
    "packages": {{d.metadata["Name"]: d.version for d in md.distributions() if d.metadata["Name"]}},
    "modules": {{name: there(name) for name in asked}},
    "uid": os.getuid(),
    "gid": os.getgid(),
}}) + {_MARK!r})
"""


class ImageAnswer(TypedDict):
    """What an image's Python prints.

    Attributes:
        version: of Python, as PEP 440 writes it.
        implementation: `cpython`.
        executable: path of the interpreter.
        base: path of the interpreter behind a virtual environment.
        in_venv: whether the interpreter is that of a virtual environment.
        site: its site-packages.
        platform: as sysconfig names it: `linux-x86_64`.
        libc: `glibc 2.36`, or `musl`.
        packages: name → version of every distribution.
        modules: name → whether it is found, for the modules that were asked for.
        uid: of the container's user.
        gid: of the container's user.
    """

    version: str
    implementation: str
    executable: str
    base: str
    in_venv: bool
    site: str
    platform: str
    libc: str
    packages: dict[str, str]
    modules: dict[str, bool]
    uid: int
    gid: int


@dataclasses.dataclass(frozen=True)
class Contents:
    """What is in an image.

    Attributes:
        facts: as its Python printed them.
    """

    facts: ImageAnswer

    @functools.cached_property
    def python(self) -> Version:
        return Version(self.facts["version"])

    @property
    def machine(self) -> str:
        """As wheels name it: `x86_64`."""
        return self.facts["platform"].removeprefix("linux-")

    @property
    def glibc(self) -> tuple[int, int] | None:
        """Version of its C library; `None` for musl."""
        name, _, version = self.facts["libc"].partition(" ")
        major, _, minor = version.partition(".")
        return (int(major), int(minor.partition(".")[0])) if name == "glibc" else None

    @property
    def platform(self) -> str:
        """For people: `linux x86_64, glibc 2.36`."""
        return f"linux {self.machine}, {self.facts['libc']}"


class Inspector:
    """Asks images what is in them.

    Args:
        directory: of the cache, for answers.
        fresh: do not use cached answers.
    """

    def __init__(
        self, engine: Engine, settings: ContainerSettings, one_off: OneOff, *, directory: Path, fresh: bool
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._one_off = one_off
        self._directory = directory
        self._fresh = fresh

    def contents(self, image: Image, *, deadline: Deadline, progress: Progress) -> Contents:
        """Return what is in an image.

        Raises:
            Unavailable: it is for another kind of machine.
            CheckFailed: it has no CPython, or does not run the command that it is given.
            TimedOut: it did not answer.
        """
        asked = sorted({*self._settings.require_modules, "distributed"})
        user = confinement.user_of(self._settings, image.user)
        decides = f"{image.id} {asked} {user} {hashlib.sha256(_QUESTION.encode()).hexdigest()}"
        file = self._directory / f"{hashlib.sha256(decides.encode()).hexdigest()[:32]}.json"
        answer: ImageAnswer | None = None if self._fresh else read_json(file)
        if answer is None:
            progress(f"looking into {image.name}")
            answer = self._ask(image, asked, user, deadline)
            write_json(file, answer)
        if answer["implementation"] != "cpython":
            raise CheckFailed(
                f"image {image.name} has {answer['implementation']} {answer['version']}; cells need CPython"
            )
        return Contents(answer)

    def _ask(self, image: Image, asked: Sequence[str], user: str, deadline: Deadline) -> ImageAnswer:
        tried = []
        for python in ("python", "python3"):
            command = [python, "-c", _QUESTION, json.dumps(asked)]
            try:
                ran = self._one_off.run(image, command, user=user, deadline=deadline.at_most(_ASK_SECONDS))
            except TimedOut as error:
                raise TimedOut(f"{error} {_about_its_entry_point(image)}") from None
            except CheckFailed as error:
                self._refuse_architecture(image, str(error))
                if "executable file not found" not in str(error) and "no such file" not in str(error).lower():
                    raise
                tried.append(f"{python} was not found")
                continue
            if _MARK in ran.stdout:
                answer: ImageAnswer = json.loads(ran.stdout.split(_MARK)[1])
                return answer
            output = (ran.stderr + ran.stdout).strip()
            self._refuse_architecture(image, output)
            if ran.code in {126, 127} or "not found" in output:
                tried.append(f"{python}: it {ran.ending}: {output[-300:]}")
                continue
            raise CheckFailed(
                f"image {image.name} did not run the command that it was given, `{python} -c …`: it {ran.ending} and "
                f"printed {output[-500:]!r}. {_about_its_entry_point(image)}"
            )
        raise CheckFailed(
            f"image {image.name} has no Python that runs: {'; '.join(tried)}. Cells need one, 3.9 or newer."
        )

    def _refuse_architecture(self, image: Image, output: str) -> None:
        own = self._engine.architecture
        if image.architecture != own or "exec format error" in output:
            but = ", according to its configuration, but its programs are not" if image.architecture == own else ""
            raise Unavailable(
                f"image {image.name} is for {image.architecture or 'no machine'}{but}, and the engine at "
                f"{self._engine.address} runs {own} without emulating it ({output.strip()[-200:]}). "
                f"Name an image for {own}, or install the emulation (binfmt_misc with QEMU)."
            )


def _about_its_entry_point(image: Image) -> str:
    if not image.entry_point:
        return "It has no entry point that could be the cause."
    return (
        f"Its entry point ({image.entry_point}) has to end by running the command that it is given, "
        'such as `exec "$@"` in a shell script.'
    )
