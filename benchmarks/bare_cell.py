"""The bare script that a warm cell is compared with: the same cluster and job, with nothing around them.

Run by the Python of an environment that has distributed. Prints seconds from its first process until all are gone.
Stops in the order that was found to be the quickest: nannies, then the scheduler.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

began = time.monotonic()
directory = Path(tempfile.mkdtemp())
common = [
    "--scheduler-file",
    str(directory / "scheduler.json"),
    "--host",
    "127.0.0.1",
    "--dashboard-address",
    "127.0.0.1:0",
]


def start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    with (directory / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, *common, *arguments], stdout=log, stderr=log, cwd=directory
        )


scheduler = start("distributed.cli.dask_scheduler", "--port", "0")
workers = [
    start("distributed.cli.dask_worker", "--name", str(number), "--nthreads", "1", "--local-directory", str(directory))
    for number in range(2)
]

from distributed import Client  # noqa: E402 - while the others start

client = Client(scheduler_file=str(directory / "scheduler.json"), set_as_default=False)
client.wait_for_workers(2)
addresses = list(client.scheduler_info()["workers"])
assert client.gather([client.submit(lambda x: x + 1, 41, workers=[a], pure=False) for a in addresses]) == [42, 42]
totals = [
    client.submit(sum, [client.submit(lambda p, r: p * r, param, i, pure=False) for i in range(20)])
    for param in range(20)
]
assert client.gather(totals) == [param * 190 for param in range(20)]
client.close()
for worker in workers:
    worker.send_signal(signal.SIGTERM)
for worker in workers:
    worker.wait()
scheduler.send_signal(signal.SIGTERM)
scheduler.wait()
print(time.monotonic() - began)
