"""Files of known causes: the package's own `causes.toml`, and those that the setting `causes` names."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from pytest_modelops.config.setting import Place, Values, entries, leaf, many, not_one_of, setting, table
from pytest_modelops.config.types import STRING, TEXT, choice, matching, regex, text
from pytest_modelops.errors import WrongInput
from pytest_modelops.report.causes import COMPARISON, FILE, STATUSES, Cause, ProbableCause
from pytest_modelops.storage.toml import tomllib

_KEY = "cause"
_EVIDENCE = ("message", "log", "roles", "packages")


def _comparison(value: object) -> re.Match[str]:
    found = COMPARISON.fullmatch(text(value))
    if found is None:
        raise WrongInput(f"{value!r} compares no versions; write client.dask > scheduler.dask or worker.python >= 3.13")
    return found


def _package(value: object) -> Requirement:
    try:
        return Requirement(text(value))
    except InvalidRequirement as error:
        raise WrongInput(f"{value!r} is not a requirement: {error}") from None


_REGEX = leaf(lambda value: regex(value, re.MULTILINE), STRING)
_NEEDS = "an entry needs id and cause"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _CauseTable:
    id: str = setting(TEXT, "Its name.", required=_NEEDS)
    cause: str = setting(TEXT, "What it is, in a few words.", required=_NEEDS)
    remedy: str = setting(TEXT, "What to do about it.", "")
    issues: tuple[str, ...] = setting(
        many(matching(r"https?://\S+", "is not an address; write that of the issue, https://…")), "Public issues.", ()
    )
    check: tuple[str, ...] = setting(many(TEXT), "Checks that break this way.", ())
    status: tuple[str, ...] = setting(many(choice("a status of a check that broke", STATUSES)), "How they end.", ())
    message: re.Pattern[str] | None = setting(_REGEX, "What the check says.")
    log: re.Pattern[str] | None = setting(_REGEX, "What the last lines of a log say.")
    roles: tuple[re.Match[str], ...] = setting(many(leaf(_comparison, STRING)), "How the roles' versions compare.", ())
    packages: tuple[Requirement, ...] = setting(many(leaf(_package, STRING)), "Packages that are installed.", ())


def _cause(found: _CauseTable, values: Values, place: Place) -> Cause:
    if not set(_EVIDENCE) & set(values):
        raise WrongInput(f"{place}: fits every break; give it one of {', '.join(_EVIDENCE)}")
    return Cause(
        probable=ProbableCause(id=found.id, cause=found.cause, remedy=found.remedy, issues=found.issues),
        checks=found.check,
        statuses=found.status,
        message=found.message,
        log=found.log,
        roles=found.roles,
        packages=found.packages,
    )


_CAUSES = entries(table(_CauseTable, _cause))


def load(paths: Sequence[Path] = (), check_names: Collection[str] = ()) -> list[Cause]:
    """Return the known causes, those of the user's files first.

    Args:
        check_names: the checks that the user's files may name, besides tests by their node ids.

    Raises:
        WrongInput: a file cannot be read, or an entry is not valid.
    """
    found = {**{path: _read(path) for path in paths}, FILE: _shipped()}
    for path in paths:
        for cause in found[path]:
            for name in cause.checks:
                if "::" not in name and name not in check_names:
                    raise WrongInput(f"{path}: {cause.probable.id}: {not_one_of(name, 'a check', check_names)}")
    return [cause for causes in found.values() for cause in causes]


@functools.cache
def _shipped() -> tuple[Cause, ...]:
    return _read(FILE)


def _read(path: Path) -> tuple[Cause, ...]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WrongInput(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise WrongInput(f"{path}: not valid TOML: {error}") from None
    if others := sorted(content.keys() - {_KEY}):
        raise WrongInput(f"{path}: {others[0]!r} is not read; a cause is a table [[{_KEY}]]")
    return _CAUSES.read(content.get(_KEY, []), Place(origin=str(path), inside=_KEY, directory=path.parent))
