"""Turning what a check returns or raises into its result."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping

from pytest_modelops.checks.lambdas import end_of
from pytest_modelops.errors import (
    CellBroken,
    CheckFailed,
    ModelopsError,
    NothingToDo,
    RemoteError,
    TimedOut,
    Unavailable,
    of_full_disk,
)
from pytest_modelops.report.model import Status


def outcome_of(run: Callable[[], object]) -> tuple[Status, str, Mapping[str, object]]:
    """Run a check; return its status, its message (empty if it passed) and its figures.

    Raises:
        CellBroken: the check used a part of the cell that is broken already.
    """
    try:
        figures = _figures(run())
    except CellBroken:
        raise
    except NothingToDo as reason:
        return Status.SKIPPED, str(reason), {}
    except TimedOut as error:
        return Status.TIMED_OUT, str(error), dict(error.figures)
    except Unavailable as error:
        return Status.UNAVAILABLE, str(error), {}
    except RemoteError as error:
        return Status.FAILED, "\n".join([str(error), *end_of(error.traceback)]), {}
    except (ModelopsError, AssertionError) as error:
        return Status.FAILED, str(error) or type(error).__name__, dict(getattr(error, "figures", {}))
    except OSError as error:
        if full := of_full_disk(error):
            return Status.FAILED, full, {}
        return Status.FAILED, _of_a_bug(error), {}
    except Exception as error:  # noqa: BLE001 - a bug in a check, ours or a user's, ends that check and not the matrix
        return Status.FAILED, _of_a_bug(error), {}
    return Status.PASSED, "", figures


def _of_a_bug(error: Exception) -> str:
    return f"the check itself failed: {type(error).__name__}: {error}\n{traceback.format_exc()}"


def _figures(returned: object) -> dict[str, object]:
    if returned is None:
        return {}
    try:
        figures: object = json.loads(json.dumps(returned))
    except (TypeError, ValueError):
        figures = None
    if not isinstance(figures, dict):
        raise CheckFailed(f"the check returned {returned!r}; it may return a dict of figures as JSON has them, or None")
    return figures
