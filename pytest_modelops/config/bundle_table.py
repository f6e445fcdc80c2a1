"""`bundles` of `[tool.modelops]`, and `--modelops-bundle`."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_modelops.bundles.bundle import INSTALLS, Bundle
from pytest_modelops.config.setting import (
    Kind,
    Place,
    Type,
    Values,
    leaf,
    many,
    relative,
    section,
    setting,
    shown,
    table,
)
from pytest_modelops.config.types import COUNT, MODULE, STRING, choice, mapping, matching, path, string
from pytest_modelops.errors import WrongInput, said_of

_NEEDS_ENTRYPOINT = {
    "params": "that would take them",
    "seed": "that would take it",
    "target": "whose replicates it would aggregate",
    "expect": "that would return it",
}
"""Keys of a bundle that mean nothing without an entry point."""


def at(text: str, directory: Path, configured: Sequence[Bundle]) -> Bundle:
    """Return the configured bundle with this path or name and its settings, else a bundle without settings.

    Raises:
        WrongInput: there is no such directory or archive.
    """
    for bundle in configured:
        if text == bundle.name:
            return bundle
    found = _directory(text, directory)
    for bundle in configured:
        if found.resolve() == bundle.path.resolve():
            return bundle
    return Bundle(name=_name(found), path=found)


def distinct(found: tuple[Bundle, ...], origin: str) -> tuple[Bundle, ...]:
    """Refuse two bundles of one name."""
    by_name: dict[str, Bundle] = {}
    for bundle in found:
        if bundle.name not in by_name:
            by_name[bundle.name] = bundle
            continue
        other = by_name[bundle.name]
        if other.path.resolve() == bundle.path.resolve():
            raise WrongInput(f"{origin}: the bundle {bundle.path} is there twice; name it once")
        raise WrongInput(
            f"{origin}: {bundle.name!r} is the name of two bundles, {other.path} and {bundle.path}; rename one"
        )
    return found


def _directory(value: object, directory: Path) -> Path:
    from pytest_modelops.bundles import archive
    from pytest_modelops.bundles.containers import SUFFIXES

    found = path(value, directory)
    if not found.is_dir() and not (found.is_file() and archive.suffix_of(found)):
        raise WrongInput(f"{value!r} is neither a bundle's directory nor an archive ({', '.join(SUFFIXES)}): {found}")
    return found


def _name(found: Path) -> str:
    """Return a bundle's name, from its directory's or archive's; it is part of node ids and of paths in the cell."""
    from pytest_modelops.bundles import archive

    name = found.resolve().name if found.is_dir() else archive.name_of(found)
    if not re.fullmatch(r"[\w.+-]+", name, re.ASCII):
        raise WrongInput(
            f"{name!r} cannot be a bundle's name: only letters, digits and . + - _ are allowed; rename {found}"
        )
    return name


def _seed(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongInput(f"{shown(value)} is not a whole number")
    return value


def _plain_table(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise WrongInput(f"{shown(value)} is not a table, such as {{ beta = 0.3 }}")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise WrongInput(f"{shown(value)} cannot be sent as JSON: {error}") from None
    return value


def _expect(value: object) -> Mapping[str, str]:
    def content(value: object) -> str:
        found = string(value)
        if found.startswith("sha256:") and not re.fullmatch(r"sha256:[0-9a-fA-F]{64}", found):
            raise WrongInput(f"{found!r} is not sha256: and 64 hexadecimal digits")
        return found

    what = 'artifacts, such as { "result.json" = "…" } with text or sha256:<hex>'
    return mapping(value, what, lambda _: None, content)


_PLAIN_TABLE = leaf(_plain_table, {"type": "object"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Aggregation:
    params: int = setting(COUNT, "Parameter sets of `bundle-aggregation`.", Bundle.aggregation_params)
    replicates: int = setting(COUNT, "Replicates of each parameter set.", Bundle.aggregation_replicates)


_AGGREGATION = dataclasses.replace(section(_Aggregation), section=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BundleTable:
    """An entry of `bundles`."""

    path: Path = setting(
        relative(_directory, STRING),
        "The bundle's directory or archive, see [formats](#formats-of-bundles).",
        required='write one such as path = "bundles/seir"',
    )
    entrypoint: str | None = setting(
        matching(r"[\w.]+[:/][\w.-]+", "is not an entry point; write package.module/scenario or package.module:object"),
        'What the wire function is asked to run, `"seir.models/baseline"` or `"seir.models:baseline"`: a module of the '
        "bundle (or of a dependency), and a name that the wire function understands. Without it there is no `execute`.",
    )
    params: Mapping[str, object] = setting(_PLAIN_TABLE, "The entry point's parameters. Needs `entrypoint`.", {})
    seed: int = setting(leaf(_seed, {"type": "integer"}), "The entry point's seed. Needs `entrypoint`.", 0)
    target: tuple[str, ...] = setting(
        many(matching(r"[\w.]+[:/][\w.]+", "is not a target; write package.module:function")),
        'Functions that aggregate the replicates, `"targets.incidence:incidence_target"` or a list. Needs '
        "`entrypoint`. Without it there is no `bundle-aggregation`.",
        (),
    )
    target_data: Mapping[str, object] = setting(_PLAIN_TABLE, "Second argument of every target. Needs `target`.", {})
    imports: tuple[str, ...] = setting(
        many(MODULE), "Modules that must import on every worker. All others only have to be found.", ()
    )
    expect: Mapping[str, str] = setting(
        leaf(_expect, {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1}),
        'What artifacts must be: `{ "result.json" = "…" }`, text or `sha256:` and the hexadecimal digest. Needs '
        "`entrypoint`.",
        {},
    )
    install: str = setting(
        choice("a way to install", INSTALLS),
        '`"isolated"`: into an environment of its own on each worker; `"workers"`: into the running workers and the '
        'client, as a `WorkerPlugin` does; `"everywhere"`: into the scheduler, too. See below.',
        INSTALLS[0],
    )
    submits: tuple[str, ...] = setting(
        many(matching(r"[\w.]+:[\w.]+", "is not a function; write package.module:function")),
        "Functions of the bundle that your jobs submit themselves, as `client.submit` and `dask.delayed` do: "
        '`"gridmodel:run"` or a list. `bundle-install` fails if client, scheduler or a worker cannot load one. Needs '
        '`install = "workers"` or `"everywhere"`.',
        (),
    )
    aggregation: _Aggregation | None = setting(
        _AGGREGATION,
        "The size of `bundle-aggregation`. Every replicate has its own seed, counted up from `seed`. Needs "
        "`entrypoint` and `target`.",
        shown="{ params = 2, replicates = 3 }",
    )


def _finish(found: BundleTable, values: Values, place: Place) -> Bundle:
    with said_of(str(place.key("path"))):
        name = _name(found.path)
    if found.aggregation is not None and (not found.target or found.entrypoint is None):
        raise WrongInput(f"{place}: has aggregation, for which it needs an entrypoint and a target")
    for key, why in _NEEDS_ENTRYPOINT.items():
        if key in values and found.entrypoint is None:
            raise WrongInput(f"{place}: has {key} and no entrypoint {why}")
    if "target-data" in values and not found.target:
        raise WrongInput(f"{place}: has target-data and no target that would take it")
    if found.submits and found.install == INSTALLS[0]:
        raise WrongInput(
            f"{place}: has submits and is isolated: no process of the cluster has its functions; set install"
        )
    size = found.aggregation or _Aggregation()
    return Bundle(
        name=name,
        path=found.path,
        entrypoint=found.entrypoint,
        params=found.params,
        seed=found.seed,
        targets=found.target,
        target_data=found.target_data,
        imports=found.imports,
        expect=found.expect,
        aggregation_params=size.params,
        aggregation_replicates=size.replicates,
        install=found.install,
        submits=found.submits,
    )


_BUNDLE = table(BundleTable, _finish)


def _bundles(value: object, place: Place) -> tuple[Bundle, ...]:
    if not isinstance(value, list):
        raise WrongInput(f"{place}: {shown(value)} is not a list of paths or tables")
    return distinct(
        tuple(
            _BUNDLE.read({"path": one} if isinstance(one, str) else one, place.index(number))
            for number, one in enumerate(value)
        ),
        str(place),
    )


BUNDLES: Type[tuple[Bundle, ...]] = Type(_bundles, {"type": "string"}, kind=Kind.MANY, table=BundleTable)
