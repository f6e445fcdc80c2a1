"""The bare script that cells are compared with: the same cluster and job, with nothing around them.

    python bare_cell.py [ADDRESS]

Run by the Python of an environment that has distributed. Prints seconds from its first process until all are gone.
Stops in the order that was found to be the quickest: nannies, then the scheduler. With the address of a scheduler that
runs already, it only does the job.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def do_job(**scheduler: str) -> None:
    """Run a function on each of two workers, and aggregate 400 tasks."""
    from distributed import Client  # while the others start

    client = Client(**scheduler, set_as_default=False)
    client.wait_for_workers(2)
    addresses = list(client.scheduler_info()["workers"])
    assert client.gather([client.submit(lambda x: x + 1, 41, workers=[a], pure=False) for a in addresses]) == [42, 42]
    totals = [
        client.submit(sum, [client.submit(lambda p, r: p * r, param, i, pure=False) for i in range(20)])
        for param in range(20)
    ]
    assert client.gather(totals) == [param * 190 for param in range(20)]
    client.close()


def main() -> None:
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp())
    file = str(directory / "scheduler.json")

    def start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
        where = ["--scheduler-file", file, "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
        with (directory / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", module, *where, *arguments], stdout=log, stderr=log, cwd=directory
            )

    scheduler = start("distributed.cli.dask_scheduler", "--port", "0")
    options = ("--nthreads", "1", "--local-directory", str(directory))
    workers = [start("distributed.cli.dask_worker", "--name", str(number), *options) for number in range(2)]
    do_job(scheduler_file=file)
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    for worker in workers:
        worker.wait()
    scheduler.send_signal(signal.SIGTERM)
    scheduler.wait()
    print(time.monotonic() - began)


if __name__ == "__main__":
    if sys.argv[1:]:
        do_job(address=sys.argv[1])
    else:
        main()
