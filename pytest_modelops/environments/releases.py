"""Which releases of Dask the index has: asks uv, and remembers the answers for when no index answers.

A release counts if dask and distributed both have it. Yanked releases and pre-releases count only if they are asked for
by their exact version, as with pip.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.pins import pins, version_of_file
from pytest_modelops.environments.uv import NoSolution, Uv, UvFailed, as_of_options, undated_files
from pytest_modelops.errors import TimedOut, WrongInput
from pytest_modelops.matrix.versions import NoIndex
from pytest_modelops.storage.files import locked, read_json, write_json

PACKAGES = ("dask", "distributed")
"""What has the cell's release in every environment."""
_LAYOUT = 2
"""Version of the file; part of every key."""
_SECONDS = 60.0
"""For one question; uv needs 0.06 s with its HTTP cache, and 10 s to give up on a silent server."""
_FAR_AHEAD = "3.99"
"""A Python that satisfies every `requires-python`; `resolve` says what installs on the cell's own."""


class _Answer(TypedDict):
    """What the index answered to one question (`latest`, `all`, or a specifier): versions, and the day, ISO 8601, UTC.

    The file holds answers by question, for each index and `as-of`.
    """

    versions: list[str]
    day: str


def is_settled(as_of: dt.date | None) -> bool:
    """Whether answers as of that day can no longer change."""
    return as_of is not None and as_of < _today()


class UvReleases:
    """The releases that the configured index has (implements `matrix.versions.Releases`).

    `NoIndex` means that no index answered and nothing is remembered; `WrongInput` that the index gives no upload times,
    which `as_of` needs.

    Args:
        fingerprint: of the index, under which answers are remembered.
        memory: file that holds them.
        as_of: only what was uploaded by the end of that day counts.
    """

    def __init__(self, uv: Uv, *, fingerprint: str, memory: Path, as_of: dt.date | None = None) -> None:
        self._uv = uv
        self._key = f"{_LAYOUT}/{fingerprint}/{as_of or 'today'}/{'+'.join(PACKAGES)}"
        self._memory = memory
        self._as_of = as_of
        self._notes = dict.fromkeys([f"as of {as_of}"] if as_of else [])
        self._asked: dict[str, list[Version]] = {}
        self._undated: dict[str, None] = {}

    @property
    def note(self) -> str:
        """What limits the answers given so far, for people."""
        return "; ".join(self._notes)

    def latest(self) -> Version:
        """Return the newest final release. Raises `WrongInput` also if the index has none."""
        found = self._remembering("latest", lambda _: list(itertools.islice(self._walk(), 1)))
        if not found:
            self._refuse_undated("")
            raise WrongInput(f"the configured index has no final release of {' and '.join(PACKAGES)}")
        return found[0]

    def within(self, specifier: SpecifierSet) -> Sequence[Version]:
        """Return the final releases that the specifier admits, oldest first. The first time takes 0.06 s for each."""

        def ask(remembered: list[Version]) -> list[Version]:
            new: list[Version] = []
            for release in self._walk(str(specifier)):
                if release in remembered:  # everything below it was asked before
                    return [*remembered[: remembered.index(release) + 1], *reversed(new)]
                new.append(release)
            return new[::-1]

        found = self._remembering(str(specifier) or "all", ask)
        if not found:
            self._refuse_undated(str(specifier))
        return found

    def near(self, version: Version, count: int = 2) -> Sequence[Version]:
        """Return up to `count` final releases on each side of a missing one; cheaper than `within` for all."""
        below = list(itertools.islice(self._walk(beyond=version), count))
        above = itertools.islice(self._walk(beyond=version, upwards=True), count)
        return [*reversed(below), *above]

    def exists(self, version: Version) -> bool:
        """Return whether there is that release, final or not. One that was seen once is not asked for again."""
        if any(str(version) in answer["versions"] for answer in self._recall().values()):
            return True
        question = f"=={version}"
        found = self._remembering(question, lambda _: [*self._ask(question)])
        if not found:
            self._refuse_undated(question)
        return bool(found)

    def _remembering(self, question: str, ask: Callable[[list[Version]], list[Version]]) -> list[Version]:
        """Ask the index; answer from memory if it is silent, or if its answer cannot have changed."""
        if question in self._asked:
            return self._asked[question]
        old = self._recall().get(question)
        known = [Version(text) for text in old["versions"]] if old else []
        if not (known and is_settled(self._as_of)):
            try:
                known = ask(known)
            except NoIndex:
                if not old or not known:
                    raise
                self._notes[f"the index did not answer; {question} is {known[-1]} as of {old['day']}"] = None
            else:
                self._remember(question, {"versions": [*map(str, known)], "day": str(_today())})
        self._asked[question] = known
        return known

    def _walk(self, limits: str = "", *, beyond: Version | None = None, upwards: bool = False) -> Iterator[Version]:
        """Yield the final releases within the limits, from the newest down, or upwards; only those beyond a version."""
        while True:
            step = limits if beyond is None else _and(limits, f"{'>' if upwards else '<'}{beyond}")
            while len(found := self._ask(step, "--prerelease", "disallow", lowest=upwards)) > 1:
                # One package is ahead, as on the day of a release: step to where both can be.
                step = _and(step, f">={max(found)}" if upwards else f"<={min(found)}")
            if not found:
                return
            beyond = found.pop()
            yield beyond

    def _ask(self, limits: str, *options: str, lowest: bool = False) -> set[Version]:
        """Return the version of each package that uv picks within the limits; empty if a package has none."""
        try:
            solution = self._uv.compile(
                [f"{name}{limits}" for name in PACKAGES],
                "--no-deps",
                *("--python", sys.executable, "--python-version", _FAR_AHEAD),
                *as_of_options(self._as_of),
                *options,
                resolution="lowest" if lowest else "highest",
                deadline=Deadline(_SECONDS),
            )
        except NoSolution as error:
            self._undated.update(dict.fromkeys(undated_files(error.output)))
            return set()
        except (UvFailed, TimedOut) as error:
            why = f"no index answered: {error}"
            if isinstance(error, TimedOut):  # else uv's message has the address
                why += f" ({self._uv.index})"
            self._notes[why] = None
            raise NoIndex(why) from error
        if files := undated_files(solution.stderr):
            self._undated.update(dict.fromkeys(files))
            self._notes[f"files without an upload time are left out, such as {next(iter(self._undated))}"] = None
        return {version for pin in pins(solution.stdout) if (version := pin.version)}

    def _refuse_undated(self, limits: str) -> None:
        """Raise `WrongInput` if nothing was found within the limits only because the index gives no upload times."""
        for file in self._undated:
            version = version_of_file(file)
            if version and SpecifierSet(limits).contains(version, prereleases=True):
                raise WrongInput(
                    f"as-of = {self._as_of}: the configured index gives no upload time for {file}, so it "
                    "cannot say what it had that day; leave as-of out, or use an index that can (pypi.org)"
                )

    def _recall(self) -> dict[str, _Answer]:
        everything: dict[str, dict[str, _Answer]] = read_json(self._memory) or {}
        return everything.get(self._key, {})

    def _remember(self, question: str, answer: _Answer) -> None:
        lock = self._memory.with_suffix(".lock")
        with (
            contextlib.suppress(TimedOut, OSError),  # the file is held or the disk is full; it is asked for again
            locked(lock, Deadline(_SECONDS), "the remembered releases"),
        ):
            mine = {**self._recall(), question: answer}
            write_json(self._memory, {**(read_json(self._memory) or {}), self._key: mine})


def _and(*limits: str) -> str:
    return ",".join(filter(None, limits))


def _today() -> dt.date:
    return dt.datetime.now(dt.timezone.utc).date()
