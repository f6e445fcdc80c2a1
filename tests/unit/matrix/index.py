"""An index in memory."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pytest_modelops.matrix.versions import NoIndex


class Index:
    """An index with these releases, or one that does not answer."""

    def __init__(self, *releases: str, reachable: bool = True, note: str = "") -> None:
        self.releases = sorted(map(Version, releases))
        self.reachable = reachable
        self.note = note

    def _answer(self) -> Sequence[Version]:
        if not self.reachable:
            raise NoIndex("no index answered")
        return self.releases

    def latest(self) -> Version:
        return self.within(SpecifierSet())[-1]

    def exists(self, version: Version) -> bool:
        return version in self._answer()

    def within(self, specifier: SpecifierSet) -> Sequence[Version]:
        return [each for each in self._answer() if not each.is_prerelease and each in specifier]

    def near(self, version: Version) -> Sequence[Version]:
        every = self.within(SpecifierSet())
        middle = bisect.bisect(every, version)
        return every[max(0, middle - 2) : middle + 2]
