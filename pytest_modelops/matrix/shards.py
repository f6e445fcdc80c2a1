"""Dividing the cells of a plan among machines, and the order in which cells tell most."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence

from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.cell import Cell, Role
from pytest_modelops.matrix.plan import LeftOut, Plan


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of several parts of a plan, counted from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def sharded(cells: Sequence[Cell], count: int, seconds: Mapping[str, float]) -> list[list[Cell]]:
    """Divide cells so that each shard takes about as long; the same input always gives the same shards.

    Args:
        seconds: measured, by cell id; a cell without any counts as the median one.
    """
    known = [seconds[cell.id] for cell in cells if cell.id in seconds]
    usual = statistics.median(known) if known else 1.0
    shards: list[list[Cell]] = [[] for _ in range(count)]
    loads = [0.0] * count
    # The longest first, each to the shard that has least to do.
    for cell in sorted(cells, key=lambda cell: (-seconds.get(cell.id, usual), cell.id)):
        least = loads.index(min(loads))
        shards[least].append(cell)
        loads[least] += seconds.get(cell.id, usual)
    place = {cell.id: number for number, cell in enumerate(cells)}
    return [sorted(shard, key=lambda cell: place[cell.id]) for shard in shards]


def part_of(plan: Plan, shard: Shard, seconds: Mapping[str, float]) -> Plan:
    """Return the part of a plan that one of several machines runs.

    Raises:
        WrongInput: there are fewer cells than shards.
    """
    if shard.count > len(plan.cells):
        raise WrongInput(f"--modelops-shard: there are {shard.count} shards for {len(plan.cells)} cells; use fewer")
    shards = sharded(plan.cells, shard.count, seconds)
    of_shard = {cell: number for number, cells in enumerate(shards, start=1) for cell in cells}
    others = [cell for cell in plan.cells if of_shard[cell] != shard.number]
    reasons = [LeftOut(id=cell.id, reason=f"in shard {of_shard[cell]}/{shard.count}") for cell in others]
    return Plan(
        cells=tuple(shards[shard.number - 1]), left_out=(*plan.left_out, *reasons), elsewhere=(*plan.elsewhere, *others)
    )


def telling_first(cells: Sequence[Cell], red: Collection[str]) -> list[Cell]:
    """Order cells by what they tell: those that were red, the newest and the lowest, then the most new versions.

    Each next cell has the most values of an axis, and then the most pairs of them, that no earlier one has.

    Args:
        red: ids of the cells that were broken last time.
    """
    rest = sorted(cells, reverse=True)
    was_red = [cell for cell in rest if cell.id in red]
    first = list(dict.fromkeys([*was_red, *rest[:1], *rest[-1:]]))
    seen: set[object] = set()
    for cell in first:
        seen.update(_values(cell), _pairs(cell))
    rest = [cell for cell in rest if cell not in first]

    def news(number: int) -> tuple[int, int, int]:
        """Sort key of a cell: the one with the most new values, and then pairs, is the least."""
        return -_new(_values(rest[number]), seen), -_new(_pairs(rest[number]), seen), number

    heap = [news(number) for number in range(len(rest))]
    heapq.heapify(heap)
    while heap:
        number = heap[0][2]
        now = news(number)
        if now != heap[0]:  # since it was put there, other cells had some of its values
            heapq.heapreplace(heap, now)
            continue
        heapq.heappop(heap)
        first.append(rest[number])
        seen.update(_values(rest[number]), _pairs(rest[number]))
    return first


def _values(cell: Cell) -> list[tuple[object, ...]]:
    return [(role, name, value) for role in Role for name, value in _versions(cell, role)]


def _versions(cell: Cell, role: Role) -> list[tuple[str, str]]:
    return [("python", str(cell[role].python)), ("dask", cell[role].dask_text)]


def _pairs(cell: Cell) -> list[tuple[object, ...]]:
    return list(itertools.combinations(_values(cell), 2))


def _new(found: Iterable[object], seen: Collection[object]) -> int:
    return sum(one not in seen for one in found)
