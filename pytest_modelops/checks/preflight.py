"""`preflight[bundle]`: what the bundle's source shows before anything starts."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from packaging.version import Version

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.bundles.preflight import preflight
from pytest_modelops.checks.base import Check, CheckedCell
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import NothingToDo, Unavailable

_ONLY_LIST = ("environment", "conda", "Pipfile", "pixi")
"""How files begin that list what runs, and not only what development takes."""


def run(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Compare the bundle with the cell's workers, whose Python is known to the patch release."""
    try:
        python = cell.backend.python(cell.cell.worker, deadline=deadline, progress=cell.progress)
    except Unavailable as error:
        first = str(error).partition("\n")[0]
        raise NothingToDo(f"which Python the workers would run is not known: {first}") from None
    return compare(bundle, cell, python, deadline)


def compare(bundle: Bundle, cell: CheckedCell, python: Version, deadline: Deadline) -> Mapping[str, object]:
    """Compare the bundle with workers that run this Python; returns figures."""
    source, unknown = preflight(
        bundle,
        worker_python=python,
        cell_id=cell.cell.id,
        unpacked=cell.unpacked,
        indexes=cell.backend.indexes,
        patterns=cell.patterns,
        deadline=deadline,
    )
    figures = {"format": source.format.value, "found": source.why, "modules": len(source.modules)}
    lists = {"unread": list(source.unread), "unknown": list(unknown)}
    of_conda = [one for one in source.unread if one.startswith(_ONLY_LIST)] if source.dependencies == () else []
    if of_conda:
        figures["note"] = (
            f"bundle {bundle.name!r}: no installer reads {', '.join(of_conda)}, and nothing else lists what it needs; "
            "list that in a requirements.txt"
        )
    return {**figures, **{name: found for name, found in lists.items() if found}}


def check(bundle: Bundle) -> Check:
    return Check(
        name="preflight",
        bundle=bundle,
        run=functools.partial(run, bundle),
        seconds=60,
        uses_cluster=False,
        summary="the bundle's source fits the cell, and what is named in it exists",
    )
