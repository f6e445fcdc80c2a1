"""Images: found or pulled, asked what is in them, and given a cell's packages as a layer.

What an image is, it tells itself, in a container that may do nothing: its Python to the patch, its platform and its
libc, its packages. What it reported is remembered by the image's id, which is a hash of its content.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.version import Version

from pytest_modelops.backends.docker import belongings, confinement
from pytest_modelops.backends.docker.engine import Engine, ImageNotFound, translated
from pytest_modelops.backends.docker.process import ending_of
from pytest_modelops.config.docker import ContainerSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Progress
from pytest_modelops.errors import CheckFailed, TimedOut, Unavailable
from pytest_modelops.storage.files import locked, read_json, write_json

REPOSITORY = "modelops-cell"
"""Of the images that we build; the tag is a hash of what is in it."""
ENVIRONMENT = "/modelops/env"
"""Where the added packages are, as a virtual environment of the image's Python."""
_LAYOUT = 2
"""Version of what is built; part of every tag."""
_ASK_SECONDS = 60.0
"""A container that is asked something answers within a second or two."""
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
_COMPILE = """
import compileall, re, sys, sysconfig
skip = re.compile(r"/(test|tests|idlelib|lib2to3|turtledemo|_bundled|dist-packages|site-packages)/")
for directory, rx in ((sysconfig.get_path("stdlib"), skip), (sys.argv[1], None)):
    compileall.compile_dir(directory, quiet=2, rx=rx, workers=0)
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image:
    """An image on the engine.

    Attributes:
        name: as it was asked for.
        id: a hash of its content.
        digest: what a registry calls this content; its id where no registry has it.
        config: its own configuration (`Entrypoint`, `User`, `Env`, …).
        size: bytes.
    """

    name: str
    id: str
    digest: str
    architecture: str
    config: Mapping[str, Any]
    size: int

    @property
    def entry_point(self) -> str:
        """For people."""
        return " ".join(self.config.get("Entrypoint") or ())

    @property
    def warning(self) -> str:
        """What is wrong with its name; empty if nothing is."""
        last = self.name.rpartition("/")[2]
        if "@" in last or (":" in last and not last.endswith(":latest")):
            return ""
        return f"image {self.name}: `latest` is another image tomorrow; name a version or a digest ({self.digest})"

    @property
    def path(self) -> str:
        """PATH of its processes."""
        for variable in self.config.get("Env") or ():
            if variable.startswith("PATH="):
                return str(variable).removeprefix("PATH=")
        return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contents:
    """What an image reported of itself.

    Attributes:
        python: its Python, to the patch.
        executable: path of the interpreter; base: that of the one behind a virtual environment.
        machine: as wheels name it: `x86_64`.
        glibc: version of its C library; `None` for musl.
        packages: canonical name → version.
        modules: name → whether it is found.
    """

    python: Version
    executable: str
    base: str
    in_venv: bool
    site: str
    machine: str
    glibc: tuple[int, int] | None
    packages: Mapping[str, str]
    modules: Mapping[str, bool]
    uid: int
    gid: int

    @property
    def platform(self) -> str:
        """For people: `linux x86_64, glibc 2.36`."""
        libc = f"glibc {self.glibc[0]}.{self.glibc[1]}" if self.glibc else "musl"
        return f"linux {self.machine}, {libc}"

    @classmethod
    def parse(cls, answer: Mapping[str, Any]) -> Contents:
        """Read an image's answer."""
        libc = str(answer["libc"])
        numbers = libc.removeprefix("glibc ").split(".") if libc.startswith("glibc ") else None
        return cls(
            python=Version(answer["version"]),
            executable=answer["executable"],
            base=answer["base"],
            in_venv=answer["in_venv"],
            site=answer["site"],
            machine=str(answer["platform"]).removeprefix("linux-"),
            glibc=(int(numbers[0]), int(numbers[1])) if numbers else None,
            packages=answer["packages"],
            modules=answer["modules"],
            uid=answer["uid"],
            gid=answer["gid"],
        )


@dataclasses.dataclass(frozen=True)
class Ran:
    """A container that came to its end.

    Attributes:
        code: exit code; ending: in words.
    """

    code: int
    ending: str
    stdout: str
    stderr: str


class Images:
    """The images of one engine.

    Args:
        directory: of the cache, for what images reported.
        labels: of this run, for what is started here.
        fresh: trust no image that an earlier session built, and nothing that was remembered.
        session: an id that all processes of this pytest run share.
    """

    def __init__(
        self,
        engine: Engine,
        settings: ContainerSettings,
        *,
        directory: Path,
        labels: Mapping[str, str],
        fresh: bool,
        session: str,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._directory = directory
        self._labels = labels
        self._fresh = fresh
        self._session = session
        self._found: dict[str, Image | str] = {}

    def find(self, name: str, *, deadline: Deadline, progress: Progress) -> Image:
        """The image of this name; pulled if the engine has none.

        Raises:
            Unavailable: it cannot be had; the message holds the engine's words.
        """
        if name not in self._found:
            self._found[name] = self._find(name, deadline, progress)
        found = self._found[name]
        if isinstance(found, str):
            raise Unavailable(found)
        return found

    def _find(self, name: str, deadline: Deadline, progress: Progress) -> Image | str:
        with translated(self._engine, f"look for the image {name}"):
            try:
                return self._describe(name)
            except ImageNotFound:
                pass
        progress(f"pulling {name}")
        try:
            with translated(self._engine, f"pull the image {name}"):
                said = self._pull(name, deadline)
                if not said:
                    return self._describe(name)
        except CheckFailed as error:
            said = str(error)
        return (
            f"there is no image {name} on the engine at {self._engine.address}, and it could not be had: {said}\n"
            "Name another one (`image` or `prebuilt` in [tool.modelops.docker]), or bring it there: `docker pull`, "
            "`docker load`, `docker import`."
        )

    def _pull(self, name: str, deadline: Deadline) -> str:
        """Have the engine get an image; returns what it complained of on its way."""
        tag = None if "@" in name else name.rpartition("/")[2].partition(":")[2] or "latest"
        for step in self._engine.api.pull(name, tag=tag, stream=True, decode=True):
            deadline.check(f"pulling the image {name}")
            if "error" in step:
                return f"could not pull the image {name}: {step['error']}"
        return ""

    def _describe(self, name: str) -> Image:
        facts = self._engine.api.inspect_image(name)
        return Image(
            name=name,
            id=facts["Id"],
            digest=(facts.get("RepoDigests") or [facts["Id"]])[0],
            architecture=facts["Architecture"],
            config=facts.get("Config") or {},
            size=facts["Size"],
        )

    def ask(self, image: Image, *, deadline: Deadline, progress: Progress) -> Contents:
        """What is in an image, as its own Python says.

        Raises:
            Unavailable: it is for another kind of machine.
            CheckFailed: it has no Python, or does not run what it is given.
            TimedOut: it did not answer.
        """
        asked = sorted({*self._settings.require_modules, "distributed"})
        user = confinement.user_of(self._settings, str(image.config.get("User") or ""))
        decides = f"{image.id} {asked} {user} {hashlib.sha256(_QUESTION.encode()).hexdigest()}"
        file = self._directory / f"{hashlib.sha256(decides.encode()).hexdigest()[:32]}.json"
        answer = None if self._fresh else read_json(file)
        if answer is None:
            progress(f"looking into {image.name}")
            answer = self._ask(image, asked, user, deadline)
            write_json(file, answer)
        contents = Contents.parse(answer)
        if answer["implementation"] != "cpython":
            raise CheckFailed(
                f"image {image.name} has {answer['implementation']} {contents.python}; cells need CPython"
            )
        return contents

    def _ask(self, image: Image, asked: Sequence[str], user: str, deadline: Deadline) -> Any:
        tried = []
        for python in ("python", "python3"):
            try:
                ran = self.run(
                    image,
                    [python, "-c", _QUESTION, json.dumps(asked)],
                    user=user,
                    deadline=deadline.at_most(_ASK_SECONDS),
                )
            except TimedOut as error:
                raise TimedOut(f"{error} {self._swallowed(image)}") from None
            except CheckFailed as error:
                self._refuse_architecture(image, str(error))
                if "executable file not found" not in str(error) and "no such file" not in str(error).lower():
                    raise
                tried.append(f"{python} was not found")
                continue
            if _MARK in ran.stdout:
                return json.loads(ran.stdout.split(_MARK)[1])
            words = (ran.stderr + ran.stdout).strip()
            self._refuse_architecture(image, words)
            if ran.code in {126, 127} or "not found" in words:
                tried.append(f"{python}: it {ran.ending}: {words[-300:]}")
                continue
            raise CheckFailed(
                f"image {image.name} was given the command `{python} -c …`, which did not run: it {ran.ending}"
                f" and printed {words[-500:]!r}. {self._swallowed(image)}"
            )
        raise CheckFailed(
            f"image {image.name} has no Python that runs: {'; '.join(tried)}. Cells need one, 3.9 or newer."
        )

    @staticmethod
    def _swallowed(image: Image) -> str:
        if not image.entry_point:
            return "It has no entry point that could have kept it from it."
        return (
            f"Its entry point ({image.entry_point}) has to end in running the command that it is given, "
            'such as `exec "$@"` in a shell script.'
        )

    def _refuse_architecture(self, image: Image, words: str) -> None:
        labelled = image.architecture or "no machine"
        if labelled != self._engine.architecture or "exec format error" in words:
            but = ", as it says, but not its programs" if labelled == self._engine.architecture else ""
            raise Unavailable(
                f"image {image.name} is for {labelled}{but}, and the engine at "
                f"{self._engine.address} runs {self._engine.architecture} without emulating it "
                f"({words.strip()[-200:]}). "
                f"Name an image for {self._engine.architecture}, or install the emulation (binfmt_misc with QEMU)."
            )

    def run(
        self,
        image: Image,
        command: Sequence[str],
        *,
        user: str,
        deadline: Deadline,
        environment: Mapping[str, str] | None = None,
    ) -> Ran:
        """Run a command through the image's entry point to its end, in a container that may do nothing.

        Raises:
            CheckFailed: it could not be started.
            TimedOut: the deadline passed.
        """
        config = confinement.host_config(self._engine, self._settings, network="none", mounts={}, log="json-file")
        with self._container(image, command, user=user, host_config=config, environment=environment) as container:
            return self._to_its_end(container, f"{image.name}: {command[0]}", deadline)

    @contextlib.contextmanager
    def _container(self, image: Image, command: Sequence[str], **arguments: Any) -> Iterator[str]:
        with translated(self._engine, f"make a container of {image.name}"):
            created = self._engine.api.create_container(
                image.id, list(command), labels=dict(self._labels), stdin_open=False, **arguments
            )
        try:
            yield created["Id"]
        finally:
            belongings.remove(self._engine, "container", created["Id"])

    def _to_its_end(self, container: str, what: str, deadline: Deadline) -> Ran:
        api = self._engine.api
        with translated(self._engine, f"start {what}"):
            api.start(container)
        began = time.monotonic()
        while True:  # in steps: a read timeout of the SDK's would be the same for a slow engine and a slow command
            with translated(self._engine, f"look at {what}"):
                state = api.inspect_container(container)["State"]
            if not state["Running"] and state["Status"] != "created":
                break
            if deadline.passed:
                with translated(self._engine, f"read what {what} printed"):
                    words = api.logs(container, tail=5).decode(errors="replace").strip()
                said = f"; it printed {words[-500:]!r}" if words else " and printed nothing"
                raise TimedOut(f"{what} did not end within {deadline.seconds:g} s{said}.")
            time.sleep(0.05 if time.monotonic() - began < 2 else 0.3)  # noqa: PLR2004
        with translated(self._engine, f"read what {what} printed"):
            stdout = api.logs(container, stdout=True, stderr=False).decode(errors="replace")
            stderr = api.logs(container, stdout=False, stderr=True).decode(errors="replace")
        return Ran(int(state["ExitCode"]), ending_of(state, self._settings.memory), stdout, stderr)

    # Layers ---------------------------------------------------------------------------------------------------------

    def built(self, key: str) -> Image | None:
        """The image that was built of these contents, if it is there and may be trusted."""
        with translated(self._engine, "look for a built image"):
            try:
                image = self._describe(f"{REPOSITORY}:{key}")
            except ImageNotFound:
                return None
        labels = image.config.get("Labels") or {}
        if labels.get(belongings.IMAGE) != key:
            return None
        if self._fresh and labels.get(f"{belongings.PREFIX}session") != self._session:
            return None
        return image

    def key_of(self, base: Image, requirements: str) -> str:
        """What an image of this base and lock is tagged with."""
        return hashlib.sha256(f"{_LAYOUT}\n{base.id}\n{requirements}".encode()).hexdigest()[:20]

    def build(
        self, base: Image, contents: Contents, packages: Path, *, key: str, deadline: Deadline, progress: Progress
    ) -> Image:
        """Add a directory of installed packages to a base as a virtual environment, all bytecode compiled.

        Raises:
            CheckFailed: the engine could not.
            TimedOut: the deadline passed.
        """
        progress(f"adding packages to {base.name}")
        config = self._engine.api.create_host_config(network_mode="none")
        compile_all = [contents.executable, "-I", "-c", _COMPILE, ENVIRONMENT]
        with self._container(base, compile_all, user="0:0", host_config=config) as container:
            with tempfile.TemporaryFile() as archive:
                write_layer(archive, packages, contents)
                archive.seek(0)
                with translated(self._engine, f"put packages into {base.name}"):
                    self._engine.api.put_archive(container, "/", archive)
            ran = self._to_its_end(container, f"compiling in {base.name}", deadline)
            if ran.code != 0:
                raise CheckFailed(f"compiling in {base.name} {ran.ending}: {(ran.stderr + ran.stdout)[-2000:]}")
            with translated(self._engine, f"save {REPOSITORY}:{key}"):
                self._engine.api.commit(
                    container,
                    repository=REPOSITORY,
                    tag=key,
                    message=f"packages of a cell on {base.name}",
                    conf={
                        **base.config,
                        "User": str(base.config.get("User") or ""),
                        "Cmd": base.config.get("Cmd") or [contents.executable],
                        "Labels": {
                            **(base.config.get("Labels") or {}),
                            belongings.IMAGE: key,
                            f"{belongings.PREFIX}session": self._session,
                        },
                    },
                )
                return self._describe(f"{REPOSITORY}:{key}")

    def locked(self, key: str, deadline: Deadline) -> contextlib.AbstractContextManager[None]:
        """Held while an image is built, so that two processes do not build the same."""
        return locked(self._directory / f"{key}.lock", deadline, f"the image {REPOSITORY}:{key}")


def write_layer(archive: Any, packages: Path, contents: Contents) -> None:
    """Write packages, as `uv pip install --target` lays them out, as the tar of a virtual environment."""
    root = ENVIRONMENT.lstrip("/")
    library = f"{root}/lib/python{contents.python.major}.{contents.python.minor}"
    site = f"{library}/site-packages"
    texts = {
        f"{root}/pyvenv.cfg": (
            f"home = {PurePosixPath(contents.base).parent}\n"
            f"include-system-site-packages = true\nversion = {contents.python}\n"
        ).encode()
    }
    if contents.in_venv:  # what its packages are in is no base's site-packages
        texts[f"{site}/_modelops_base.pth"] = f"{contents.site}\n".encode()
    texts |= {f"{root}/bin/{name}": text for name, text in _scripts(packages / "bin")}
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for directory in ("modelops", root, f"{root}/bin", f"{root}/lib", library, site):
            tar.addfile(_entry(directory, tarfile.DIRTYPE, 0o755))
        for name in ("python", "python3"):
            link = _entry(f"{root}/bin/{name}", tarfile.SYMTYPE, 0o777)
            link.linkname = contents.base
            tar.addfile(link)
        for name, content in texts.items():
            info = _entry(name, tarfile.REGTYPE, 0o755 if "/bin/" in name else 0o644)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for path in sorted(packages.iterdir()):
            if path.name not in {"bin", ".lock"}:
                tar.add(path, f"{site}/{path.name}", filter=_owned_by_root)


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, int(time.time())
    return info


def _owned_by_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode |= 0o755 if info.isdir() or info.mode & 0o100 else 0o644
    return info


def _scripts(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Entry points, started by the environment's Python instead of the one that they were written by."""
    for script in sorted(directory.iterdir()) if directory.is_dir() else ():
        text = script.read_bytes()
        first, newline, rest = text.partition(b"\n")
        if first.startswith(b"#!") and b"python" in first:
            text = f"#!{ENVIRONMENT}/bin/python".encode() + newline + rest
        yield script.name, text
