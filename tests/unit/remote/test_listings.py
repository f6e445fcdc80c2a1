"""What engines list of a cluster; real ones are asked in `tests/integration/test_cluster_engines.py`."""

from __future__ import annotations

import types
from pathlib import Path

import pytest

from pytest_modelops.remote.client.listings import Slurm
from pytest_modelops.remote.client.maker import Maker

SQUEUE = """#!/bin/sh
test -e "$0.forgotten" && echo 'slurm_load_jobs error: Invalid job id specified' >&2 && exit 1
test -e "$0.down" && echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2 && exit 1
echo "$@" >> "$0.asked"
cat "$0.jobs"
"""


def test_jobs_of_a_cluster_in_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are still asked for when the cluster has forgotten them, and no answer is not an empty queue."""
    squeue = tmp_path / "squeue"
    squeue.write_text(SQUEUE)
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    workers = {0: types.SimpleNamespace(job_id="7"), 1: types.SimpleNamespace(job_id=None)}
    cluster = types.SimpleNamespace(workers=workers)
    maker, listing = Maker(), Slurm(cluster)
    maker._listings = [listing]
    jobs = squeue.with_suffix(".jobs")

    jobs.write_text("Slurm job 7 is PENDING (Resources)\n")
    assert maker.look(60) == ["Slurm job 7 is PENDING (Resources)"]
    workers.clear()
    jobs.write_text("")
    assert listing.active() == []
    assert maker.look(60) == [listing.nothing]
    assert {line.split()[2] for line in squeue.with_suffix(".asked").read_text().splitlines()} == {"7"}

    squeue.with_suffix(".down").touch()
    with pytest.raises(Exception, match="squeue"):
        listing.active()
    squeue.with_suffix(".forgotten").touch()
    assert listing.active() == []
