"""The plan as CI services take it: one job a cell, from the same configuration as a run.

https://docs.github.com/en/actions/how-tos/write-workflows/choose-what-workflows-do/run-job-variations
https://docs.gitlab.com/ci/pipelines/downstream_pipelines/#dynamic-child-pipelines
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence

from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.cell import Cell

_MOST_JOBS = 256
"""Of a matrix of GitHub Actions."""


def github(cells: Sequence[Cell]) -> str:
    """Return the value of `strategy.matrix`, on one line.

    Raises:
        WrongInput: GitHub runs no matrix of so many jobs.
    """
    if len(cells) > _MOST_JOBS:
        raise WrongInput(
            f"--modelops-plan=github: {len(cells)} cells are more than the {_MOST_JOBS} jobs of a GitHub matrix; run "
            "shards instead, with --modelops-shard in a matrix of 1/8, 2/8, …"
        )
    jobs = [
        {
            "cell": cell.id,
            "python": str(cell.base.python),
            "dask": cell.base.dask_text,
            "pythons": "\n".join(_pythons(cell)),
            "select": _selecting(cell),
        }
        for cell in cells
    ]
    return json.dumps({"include": jobs}, ensure_ascii=False)


def gitlab(cells: Sequence[Cell]) -> str:
    """Return a child pipeline, as JSON, which is YAML, too; its jobs extend `.modelops-cell`."""
    jobs = {
        cell.id: {
            "extends": ".modelops-cell",
            "variables": {
                "PYTEST_MODELOPS_CELL": _selecting(cell),
                "MODELOPS_PYTHON": str(cell.base.python),
                "MODELOPS_PYTHONS": " ".join(_pythons(cell)),
            },
        }
        for cell in cells
    }
    return json.dumps(jobs, indent=2, ensure_ascii=False)


FORMATS: Mapping[str, Callable[[Sequence[Cell]], str]] = {"github": github, "gitlab": gitlab}


def _pythons(cell: Cell) -> list[str]:
    return list(dict.fromkeys(str(versions.python) for versions in cell.needed))


def _selecting(cell: Cell) -> str:
    """Return the value of `PYTEST_MODELOPS_CELL` that selects exactly this cell."""
    return shlex.quote(re.sub(r"([*?[])", r"[\1]", cell.id))
