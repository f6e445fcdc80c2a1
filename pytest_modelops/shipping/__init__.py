"""Functions and values on their way into a cell: functions as source, values as plain data.

A cell may not run the host's bytecode, so a function travels as the source of a module of its own. What cannot travel
is refused by name. Knows nothing of cells.
"""

from __future__ import annotations

from pytest_modelops.shipping.module import Shipped, ship
from pytest_modelops.shipping.values import pack, unpack

__all__ = ["Shipped", "pack", "ship", "unpack"]
