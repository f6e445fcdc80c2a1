"""Which releases of Dask the index has, asked through uv and remembered for when no index answers.

A release counts when dask and distributed both have it. Yanked ones, and pre-releases, count only when they
are asked for by their exact version, as with pip.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.uv import NoSolution, Uv, UvFailed
from pytest_modelops.errors import TimedOut, WrongInput
from pytest_modelops.matrix.versions import NoIndex
from pytest_modelops.storage.files import locked, read_json, write_json

PACKAGES = ("dask", "distributed")
_SECONDS = 60.0
"""For one question; uv needs 0.06 s with its HTTP cache, and 10 s to give up on a server that is silent."""


def as_of_options(as_of: dt.date | None) -> tuple[str, ...]:
    """Options to resolve as at the end of that day, UTC; a bare date would be in the machine's time zone."""
    if as_of is None:
        return ()
    return "--exclude-newer", f"{as_of + dt.timedelta(days=1)}T00:00:00Z"


def is_settled(as_of: dt.date | None) -> bool:
    """Whether answers as of that day can no longer change."""
    return as_of is not None and as_of < dt.datetime.now(dt.timezone.utc).date()


def undated_files(output: str) -> list[str]:
    """The files that uv left out for lack of an upload time, among what it said."""
    return re.findall(r"([^\s`]+)`? is missing an upload date", output)


def version_of_file(name: str) -> Version | None:
    """The version that the name of a wheel or an sdist tells; `None` if it is neither."""
    try:
        return parse_wheel_filename(name)[1] if name.endswith(".whl") else parse_sdist_filename(name)[1]
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None


class UvReleases:
    """The releases that the configured index has (implements `matrix.versions.Releases`).

    Args:
        fingerprint: of the index, under which answers are remembered.
        memory: file that holds them.
        as_of: only what had been uploaded by the end of that day.
        packages: which must all have a release.
    """

    def __init__(
        self,
        uv: Uv,
        *,
        fingerprint: str,
        memory: Path,
        as_of: dt.date | None = None,
        packages: Sequence[str] = PACKAGES,
    ) -> None:
        self._uv = uv
        self._key = f"{fingerprint}/{as_of or 'today'}/{'+'.join(packages)}"
        self._memory = memory
        self._as_of = as_of
        self._packages = packages
        self._notes = dict.fromkeys([f"as of {as_of}"] if as_of else [])
        self._asked: dict[str, list[Version]] = {}
        self._undated: dict[str, None] = {}

    @property
    def note(self) -> str:
        """What limits the answers that were given so far, for people."""
        return "; ".join(self._notes)

    def latest(self) -> Version:
        """The newest final release.

        Raises:
            NoIndex: no index answered, and nothing is remembered.
            WrongInput: the index cannot tell what it had on the day of `as_of`, or has no Dask.
        """
        found = self._remembering("latest", lambda _: [newest] if (newest := self._final("")) else [])
        if not found:
            self._complain("")
            raise WrongInput(f"the configured index has no final release of {' and '.join(self._packages)}")
        return found[0]

    def within(self, specifier: SpecifierSet) -> Sequence[Version]:
        """The final releases that the specifier admits, oldest first. The first time takes 0.06 s for each.

        Raises:
            NoIndex, WrongInput: as `latest`.
        """

        def walk(remembered: list[Version]) -> list[Version]:
            found: list[Version] = []
            while newest := self._final(_and(str(specifier), f"<{found[-1]}" if found else "")):
                if newest in remembered:  # what lies below it was asked before
                    return [*remembered[: remembered.index(newest) + 1], *reversed(found)]
                found.append(newest)
            return found[::-1]

        found = self._remembering(str(specifier) or "all", walk)
        if not found:
            self._complain(str(specifier))
        return found

    def near(self, version: Version, count: int = 2) -> Sequence[Version]:
        """Up to `count` final releases on each side of one that is not there; cheaper than `within` for all.

        Raises:
            NoIndex, WrongInput: as `latest`.
        """
        below: list[Version] = []
        while len(below) < count and (found := self._final(f"<{below[-1] if below else version}")):
            below.append(found)
        above: list[Version] = []
        while len(above) < count and (found := self._final(f">{above[-1] if above else version}", lowest=True)):
            above.append(found)
        return [*reversed(below), *above]

    def exists(self, version: Version) -> bool:
        """Whether there is that release, be it final or not. One that was seen once is not asked for again.

        Raises:
            NoIndex, WrongInput: as `latest`.
        """
        if str(version) in self._recall().get("seen", ()):
            return True
        found = self._ask(f"=={version}")
        if not found:
            self._complain(f"=={version}")
            return False
        self._remember({}, [version])
        return True

    def _remembering(self, question: str, ask: Callable[[list[Version]], list[Version]]) -> list[Version]:
        """Answer from the index; with what is remembered if it is silent or could say nothing else."""
        if question in self._asked:
            return self._asked[question]
        old = self._recall().get("answers", {}).get(question)
        known = [Version(text) for text in old["versions"]] if old else []
        if not (known and is_settled(self._as_of)):
            try:
                known = ask(known)
            except NoIndex:
                if not known:
                    raise
                day = dt.date.fromisoformat(old["day"])
                self._notes[f"the index did not answer; {question} is {known[-1]} as of {day}"] = None
            else:
                day = dt.datetime.now(dt.timezone.utc).date()
                self._remember({question: {"versions": list(map(str, known)), "day": str(day)}}, known)
        self._asked[question] = known
        return known

    def _final(self, limits: str, *, lowest: bool = False) -> Version | None:
        while len(found := self._ask(limits, "--prerelease", "disallow", lowest=lowest)) > 1:
            # One package is ahead, as on the day of a release: step to where both can be.
            limits = _and(limits, f">={max(found)}" if lowest else f"<={min(found)}")
        return found.pop() if found else None

    def _ask(self, limits: str, *options: str, lowest: bool = False) -> set[Version]:
        """The version of each package that uv picks within the limits; none where one of them has none."""
        try:
            solution = self._uv.compile(
                [f"{name}{limits}" for name in self._packages],
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
            raise NoIndex(f"no index answered: {error}") from error
        if files := undated_files(solution.stderr):
            self._undated.update(dict.fromkeys(files))
            self._notes[f"files without an upload time are left out, such as {next(iter(self._undated))}"] = None
        pins = [Requirement(line) for line in solution.stdout.splitlines() if "==" in line]
        return {Version(spec.version) for pin in pins for spec in pin.specifier}

    def _complain(self, limits: str) -> None:
        """Nothing was found: raise `WrongInput` if that may be only because the index gives no upload times."""
        for file in self._undated:
            version = version_of_file(file)
            if version and SpecifierSet(limits).contains(version, prereleases=True):
                raise WrongInput(
                    f"as-of = {self._as_of}: the configured index gives no upload time for {file}, so it "
                    "cannot tell what it had that day; leave as-of out, or use an index that can (pypi.org)"
                )

    def _recall(self) -> dict[str, Any]:
        remembered: dict[str, Any] = (read_json(self._memory) or {}).get(self._key, {})
        return remembered

    def _remember(self, answers: dict[str, Any], seen: Sequence[Version]) -> None:
        lock = self._memory.with_suffix(".lock")
        with (
            contextlib.suppress(TimedOut),  # another process is at it; what is not remembered is asked for again
            locked(lock, Deadline(_SECONDS), "the remembered releases"),
        ):
            everything = read_json(self._memory) or {}
            mine = everything.setdefault(self._key, {"seen": [], "answers": {}})
            mine["seen"] = sorted({*mine["seen"], *map(str, seen)})
            mine["answers"].update(answers)
            write_json(self._memory, everything)


_FAR_AHEAD = "3.99"
"""A Python that no `requires-python` keeps out: what installs on the cell's is for `resolve` to say."""


def _and(*limits: str) -> str:
    return ",".join(filter(None, limits))
