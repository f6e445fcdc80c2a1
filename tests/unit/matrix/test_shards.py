"""A plan on several machines, as CI services take it, and in the order in which cells tell most."""

from __future__ import annotations

import fnmatch
import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix import pipelines
from pytest_modelops.matrix.cell import Cell, PythonVersion, Versions
from pytest_modelops.matrix.plan import Plan
from pytest_modelops.matrix.shards import Shard, part_of, sharded, telling_first

DASKS = ("2024.8.0", "2024.10.0", "2026.8.0")


def cell(python: str = "3.12", dask: str = "2024.10.0", worker: str = "") -> Cell:
    base = Versions(PythonVersion.parse(python), Version(dask))
    return Cell(base, base, base, Versions(PythonVersion.parse(worker or python), Version(dask)))


CELLS = [cell(f"3.{minor}", dask) for minor in (11, 12, 13) for dask in DASKS]
IDS = [one.id for one in CELLS]
seconds = st.dictionaries(st.sampled_from(IDS), st.floats(0.1, 1000))


@given(st.integers(1, len(CELLS)), seconds, st.randoms())
def test_shards_have_each_cell_once_whatever_the_order(count: int, measured: dict[str, float], random: object) -> None:
    shards = sharded(CELLS, count, measured)
    assert sorted(one for shard in shards for one in shard) == sorted(CELLS)
    assert all(shards)
    shuffled = list(CELLS)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert [set(shard) for shard in sharded(shuffled, count, measured)] == [set(shard) for shard in shards]


def test_shards_take_about_as_long() -> None:
    measured = dict(zip(IDS, [80, 10, 10, 10, 10, 10, 10, 10, 10], strict=True))
    long, short = sharded(CELLS, 2, measured)
    assert [one.id for one in long] == IDS[:1]
    assert [one.id for one in short] == IDS[1:]


def test_a_shard_of_a_plan_names_the_shards_of_the_other_cells() -> None:
    plan = Plan(cells=tuple(CELLS))
    parts = [part_of(plan, Shard(number, 4), {}) for number in range(1, 5)]
    assert sorted(one for part in parts for one in part.cells) == CELLS
    for number, part in enumerate(parts, start=1):
        assert part.whole == tuple(CELLS)
        assert len(part.left_out) == len(part.elsewhere) == len(CELLS) - len(part.cells)
        assert f"in shard {number}/4" not in {left.reason for left in part.left_out}
    assert Plan.from_json(json.loads(json.dumps(parts[0].to_json()))) == parts[0]
    with pytest.raises(WrongInput, match="there are 10 shards for 9 cells"):
        part_of(plan, Shard(1, 10), {})


@pytest.mark.parametrize("form", ["github", "gitlab"])
def test_each_job_selects_exactly_its_cell(form: str) -> None:
    odd = [*CELLS, cell("3.12", worker="3.13")]
    plain = json.loads(pipelines.FORMATS[form](odd))
    if form == "github":
        jobs = [(job["cell"], job["select"], job["pythons"].splitlines()) for job in plain["include"]]
        assert "\n" not in pipelines.github(odd), "a line of GITHUB_OUTPUT"
    else:
        of_job = {name: job["variables"] for name, job in plain.items()}
        jobs = [(n, v["PYTEST_MODELOPS_CELL"], v["MODELOPS_PYTHONS"].split()) for n, v in of_job.items()]
        assert {job["extends"] for job in plain.values()} == {".modelops-cell"}
    assert [name for name, _, _ in jobs] == [one.id for one in odd]
    assert jobs[-1][2] == ["3.12", "3.13"], "to install"
    for name, select, _ in jobs:
        (pattern,) = shlex.split(select)
        assert [one.id for one in odd if fnmatch.fnmatchcase(one.id, pattern)] == [name]


def test_an_id_with_the_characters_of_patterns_is_selected_too() -> None:
    base = Versions(PythonVersion.parse("3.12"), None, "==2024.*")
    unknown = Cell.uniform(base)
    (pattern,) = shlex.split(json.loads(pipelines.github([unknown]))["include"][0]["select"])
    assert fnmatch.fnmatchcase(unknown.id, pattern)
    assert not fnmatch.fnmatchcase(unknown.id.replace("*", "8"), pattern)


def test_more_jobs_than_github_runs_are_refused_with_what_to_do() -> None:
    many = [cell(f"3.{minor}", f"2024.{month}.0") for minor in range(20) for month in range(20)]
    with pytest.raises(WrongInput, match=r"400 cells are more than the 256 jobs .* --modelops-shard"):
        pipelines.github(many)


def test_what_was_red_is_first_then_the_newest_and_the_lowest_then_what_is_new() -> None:
    red = cell("3.12", "2024.8.0")
    order = telling_first(CELLS, {red.id})
    assert order[:3] == [red, CELLS[-1], CELLS[0]]
    assert order[3].base.dask_text == "2024.10.0", "the only version that none of the first has"
    assert sorted(order) == CELLS


@given(st.sets(st.sampled_from(IDS)), st.sets(st.sampled_from(CELLS), min_size=1))
def test_the_order_has_each_cell_once_and_every_version_early(red: set[str], cells: set[Cell]) -> None:
    order = telling_first(sorted(cells), red)
    assert sorted(order) == sorted(cells)
    assert {one.id for one in order[: len(red & {one.id for one in cells})]} == red & {one.id for one in cells}
    early = order[: len(red) + 2 + 6]
    assert {one.base.dask_text for one in early} == {one.base.dask_text for one in cells}
    assert {str(one.base.python) for one in early} == {str(one.base.python) for one in cells}
