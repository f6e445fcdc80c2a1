"""Messages about a module that is missing, because nothing reads the file that asks for it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from pytest_modelops.checks.bundle_messages import Fault
from pytest_modelops.remote.shared.bundle_messages import BundleLocation

_MISSING = re.compile(r"No module named '(?P<name>[\w.]+)'|has no attribute '|cannot import name '")


def with_hint(faults: Sequence[Fault], location: BundleLocation) -> list[Fault]:
    """Return the faults; where one is about a missing module or name, say which lists of packages are not read."""
    unread = location.get("unread", [])
    hinted = []
    for fault in faults:
        match = _MISSING.search("\n".join((fault.head, *fault.details)))
        named = match["name"] if match else None
        # A missing name has to do with packages only where another package may stand for the one that is meant.
        relevant = unread if named else [one for one in unread if match and one.startswith("[tool.uv.sources]")]
        hint = ""
        if relevant:
            hint = (
                f" No installer of the bundle reads {'; '.join(relevant)}: list what it needs in a requirements.txt or "
                "in [project] dependencies."
            )
        hinted.append(dataclasses.replace(fault, head=f"{fault.head}{hint}"))
    return hinted
