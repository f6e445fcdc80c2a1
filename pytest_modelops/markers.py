"""The markers: checked at collection, and carried out before the test's body runs."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_modelops.errors import NotShippable, WrongInput

if TYPE_CHECKING:
    import pytest

    from pytest_modelops.bundles.bundle import Bundle
    from pytest_modelops.cell.live import LiveCell
    from pytest_modelops.config.faults import Fault

DECLARATIONS = (
    "modelops_cells(*globs): run this test only in the cells whose id matches one of the patterns, as 'py3.13-*'.",
    (
        "modelops_lambda(function, *args, expect=<anything>, deadline=<seconds>): before the test's body, run the "
        "function (or the source of a lambda) with these arguments on every worker of the cell; each must return "
        "`expect`, where given, within the deadline."
    ),
    (
        "modelops_aggregation(params=20, replicates=20, deadline=<seconds>): before the test's body, fan params x "
        "replicates tasks in to params aggregates on the cell; every number must be right."
    ),
    (
        "modelops_fault(fault, at=0.5, seconds=2, fails=<pattern>): when this share (or number) of the tasks of the "
        "test's modelops_aggregation, or else of its body, is done, have the fault happen to the cell: kill-worker, "
        "freeze-worker, cut-off, memory, disk-full, restart-scheduler or slow-network. The aggregation must complete, "
        "or fail with a message that matches `fails`."
    ),
    (
        "modelops_bundle(path, deadline=<seconds>): before the test's body, check the bundle in this directory or "
        "archive (or the configured one of this name) and install it on every worker of the cell."
    ),
    (
        "modelops_handshake(path, deadline=<seconds>): as modelops_bundle; and on every worker, all at once, its "
        "runner must start and answer within the deadline."
    ),
)
NAMES = frozenset(line.partition("(")[0] for line in DECLARATIONS)

_FAULT = "modelops_fault"
_OF_BUNDLES = ("modelops_bundle", "modelops_handshake")
_NOTHING = object()

Demand: TypeAlias = "Callable[[LiveCell], Mapping[str, object] | None]"
"""What one marker asks of a cell; may return figures for the report."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """What markers are read with.

    Attributes:
        oldest: the oldest Python whose syntax a function may use.
        directory: bundles' paths are relative to it.
        bundles: those that are configured.
        named: the bundles that markers have named so far, by name; added to.
        fault: what is to happen in the middle of the test's aggregation.
    """

    oldest: tuple[int, int]
    directory: Path
    bundles: Sequence[Bundle]
    named: dict[str, Bundle]
    fault: Fault | None = None


def applied(node: pytest.Item | pytest.Collector) -> bool:
    return any(mark.name in NAMES for mark in node.iter_markers())


def narrow(cell_ids: Sequence[str], marks: Iterable[pytest.Mark]) -> list[str]:
    """Return the ids that all `modelops_cells` markers leave.

    Raises:
        WrongInput: a marker's arguments are not patterns; names neither test nor marker.
    """
    left = list(cell_ids)
    for mark in marks:
        globs = [glob for glob in mark.args if isinstance(glob, str)]
        if not globs or len(globs) < len(mark.args) or mark.kwargs:
            raise WrongInput(
                f"wrong arguments {_shown(mark)}; use modelops_cells(*globs) with patterns of cell ids, "
                "such as 'py3.13-*'"
            )
        left = [cell_id for cell_id in left if any(fnmatchcase(cell_id, glob) for glob in globs)]
    return left


def demands(item: pytest.Item, context: Context) -> list[Demand]:
    """Return what the markers of a test ask for, outermost first.

    Raises:
        WrongInput: a marker's arguments are wrong; names test, marker and what is valid.
    """
    found = []
    context = dataclasses.replace(context, fault=_fault_of(item))
    for mark in reversed(list(item.iter_markers())):
        parse = _PARSERS.get(mark.name)
        if parse is None:
            continue
        try:
            inspect.signature(parse).bind(context, *mark.args, **mark.kwargs)
            found.append(parse(context, *mark.args, **mark.kwargs))
        except (TypeError, WrongInput) as error:
            raise _wrong(item, mark, error) from None
    return found


def fault_of_body(item: pytest.Item) -> Fault | None:
    """Return what is to happen while a test's body runs. Wrong arguments were refused by `demands`."""
    aggregates = any(mark.name == "modelops_aggregation" for mark in item.iter_markers())
    return None if aggregates else _fault_of(item)


def _fault_of(item: pytest.Item) -> Fault | None:
    from pytest_modelops.config import faults
    from pytest_modelops.config.setting import Place

    marks = list(item.iter_markers(_FAULT))
    aggregates = any(mark.name == "modelops_aggregation" for mark in item.iter_markers())
    if not marks:
        return None
    [mark, *more] = marks
    if more:
        raise _wrong(item, mark, WrongInput("there are several; a test has one fault"))
    if len(mark.args) != 1 or "fault" in mark.kwargs:
        raise _wrong(item, mark, TypeError())
    try:
        found = faults.read({"fault": mark.args[0], **mark.kwargs}, Place(origin="", directory=Path()))
    except WrongInput as error:
        raise _wrong(item, mark, WrongInput(str(error).removeprefix(": "))) from None
    if found.fails and not aggregates:
        problem = "fails is for the test's modelops_aggregation; in the body of a test use pytest.raises"
        raise _wrong(item, mark, WrongInput(problem))
    return found


def _wrong(item: pytest.Item, mark: pytest.Mark, error: Exception) -> WrongInput:
    usage = next(line for line in DECLARATIONS if line.startswith(f"{mark.name}("))
    reason = str(error) if isinstance(error, NotShippable | WrongInput) else f"wrong arguments {_shown(mark)}"
    return WrongInput(f"{item.nodeid}: marker {mark.name}: {reason}; use {usage.partition(': ')[0]}")


def bundles_of(node: pytest.Item, directory: Path, bundles: Sequence[Bundle]) -> dict[Path, Bundle | None]:
    """Return the paths of the bundles that the markers of a test name, each with the one of these that is there.

    Args:
        directory: paths are relative to it.
    """
    found: dict[Path, Bundle | None] = {}
    there = {bundle.name: bundle for bundle in bundles}
    for mark in (one for name in _OF_BUNDLES for one in node.iter_markers(name)):
        text = str(mark.args[0] if mark.args else mark.kwargs.get("path", ""))
        path = there[text].path if text in there else directory / text
        found[path] = next((bundle for bundle in bundles if bundle.path.resolve() == path.resolve()), None)
    return found


def _shown(mark: pytest.Mark) -> str:
    given = [*map(repr, mark.args), *(f"{key}={value!r}" for key, value in mark.kwargs.items())]
    return f"({', '.join(given)})"


def _seconds(deadline: object) -> float | None:
    if deadline is None:
        return None
    if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not deadline > 0:
        raise WrongInput(f"deadline={deadline!r} is not a number of seconds above 0")
    return float(deadline)


def _lambda(context: Context, /, function: Any, *args: Any, expect: Any = _NOTHING, deadline: Any = None) -> Demand:
    from pytest_modelops.shipping import pack, ship

    seconds = _seconds(deadline)
    shipped = ship(function, oldest=context.oldest)
    for number, arg in enumerate(args, start=1):
        pack(arg, f"argument {number}")

    def as_expected(value: object) -> bool:
        return expect is _NOTHING or bool(value == expect)

    return lambda cell: cell.checks.run_lambda(
        shipped, args, expect=as_expected, expected=repr(expect), seconds=seconds
    )


def _aggregation(context: Context, /, *, params: Any = 20, replicates: Any = 20, deadline: Any = None) -> Demand:
    from pytest_modelops.config.model import AggregationSettings

    for name, value in {"params": params, "replicates": replicates}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise WrongInput(f"{name}={value!r} is not a whole number above 0")
    seconds = _seconds(deadline)
    settings = AggregationSettings(params=params, replicates=replicates)
    return lambda cell: cell.checks.run_aggregation(settings, seconds=seconds, fault=context.fault)


def _bundle(context: Context, /, path: Any, *, deadline: Any = None) -> Demand:
    from pytest_modelops.checks import bundle_install, preflight

    bundle, seconds = _bundle_at(path, context), _seconds(deadline)
    checks = [preflight.check(bundle), bundle_install.check(bundle)]
    return lambda cell: cell.checks.run_bundle(checks, seconds=seconds)


def _handshake(context: Context, /, path: Any, *, deadline: Any = None) -> Demand:
    from pytest_modelops.checks import bundle_install, handshake, preflight

    bundle, seconds = _bundle_at(path, context), _seconds(deadline)
    if bundle.in_workers:
        raise WrongInput(f"{bundle.name!r} is installed into the workers, where it has no runner")
    checks = [preflight.check(bundle), bundle_install.check(bundle), handshake.check(bundle)]
    return lambda cell: cell.checks.run_bundle(checks, seconds=seconds)


def _bundle_at(path: Any, context: Context) -> Bundle:
    from pytest_modelops.config.bundle_table import at

    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise WrongInput(f"{path!r} is not the path of a bundle")
    bundle = at(os.fspath(path), context.directory, context.bundles)
    for other in (*context.bundles, context.named.setdefault(bundle.name, bundle)):
        if bundle.name == other.name and bundle.path.resolve() != other.path.resolve():
            raise WrongInput(f"{str(path)!r} is named as another bundle, {other.path}; rename one of them")
    return bundle


_PARSERS: dict[str, Callable[..., Demand]] = {
    "modelops_lambda": _lambda,
    "modelops_aggregation": _aggregation,
    "modelops_bundle": _bundle,
    "modelops_handshake": _handshake,
}
