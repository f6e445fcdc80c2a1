"""What becomes of a test in a cell: as an error of this package says, and by a fault that happens during its body."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import pytest

from pytest_modelops.cell.live import LiveCell
from pytest_modelops.cluster.faults import DuringJob
from pytest_modelops.errors import CellBroken, ModelopsError, NothingToDo, TimedOut
from pytest_modelops.markers import fault_of_body
from pytest_modelops.report.model import Status
from pytest_modelops.session.item import check_of

STATUS = pytest.StashKey[Status]()
_FIGURES = pytest.StashKey[dict[str, object]]()


def figures_of(item: pytest.Item) -> dict[str, object]:
    """Return what is known of a test for the report."""
    none: dict[str, object] = {}
    return item.stash.get(_FIGURES, none)


def note_figures(item: pytest.Item, figures: Mapping[str, object]) -> None:
    item.stash[_FIGURES] = {**figures_of(item), **figures}


def time_out(item: pytest.Item, error: TimedOut) -> None:
    item.stash[STATUS] = Status.TIMED_OUT
    note_figures(item, error.figures)


@contextlib.contextmanager
def outcomes(item: pytest.Item, cell: LiveCell) -> Iterator[None]:
    """End a test as an error of this package says."""
    try:
        yield
    except CellBroken:
        raise
    except NothingToDo as reason:
        raise pytest.skip.Exception(str(reason), _use_item_location=True) from None
    except ModelopsError as error:
        note_figures(item, error.figures)
        if isinstance(error, TimedOut):
            time_out(item, error)
        raise pytest.fail.Exception(cell.lifecycle.secrets.hide(str(error)), pytrace=False) from None


@contextlib.contextmanager
def during_body(item: pytest.Item, cell: LiveCell) -> Iterator[None]:
    """Have the fault that a test's marker names happen to the cell while the body of the test runs."""
    fault = fault_of_body(item) if check_of(item) is None else None
    if fault is None:
        yield
        return
    during: DuringJob | None = None
    try:
        with contextlib.ExitStack() as stack:
            with outcomes(item, cell):
                during = stack.enter_context(cell.checks.during_test(fault))
            yield
    finally:  # only now is it over
        if during is not None:
            note_figures(item, during.figures)
            text = str(during.happened or f"{fault.name} did not happen")
            item.add_report_section("call", "modelops fault", text)
    with outcomes(item, cell):
        if why := during.why_not_happened():
            raise why
