"""What `requirements.txt` and the files that it names say, as an installer gets it.

Format: https://pip.pypa.io/en/stable/reference/requirements-file-format/. An option that would give another environment
if it was ignored is either honoured or refused by name. All that is refused is reported at once.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from pytest_modelops.bundles.contents import PROJECT_FILES
from pytest_modelops.bundles.documents import logical_lines, option_of, read_bytes, read_text
from pytest_modelops.bundles.hashes import compare, hash_of, unhashed
from pytest_modelops.errors import MalformedBundle

_PLACES = ("--index-url", "--extra-index-url", "--find-links", "--trusted-host", "--no-index")
"""Options that say where packages come from, which is decided by the host."""
_ARCHIVES = (".whl", ".tar.gz", ".zip")
_INSTEAD = {
    **dict.fromkeys(_PLACES, "remove it; where packages come from is the host's configuration of uv or pip"),
    "--pre": "name the pre-release in its requirement, such as numpy>=2.0rc1",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Requirements:
    """What requirements files say.

    Attributes:
        lines: names, URLs and absolute paths.
        constraints: versions of what may be needed.
        hashes: of a line or constraint, those that its file may have, each `sha256:…`.
        hashed: whether everything has to have a hash, as pip's `--require-hashes` asks.
        files: all that were read.
    """

    lines: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    hashes: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    hashed: bool = False
    files: tuple[Path, ...] = ()

    def for_installer(self, requirements: Sequence[str]) -> tuple[str, ...]:
        """Return these requirements, the constraints as `--constraint=…`, and each with its hashes."""
        lines = (*requirements, *(f"--constraint={line}" for line in self.constraints))
        texts = (line + "".join(f" --hash={one}" for one in self.hashes.get(line, ())) for line in lines)
        return (*texts, *(["--require-hashes"] if self.hashed else []))


def read(files: Sequence[Path], directory: Path, indexes: Collection[str] | None = None) -> Requirements:
    """Read requirements files and those that they name with `-r` or `-c`.

    Paths become absolute; those outside of the bundle's directory are refused, since workers do not get them.

    Args:
        directory: the bundle's.
        indexes: URLs and directories where the host gets packages; a line may name these. `None` if any may be named.

    Raises:
        MalformedBundle: with every line that cannot be taken, one a line.
    """
    reader = _Reader(directory.resolve(), indexes)
    for file in files:
        reader.read(file.resolve(), ())
    return reader.result()


@dataclasses.dataclass(frozen=True)
class _Place:
    """A line: its file, for relative paths, and where it is, for people."""

    file: Path
    where: str
    constrains: bool


class _Reader:
    def __init__(self, directory: Path, indexes: Collection[str] | None) -> None:
        self._directory = directory
        self._indexes = None if indexes is None else {_normalized(index) for index in indexes}
        self._problems: list[str] = []
        self._requires_hashes = False
        self._files: list[Path] = []
        self._found: list[tuple[_Place, str, tuple[str, ...]]] = []

    def read(self, file: Path, readers: tuple[Path, ...], *, constrains: bool = False) -> None:
        self._files.append(file)
        for number, line in logical_lines(read_text(file)):
            place = _Place(file, f"{file.relative_to(self._directory)}, line {number}", constrains)
            try:
                self._line(line, place, readers)
            except MalformedBundle as error:
                self._problems.append(str(error))

    def result(self) -> Requirements:
        hashed = self._requires_hashes or any(hashes for *_, hashes in self._found)
        if hashed:
            constraints = [line for place, line, hashes in self._found if place.constrains and hashes]
            wanted = [one for one in self._found if not one[0].constrains]
            self._problems += filter(
                None, (unhashed(line, hashes, constraints, _local(line), place.where) for place, line, hashes in wanted)
            )
        if self._problems:
            raise MalformedBundle("\n".join(dict.fromkeys(self._problems)))
        hashes: dict[str, tuple[str, ...]] = {}
        for _, line, given in self._found:
            if given and _local(line) is None:  # a file of the bundle was compared already
                known = hashes.get(line, given)
                hashes[line] = tuple(one for one in known if one in given)
        return Requirements(
            lines=tuple(dict.fromkeys(line for place, line, _ in self._found if not place.constrains)),
            constraints=tuple(dict.fromkeys(line for place, line, _ in self._found if place.constrains)),
            hashes=hashes,
            hashed=hashed,
            files=tuple(self._files),
        )

    def _line(self, line: str, place: _Place, readers: tuple[Path, ...]) -> None:
        requirement, *options = re.split(r"\s+(?=--?[A-Za-z])", line)
        if not requirement.startswith("-"):
            hashes = tuple(self._hash(*option_of(option), place) for option in options)
            self._add(requirement, hashes, place)
            return
        for option in (requirement, *options):
            name, value = option_of(option)
            if name in {"--requirement", "--constraint"}:
                self._follow(option, value, place, readers, constrains=place.constrains or name == "--constraint")
            elif name == "--editable":
                self._add(value, (), place, editable=True)
            elif name == "--require-hashes":
                self._requires_hashes = True
            elif name not in _PLACES or not (self._is_the_hosts(name, value) or self._is_inside(value, place)):
                raise _unsupported(name, value, place)

    def _follow(self, option: str, path: str, place: _Place, readers: tuple[Path, ...], *, constrains: bool) -> None:
        if "://" in path:
            raise MalformedBundle(f"{place.where}: {option!r} names a URL; copy that file into the bundle")
        other = _inside(path, place, self._directory)
        if other in (*readers, place.file):
            raise MalformedBundle(f"{place.where}: {option!r} names a file that is being read already")
        if not other.is_file():
            raise MalformedBundle(f"{place.where}: {option!r} names a file that is not there ({other})")
        self.read(other, (*readers, place.file), constrains=constrains)

    def _hash(self, name: str, value: str, place: _Place) -> str:
        if name != "--hash":
            raise _unsupported(name, value, place)
        return hash_of(value, place.where)

    def _add(self, text: str, hashes: tuple[str, ...], place: _Place, *, editable: bool = False) -> None:
        line = self._requirement(text, place, editable=editable)
        if hashes and (path := _local(line)) and path.is_file():
            compare(read_bytes(path), hashes, text, place.where)
        self._found.append((place, line, hashes))

    def _is_the_hosts(self, name: str, value: str) -> bool:
        if self._indexes is None:
            return True
        if name == "--trusted-host":
            return value in {urlsplit(index).netloc for index in self._indexes} | {
                urlsplit(index).hostname for index in self._indexes
            }
        return _normalized(value or name) in self._indexes

    def _is_inside(self, value: str, place: _Place) -> bool:
        """Whether it is a directory of the bundle, whose wheels are installed in any case."""
        found = (place.file.parent / value).resolve()
        return value != "" and "://" not in value and found.is_dir() and found.is_relative_to(self._directory)

    def _requirement(self, requirement: str, place: _Place, *, editable: bool) -> str:
        if variable := re.search(r"\$\{\w+\}", requirement):
            raise MalformedBundle(f"{place.where}: {variable[0]} is not filled in; write its value")
        if re.match(r"[a-z+]+://", requirement) and not requirement.startswith("file:"):
            return requirement
        if editable or _is_path(requirement):
            if place.constrains:
                raise MalformedBundle(f"{place.where}: {requirement!r}: a constraint is a name and its versions")
            if named := _with_marker(requirement, place, self._directory):
                return named
            path = re.sub(r"\[[\w\s,.-]*\]$", "", requirement)
            extras = requirement[len(path) :]
            return f"{_project(path, place, self._directory)}{extras}"
        try:
            parsed = Requirement(requirement)
        except InvalidRequirement:
            raise MalformedBundle(
                f"{place.where}: {requirement!r} is not a requirement; write one such as numpy>=2, "
                "or the path of a directory or wheel, such as ./libs/contracts"
            ) from None
        if parsed.url and (parsed.url.startswith("file:") or "://" not in parsed.url):
            parsed.url = _project(parsed.url, place, self._directory).as_uri()
            return str(parsed)
        return requirement


def _local(line: str) -> Path | None:
    """Return the directory or file of the bundle that a line of the result names."""
    if match := re.match(r"(/.*?)(\[[\w\s,.-]*\])?$", line):
        return Path(match[1])
    match = re.search(r" @ file://(/[^ ;]*)", line)
    return Path(unquote(match[1])) if match else None


def _unsupported(name: str, value: str, place: _Place) -> MalformedBundle:
    shown = f"{name} {re.sub(r'//[^/@]+@', '//****@', value)}" if name in _PLACES and value else name
    instead = _INSTEAD.get(name, "remove it")
    return MalformedBundle(f"{place.where}: the option {shown} is not supported in a bundle; {instead}")


def _normalized(place: str) -> str:
    """Return a URL without what does not distinguish indexes: credentials, case of the host, a last slash."""
    parts = urlsplit(place)
    if not parts.netloc:
        return place.removeprefix("file://").rstrip("/")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}{parts.path}".rstrip("/")


def _is_path(requirement: str) -> bool:
    if requirement.startswith((".", "/")):
        return True
    if "@" in requirement:
        return False  # a name and its location
    text = requirement.partition(";")[0].strip()
    is_local = "://" not in text and (text.endswith(_ARCHIVES) or "/" in text)
    return is_local or requirement.startswith(("~", "file:"))


def _with_marker(text: str, place: _Place, directory: Path) -> str:
    """Return the path of a wheel and a marker as `name @ path ; marker`; empty if it is something else."""
    path, semicolon, marker = (part.strip() for part in text.partition(";"))
    if not semicolon or not path.endswith(".whl"):
        return ""
    wheel = _project(path, place, directory)
    try:
        return str(Requirement(f"{parse_wheel_filename(wheel.name)[0]} @ {wheel.as_uri()} ; {marker}"))
    except (InvalidRequirement, InvalidWheelFilename) as error:
        raise MalformedBundle(f"{place.where}: {text!r}: {str(error).splitlines()[0]}") from None


def _project(text: str, place: _Place, directory: Path) -> Path:
    """Return the absolute path of the project's directory or archive that a requirement names."""
    where = place.where
    if ";" in text:
        raise MalformedBundle(f"{where}: {text!r}: a path cannot have a marker here; write 'name @ path ; marker'")
    path = _inside(unquote(re.sub(r"^file:(//)?", "", text)), place, directory, shown=text)
    if not path.exists():
        raise MalformedBundle(f"{where}: {text!r}: there is no such file or directory ({path})")
    is_project = any((path / name).is_file() for name in PROJECT_FILES)
    if not is_project and not (path.is_file() and path.name.endswith(_ARCHIVES)):
        raise MalformedBundle(
            f"{where}: {text!r} is neither a wheel, an sdist nor a directory with a pyproject.toml or setup.py ({path})"
        )
    return path


def _inside(text: str, place: _Place, directory: Path, *, shown: str = "") -> Path:
    """Return the absolute path that a file names."""
    try:
        path = (place.file.parent / text).resolve()
        if not path.exists() and (directory / text).resolve().exists():  # as pip sees it, called in the bundle
            path = (directory / text).resolve()
        is_here = path.exists()
    except (OSError, ValueError, RuntimeError):
        raise MalformedBundle(f"{place.where}: {text!r} is not a path") from None
    if path.is_relative_to(directory):
        return path
    outside = f"{place.where}: {text!r} lies outside the bundle"
    if is_here:
        raise MalformedBundle(f"{outside}, so workers do not get it; move it into the bundle")
    if not text.startswith("/"):
        raise MalformedBundle(f"{outside}, and there is no such file or directory; workers get what is in the bundle")
    raise MalformedBundle(
        f"{place.where}: {shown or text!r} names a path that is not on this machine, as `pip freeze` writes it for a "
        "package that was built elsewhere; write its version instead, as `pip list --format=freeze` does"
    )
