"""Archives as bundles: what they are called, and that none writes where it should not, whatever it holds."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import filelock
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from pytest_modelops.bundles.archive import name_of, suffix_of, unpack
from pytest_modelops.bundles.bundle import Bundle, Patterns
from pytest_modelops.bundles.formats import Format, read
from pytest_modelops.bundles.unpacking import Limits
from pytest_modelops.checks import bundle_isolated, preflight
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import MalformedBundle, TimedOut
from pytest_modelops.matrix.cell import Cell, PythonVersion, Versions
from tests.conftest import MUTATIONS
from tests.unit.bundles.files import PACKERS, pack_tar, pack_zip


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def with_mode(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


class Place:
    """A directory with an archive in it, which is unpacked into another one beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.unpacked = directory / "unpacked"

    def write(self, name: str, content: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content)
        return path

    def unpack(self, name: str, content: bytes, limits: Limits | None = None) -> Path:
        path = self.write(name, content)
        return unpack(path, self.unpacked, limits=limits or Limits())

    def refused(self, name: str, content: bytes, limits: Limits | None = None) -> str:
        """What is said of an archive of which nothing is kept, nor written anywhere else."""
        with pytest.raises(MalformedBundle) as raised:
            self.unpack(name, content, limits)
        assert {path.name for path in self.directory.iterdir()} <= {name, "unpacked"}
        left = [path for path in self.unpacked.rglob("*") if path.is_file() and path.suffix != ".lock"]
        assert left == [], left
        (self.directory / name).unlink()
        said = str(raised.value)
        assert said.startswith(str(self.directory / name))
        assert "\n" not in said
        return said.removeprefix(f"{self.directory / name} ")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


# What is good.


@pytest.mark.parametrize("suffix", PACKERS)
def test_every_container_is_unpacked_once(place: Place, suffix: str) -> None:
    content = PACKERS[suffix](("a/b.py", b"1"), ("./c.py", b"22"), ("a/empty", b""))
    directory = place.unpack(f"model{suffix}", content)
    assert files_of(directory) == {"a/b.py": b"1", "c.py": b"22", "a/empty": b""}
    before = (directory / "c.py").stat().st_ino
    assert place.unpack(f"model{suffix}", content) == directory
    assert (directory / "c.py").stat().st_ino == before


def test_what_was_changed_after_it_was_unpacked_is_unpacked_again(place: Place) -> None:
    content = pack_zip(("a.py", b"1"))
    (place.unpack("model.zip", content) / "a.py").write_bytes(b"2")
    assert files_of(place.unpack("model.zip", content)) == {"a.py": b"1"}
    (place.unpack("model.zip", content) / "b.py").write_bytes(b"2")
    assert files_of(place.unpack("model.zip", content)) == {"a.py": b"1"}


@pytest.mark.parametrize("check_name", [preflight.run, bundle_isolated.run])
def test_a_check_waits_no_longer_than_it_may_for_another_that_unpacks(place: Place, check_name: Any) -> None:
    """In one that unpacks for ever this would wait for ever, so the lock is freed some time after the deadline."""
    place.unpack("model.zip", pack_zip(("a.py", b"1")))
    (lock,) = place.unpacked.glob("*.lock")
    versions = Versions(PythonVersion.parse("3.12"), None)
    cell: Any = SimpleNamespace(
        cell=Cell.uniform(versions),
        unpacked=place.unpacked,
        patterns=Patterns(),
        locations={},
        progress=lambda _: None,
        backend=SimpleNamespace(python=lambda *_, **__: Version("3.12.1"), indexes=()),
    )
    held = filelock.FileLock(lock, thread_local=False)
    held.acquire()
    frees = threading.Timer(10, held.release)
    frees.start()
    try:
        with pytest.raises(TimedOut, match=r"another process has been at unpacking model\.zip for the 0\.2 s"):
            check_name(Bundle(name="model", path=place.directory / "model.zip"), cell, Deadline(0.2))
    finally:
        frees.cancel()
        held.release()


def test_links_that_stay_inside_are_kept_and_hard_links_become_files(place: Place) -> None:
    content = pack_tar(
        ("data/one.csv", b"1"),
        special("code/two.csv", tarfile.SYMTYPE, "../data/one.csv"),
        special("all", tarfile.SYMTYPE, "data"),
        special("three.csv", tarfile.LNKTYPE, "data/one.csv"),
    )
    directory = place.unpack("model.tar", content)
    assert (directory / "code/two.csv").read_bytes() == (directory / "all/one.csv").read_bytes() == b"1"
    assert (directory / "three.csv").read_bytes() == b"1"
    assert (directory / "three.csv").stat().st_nlink == 1


def test_a_link_in_a_zip_is_a_link(place: Place) -> None:
    content = pack_zip(("a.py", b"1"), (with_mode("b.py", stat.S_IFLNK | 0o777), b"a.py"))
    assert (place.unpack("model.zip", content) / "b.py").readlink() == Path("a.py")


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_of_permissions_only_execution_is_kept(place: Place, suffix: str) -> None:
    if suffix == ".zip":
        content = pack_zip(
            (with_mode("run", stat.S_IFREG | 0o6755), b""), (with_mode("read", stat.S_IFREG | 0o400), b"")
        )
    else:
        infos = [tarfile.TarInfo("run"), tarfile.TarInfo("read")]
        infos[0].mode, infos[1].mode = 0o6755, 0o400
        content = pack_tar(*((info, b"") for info in infos))
    directory = place.unpack(f"model{suffix}", content)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {
        "run": 0o755,
        "read": 0o644,
    }


def test_a_wheel_lies_in_its_directory_as_it_is(place: Place) -> None:
    content = pack_zip(("model.py", b"1"))
    directory = place.unpack("model-1.0-py3-none-any.whl", content)
    assert files_of(directory) == {"model-1.0-py3-none-any.whl": content}


# What they are called.


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("seir.zip", "seir"),
        ("seir-1.0.tar.gz", "seir-1.0"),
        ("v1.2.TAR.BZ2", "v1.2"),
        ("My_Model-1.0-py3-none-any.whl", "my-model"),
        ("model.whl", "model"),
        ("a.tgz", "a"),
        ("a.txz", "a"),
    ],
)
def test_an_archive_is_called_by_its_stem_and_a_wheel_by_its_distribution(place: Place, file: str, name: str) -> None:
    assert name_of(place.write(file, b"")) == name


def test_an_sdist_is_called_by_its_distribution(place: Place) -> None:
    content = PACKERS[".tgz"](("My_Model-1.0/a.py", b"x" * 3_000_000), ("My_Model-1.0/PKG-INFO", b""))
    assert name_of(place.write("My_Model-1.0.tar.gz", content)) == "my-model"
    assert name_of(place.write("Other-1.0.tar.gz", content)) == "Other-1.0"


@pytest.mark.parametrize("file", ["seir", "seir.gz", "seir.rar", "seir.zip.txt", "zip"])
def test_other_files_are_no_archives(place: Place, file: str) -> None:
    assert suffix_of(Path(file)) is None
    said = place.refused(file, b"")
    assert said.startswith("is neither a directory nor an archive (.zip, .whl, .tar, .tar.gz, ")


# What is refused.

HOSTILE_NAMES = {
    "../evil.py": "'../evil.py' leads out of its directory",
    "a/../../evil.py": "leads out of its directory",
    "a/..": "leads out of its directory",
    "..\\evil.py": "leads out of its directory",
    "/tmp/evil.py": "'/tmp/evil.py' is an absolute path",
    "//evil.py": "is an absolute path",
    "\\evil.py": "is an absolute path",
    "\\\\host\\share\\evil.py": "is an absolute path",
    "C:\\evil.py": "is an absolute path",
    "c:evil.py": "is an absolute path",
    "a\\b.py": "has a backslash; pack it with / between the names of directories",
    "a\nb.py": "has a character that file names must not have",
    "a" * 256: "is too long or too deep",
    "a/" * 65 + "b.py": "is too long or too deep",
    "ab/" * 40 + "abcd" * 240: "is too long or too deep",
}


WHEEL = "model-1.0-py3-none-any.whl"
"""A wheel is not unpacked here, but by installers."""
CONSEQUENCES = {
    ("model.zip", pack_zip): "; nothing of it was unpacked",
    ("model.tar.gz", PACKERS[".tar.gz"]): "; nothing of it was unpacked",
    (WHEEL, pack_zip): "; no installer may get it",
}


@pytest.mark.parametrize(("file", "pack"), CONSEQUENCES)
@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_that_could_be_elsewhere_is_refused(
    place: Place, file: str, pack: Callable[..., bytes], name: str
) -> None:
    said = place.refused(file, pack(("good.py", b"1"), (name, b"1")))
    assert said.startswith("is refused: ")
    assert HOSTILE_NAMES[name] in said
    assert said.endswith(CONSEQUENCES[file, pack])


@pytest.mark.parametrize(("file", "pack"), CONSEQUENCES)
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("Model.py", "model.py"), "'model.py' and 'Model.py' are one name where case does not count"),
        (("Data/a", "data/b"), "'data' and 'Data' are one name where case does not count"),
        (("é", "e\u0301"), "are one name where case does not count"),
        (("straße", "STRASSE"), "are one name where case does not count"),
        (("a", "a/b"), "'a/b' lies in 'a', which is a file"),
        (("a/b", "a"), "'a' is there twice"),
        (("a/b", "a//b"), "'a//b' is there twice"),
    ],
)
def test_names_that_clash_are_refused(
    place: Place, file: str, pack: Callable[..., bytes], names: tuple[str, str], message: str
) -> None:
    assert message in place.refused(file, pack(*((name, b"") for name in names)))


def test_a_name_that_is_there_twice_in_a_zip_is_refused(place: Place) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = pack_zip(("a.py", b"1"), ("a.py", b"2"))
    assert "'a.py' is there twice" in place.refused("model.zip", content)


def zip_link(target: bytes) -> bytes:
    return pack_zip(("good.py", b"1"), (with_mode("link", stat.S_IFLNK | 0o777), target))


LINK, HARD_LINK = tarfile.SYMTYPE, tarfile.LNKTYPE
REFUSED: list[tuple[str, bytes, str]] = [
    *(
        ("model.tar", pack_tar(special("tty", kind)), "'tty' is a device, a pipe or another special file")
        for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    ),
    ("model.zip", pack_zip((with_mode("tty", stat.S_IFIFO | 0o644), b"")), "'tty' is a device"),
    # Links that lead out or nowhere.
    *(
        ("model.tar", pack_tar(("a/b", b""), special("link", LINK, target)), message)
        for target, message in {
            "/etc/passwd": "'link' is a link that leads out, to '/etc/passwd'",
            **dict.fromkeys(("../evil", "a/../../evil", "C:evil", "a\\..\\..", ""), "leads out"),
            "nothing": "'link' is a link to 'nothing', which is not in it",
            "link": "which is not in it",
        }.items()
    ),
    (
        "model.tar",
        pack_tar(
            ("a/b/c", b""),
            special("a/b/up", LINK, "../.."),  # the top
            special("out", LINK, "a/b/up/.."),  # seems to be a/b, and is above the top
        ),
        "'out' is a link that leads out",
    ),
    ("model.zip", zip_link(b"../../evil"), "leads out, to '../../evil'"),
    (WHEEL, zip_link(b"../../evil"), "is refused: 'link' is a link that leads out, to '../../evil'"),
    (WHEEL, zip_link(b"good.py"), "is refused: 'link' is a link, which installers turn into a file"),
    # Hard links that do not lead to a file before them.
    *(
        (
            "model.tar",
            pack_tar(
                ("directory/a", b""),
                special("link", LINK, "directory/a"),
                special("x", HARD_LINK, target),
                ("later", b""),
            ),
            message,
        )
        for target, message in {
            "../../etc/passwd": "'x' is a hard link that leads out, to '../../etc/passwd'",
            "/etc/passwd": "leads out",
            "later": "is a hard link to 'later', which is not a file before it",
            **dict.fromkeys(("directory", "link", "x"), "which is not a file before it"),
        }.items()
    ),
    # Other containers than the name says.
    ("model.zip", pack_tar(("a.py", b"1")), "it is not a complete zip archive"),
    ("model.tar.gz", pack_tar(("a.py", b"1")), "it is not a complete gz archive"),
]


@pytest.mark.parametrize(("file", "content", "message"), REFUSED)
def test_special_files_links_that_lead_out_and_other_containers_are_refused(
    place: Place, file: str, content: bytes, message: str
) -> None:
    assert message in place.refused(file, content)


@pytest.mark.parametrize("before", [True, False])
def test_nothing_is_written_through_a_link(place: Place, before: bool) -> None:
    link, file = special("directory", tarfile.SYMTYPE, "a"), ("directory/x", b"1")
    content = pack_tar(("a/b", b""), link, file) if before else pack_tar(("a/b", b""), file, link)
    said = place.refused("model.tar", content)
    assert "'directory/x' lies in 'directory', which is a link" in said or "'directory' is there twice" in said


def test_a_wheel_within_a_bundle_is_refused_as_well(place: Place) -> None:
    (place.directory / "bundle").mkdir()
    place.write(f"bundle/{WHEEL}", pack_zip(("../../evil.py", b"1")))
    with pytest.raises(MalformedBundle, match=r"model-1\.0-py3-none-any\.whl is refused: '\.\./\.\./evil\.py' leads"):
        read(place.directory / "bundle", place.unpacked)


# Bombs.

SMALL = Limits(files=3, size=1_000_000, ratio=10, small=1_000)


@pytest.mark.parametrize(
    ("file", "pack"), [*((f"model{suffix}", pack) for suffix, pack in PACKERS.items()), (WHEEL, pack_zip)]
)
def test_bombs_are_refused_by_ratio_size_and_count(place: Place, file: str, pack: Callable[..., bytes]) -> None:
    if file != "model.tar":
        said = place.refused(file, pack(("zeros", b"\0" * 200_000)), SMALL)
        assert "it would be larger than 10 times the archive" in said
        assert ("with 'zeros' it would" in said) or file != WHEEL
    said = place.refused(file, pack(("random", os.urandom(1_500_000))), SMALL)
    assert "it would be larger than 0 MiB" in said
    said = place.refused(file, pack(*((str(n), b"") for n in range(4))), Limits(files=3))
    assert "it holds more than 3 files" in said


def test_a_bomb_of_hard_links_is_refused(place: Place) -> None:
    links = [special(str(number), tarfile.LNKTYPE, "a") for number in range(100)]
    content = pack_tar(("a", os.urandom(20_000)), *links)
    assert "larger than" in place.refused("model.tar", content, Limits(size=1_000_000))


def test_a_header_that_would_fill_the_memory_is_refused(place: Place) -> None:
    info = tarfile.TarInfo("a.py")
    info.pax_headers = {"comment": "x" * 3_000_000}
    content = gzip.compress(pack_tar((info, b"1")))
    assert "it has a header of 3" in place.refused("model.tar.gz", content)


# Damage.


@pytest.mark.parametrize("suffix", PACKERS)
def test_what_is_cut_off_is_refused(place: Place, suffix: str) -> None:
    content = PACKERS[suffix](("a.py", os.urandom(2000)), ("b.py", os.urandom(2000)))
    content = content.rstrip(b"\0") if suffix == ".tar" else content
    for length in (0, 1, 600, len(content) // 2, len(content) - 5):
        assert "cannot be unpacked" in place.refused(f"model{suffix}", content[:length])


def test_a_damaged_header_is_not_taken_for_the_end(place: Place) -> None:
    content = bytearray(pack_tar(("a.py", b"1"), ("b.py", b"2")))
    content[1024 + 150] ^= 1  # the checksum of the second
    assert "it is cut off or damaged" in place.refused("model.tar", bytes(content))


def test_an_encrypted_member_is_refused(place: Place) -> None:
    content = bytearray(pack_zip(("a.py", b"1")))
    content[content.index(b"PK\1\2") + 8] |= 1
    assert "'a.py' is encrypted" in place.refused("model.zip", bytes(content))


# Garbage.

SOURCES = {
    suffix: pack(("a/b.py", b"x = 1\n" * 20), ("c.py", b"y"), ("setup.py", b""), ("empty/", b""))
    for suffix, pack in PACKERS.items()
    if suffix != ".tgz"
}
SOURCES[".tar"] = pack_tar(
    ("a/b.py", b"x = 1\n" * 20),
    special("l", tarfile.SYMTYPE, "a"),
    special("h", tarfile.LNKTYPE, "a/b.py"),
    ("é" * 80, b""),
    mode="w",
)
CHANGES = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=8)


@settings(max_examples=MUTATIONS)
@given(suffix=st.sampled_from(sorted(SOURCES)), changes=CHANGES, cut=st.integers(0, 64), fix=st.booleans())
def test_a_mutated_archive_is_unpacked_or_malformed(
    suffix: str, changes: list[tuple[int, int]], cut: int, fix: bool
) -> None:
    content = bytearray(SOURCES[suffix])
    for position, value in changes:
        content[position % len(content)] = value
    if suffix == ".tar" and fix:
        _write_checksums(content)
    with tempfile.TemporaryDirectory() as temporary:
        around = Path(temporary)
        (around / "inner").mkdir()
        place = Place(around / "inner")
        try:
            directory = place.unpack(f"model{suffix}", bytes(content[: len(content) - cut]))
        except MalformedBundle as error:
            assert str(error)  # noqa: PT017 - every other error is a failure
        else:
            assert directory.is_relative_to(place.unpacked)
            for path in directory.rglob("*"):
                assert path.resolve().is_relative_to(directory.resolve())
        assert [path.name for path in around.iterdir()] == ["inner"]
        assert {path.name for path in place.directory.iterdir()} == {f"model{suffix}", "unpacked"}
        assert len([path for path in place.unpacked.iterdir() if path.is_dir()]) <= 1


WHEEL_FILES = {
    "model/__init__.py": b"x = 1\n" * 20,
    "model-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: model\nVersion: 1.0\nRequires-Dist: numpy\n",
    "model-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "model-1.0.dist-info/entry_points.txt": b"[modelops.wire]\nwire = model:wire\n",
    "model-1.0.dist-info/RECORD": b"model/__init__.py,,\n",
}
STORED = io.BytesIO()
with zipfile.ZipFile(STORED, "w") as _archive:  # not compressed, so that mutations are also of what the files say
    for _name, _content in WHEEL_FILES.items():
        _archive.writestr(_name, _content)


@pytest.mark.timeout(300)
@settings(max_examples=MUTATIONS)
@given(changes=CHANGES, cut=st.integers(0, 8), stored=st.booleans())
def test_a_mutated_wheel_is_read_or_malformed(changes: list[tuple[int, int]], cut: int, stored: bool) -> None:
    content = bytearray(STORED.getvalue() if stored else pack_zip(*WHEEL_FILES.items()))
    for position, value in changes:
        content[position % len(content)] = value
    with tempfile.TemporaryDirectory() as temporary:
        place = Place(Path(temporary))
        path = place.write(WHEEL, bytes(content[: len(content) - cut]))
        try:
            source = read(path, place.unpacked)
            assert [wheel.name for wheel in source.wheels] == ["model"]
        except MalformedBundle as error:
            assert str(error)  # noqa: PT017 - every other error is a failure
        assert {path.name for path in place.directory.iterdir()} <= {WHEEL, "unpacked"}


def _write_checksums(content: bytearray) -> None:
    """So that a mutation is not always a damaged header."""
    for start in range(0, len(content) - 511, 512):
        if content[start + 257 : start + 262] == b"ustar":
            header = content[start : start + 512]
            header[148:156] = b" " * 8
            content[start + 148 : start + 156] = b"%06o\0 " % sum(header)


# As bundles.


def test_an_archive_is_a_bundle(place: Place) -> None:
    path = place.write("model.zip", pack_zip(("model-1.0/requirements.txt", b"numpy"), ("model-1.0/a.py", b"")))
    source = read(path, place.unpacked)
    assert (source.format, source.requirements, list(source.modules)) == (Format.NESTED, ("numpy",), ["a"])
    assert source.path.is_relative_to(place.unpacked)
    assert source.path.name == "model-1.0"


def test_litter_of_a_desktop_is_no_content(place: Place) -> None:
    entries = [("model/a.py", b""), ("__MACOSX/model/._a.py", b""), (".DS_Store", b""), ("model/.DS_Store", b"")]
    source = read(place.write("model.zip", pack_zip(*entries)), place.unpacked)
    assert list(source.modules) == ["a"]
    assert source.why == "it has 1 loose module, one directory down in model"


def test_a_damaged_wheel_is_a_malformed_bundle(place: Place) -> None:
    path = place.write("model-1.0-py3-none-any.whl", b"PK")
    with pytest.raises(MalformedBundle, match="is not a complete wheel"):
        read(path, place.unpacked)


def test_the_digest_of_an_archive_is_that_of_its_content(place: Place) -> None:
    files = [("a.py", b"1"), ("b/c.py", b"2")]
    digests = {
        read(place.write(f"model{suffix}", pack(*files)), place.unpacked).digest for suffix, pack in PACKERS.items()
    }
    assert len(digests) == 1
