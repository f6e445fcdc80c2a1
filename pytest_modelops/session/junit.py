"""pytest's own JUnit report: the properties of a test, and those of the run once it is over."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from pytest_modelops.matrix.cell import Cell
from pytest_modelops.report.files import write_text
from pytest_modelops.report.model import CheckResult, RunReport
from pytest_modelops.report.verdict import sentence


def properties(cell: Cell, result: CheckResult | None, taken: str | None) -> Iterator[tuple[str, str]]:
    """Yield the properties of a test: its cell, and how its check ended.

    Args:
        taken: when the run started that the result is from, if it is from an earlier one.
    """
    yield "modelops.cell", cell.id
    yield "modelops.python", str(cell.base.python)
    yield "modelops.dask", cell.base.dask_text
    if taken is not None:
        yield "modelops.taken", taken
    if result is not None:
        yield from (("modelops.check", result.label), ("modelops.status", result.status.value))
        if result.blocked_by:
            yield "modelops.blocked-by", result.blocked_by
        if result.reproduce:
            yield "modelops.reproduce", result.reproduce


def complete(path: Path, report: RunReport, clean: Callable[[str], str]) -> None:
    """Add the properties of the run to what pytest has written, and make all texts fit to be shared.

    Args:
        clean: makes a text fit to be shared.

    Raises:
        OSError: it cannot be read or written.
    """
    try:
        tree = ElementTree.parse(path)  # noqa: S314 - pytest wrote it
    except ElementTree.ParseError as error:
        raise OSError(errno.EINVAL, f"not XML: {error}") from None
    for suite in tree.iter("testsuite"):
        added = ElementTree.Element("properties")
        found = {
            "verdict": sentence(report),
            "backend": report.backend,
            "configuration": report.configuration or "none",
        }
        for name, value in found.items():
            ElementTree.SubElement(added, "property", name=f"modelops.{name}", value=value)
        suite.insert(0, added)
    for element in tree.iter():
        element.text = clean(element.text) if element.text else element.text
        for name, value in element.attrib.items():
            element.set(name, clean(value))
    write_text(ElementTree.tostring(tree.getroot(), encoding="unicode", xml_declaration=True), path)
