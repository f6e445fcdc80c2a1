"""Slurm with one node, on loopback."""

from __future__ import annotations

import dataclasses
import getpass
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.daemons import daemons, find, free_ports

HOW_TO = "sudo apt-get install -y --no-install-recommends slurm-wlm"
_PROGRAMS = {"slurmctld": "/usr/sbin", "slurmd": "/usr/sbin", "sbatch": "/usr/bin", "squeue": "/usr/bin"}
CPUS = 2
MEMORY_MB = 4000
# Of a worker whose job script has ended before it, `proctrack/linuxproc` knows nothing: the job counts as gone.
_CONF = """
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/none
CredType=cred/none
SlurmUser={user}
SlurmdUser={user}
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
KillWait=2
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory}
PartitionName=tests Nodes=n1 Default=YES MaxTime=INFINITE
"""


@dataclasses.dataclass(frozen=True)
class Slurm:
    """A running Slurm: a controller, and a node with `CPUS` CPUs and `MEMORY_MB`.

    Attributes:
        conf: what `SLURM_CONF` has to name for Slurm's commands.
    """

    conf: Path

    @property
    def env(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.conf)}

    def ask(self, *command: str) -> str:
        """Return what a command of Slurm's prints."""
        done = subprocess.run(command, env={**os.environ, **self.env}, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def queue(self) -> list[str]:
        """Return each job in the queue: its id, name, state and reason."""
        return self.ask("squeue", "--noheader", "--format=%i %j %T %r").splitlines()


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """Slurm of this process's own, with an idle node."""
    programs = find(_PROGRAMS, HOW_TO)
    with daemons(tmp_path_factory.mktemp("slurm") / "engine") as running:
        directory = running.directory
        for name in ("state", "spool"):
            (directory / name).mkdir()
        controller, node = free_ports(2)
        conf = directory / "slurm.conf"
        conf.write_text(
            _CONF.format(
                directory=directory,
                controller=controller,
                node=node,
                user=getpass.getuser(),
                cpus=CPUS,
                memory=MEMORY_MB,
            )
        )
        slurm = Slurm(conf)
        running.start("slurmctld", programs["slurmctld"], "-D", "-f", str(conf))
        running.start("slurmd", programs["slurmd"], "-D", "-N", "n1", "-f", str(conf))
        running.wait(lambda: slurm.ask("sinfo", "-h", "-o", "%t").strip() == "idle", "an idle node of Slurm")
        yield slurm
        slurm.ask("scancel", "--me", "--signal=KILL", "--full")
        slurm.ask("scancel", "--me")
        running.wait(lambda: not slurm.queue(), "an empty queue of Slurm")
