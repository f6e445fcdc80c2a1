"""What a run knows of earlier ones: the last run, whose results it may take, and what changed since a revision."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from pytest_modelops.cell.live import LiveCell
from pytest_modelops.session.changed import Asked, Touched, touched
from pytest_modelops.session.fingerprint import Fingerprints, Parts
from pytest_modelops.session.trusting import Trusted, TrustedJson, trusted


class EarlierJson(TypedDict):
    """`Earlier` as xdist's workers get it."""

    trusted: TrustedJson
    touched: Mapping[str, Any] | None


@dataclasses.dataclass(frozen=True)
class Earlier:
    """What was found.

    Attributes:
        fingerprint: the parts that all cells of this run have in common; empty in xdist's workers.
        trusted: what of the last run may be taken.
        touched: what changes in git can have touched; `None` if that was not asked for.
    """

    fingerprint: Parts
    trusted: Trusted
    touched: Touched | None

    @classmethod
    def find(cls, asked: Asked, cells: Iterable[LiveCell], *, backend: str, fingerprints: Fingerprints) -> Earlier:
        """Compare the run with earlier ones, as its settings ask for.

        Raises:
            WrongInput: git does not know the revision.
        """
        settings, config = asked.settings, asked.config
        found = touched(asked, settings.changed) if settings.changed is not None else None
        if config.option.collectonly:
            return cls({}, Trusted({}, {}), found)
        of_run = fingerprints.of_run(asked.configured, backend=backend, config=config)
        if not settings.trust_last:
            return cls(of_run, Trusted({}, {}), found)
        return cls(of_run, trusted(settings, cells, of_run, fingerprints), found)

    def to_json(self) -> EarlierJson:
        return {
            "trusted": self.trusted.to_json(),
            "touched": self.touched.to_json() if self.touched is not None else None,
        }

    @classmethod
    def from_json(cls, plain: EarlierJson) -> Earlier:
        found = Touched(**plain["touched"]) if plain["touched"] is not None else None
        return cls({}, Trusted.from_json(plain["trusted"]), found)
