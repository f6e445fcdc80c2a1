"""An OpenSSH server on loopback, with a key of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.engines.daemons import daemons, find, free_ports

HOW_TO = "sudo apt-get install -y --no-install-recommends openssh-server"
_PROGRAMS = {"sshd": "/usr/sbin", "ssh": "/usr/bin", "ssh-keygen": "/usr/bin"}
_CONF = """
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host
AuthorizedKeysFile {directory}/client.pub
PidFile {directory}/sshd.pid
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
"""


@dataclasses.dataclass(frozen=True)
class Sshd:
    """A running server, which lets in `user` with the key `key`.

    Attributes:
        key: the private key that it knows.
        wrong_key: one that it does not know.
        known_hosts: a file with its own key.
    """

    port: int
    user: str
    key: Path
    wrong_key: Path
    known_hosts: Path

    def remote(self) -> list[str]:
        """Return what runs of all that was started over this server, also when its connection ended."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("SSH_CONNECTION", "").endswith(f" 127.0.0.1 {self.port}"):
                    found.append(f"{process.pid} {' '.join(process.cmdline())[:300]}")
        return found

    def logs_in(self) -> bool:
        options = ("-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={self.known_hosts}")
        where = ("-F", "none", "-i", str(self.key), "-p", str(self.port), f"{self.user}@127.0.0.1")
        done = subprocess.run(
            ["ssh", *options, *where, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        return done.returncode == 0


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A server of this process's own, which lets this user in."""
    programs = find(_PROGRAMS, HOW_TO)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # built into sshd; Debian's service makes it
    with daemons(tmp_path_factory.mktemp("sshd") / "engine") as running:
        directory = running.directory
        for key in ("host", "client", "wrong"):
            command = [programs["ssh-keygen"], "-q", "-t", "ed25519", "-N", "", "-f", str(directory / key)]
            subprocess.run(command, check=True)
        [port] = free_ports(1)
        conf = directory / "sshd_config"
        conf.write_text(_CONF.format(port=port, directory=directory))
        known_hosts = directory / "known_hosts"
        known_hosts.write_text(f"[127.0.0.1]:{port} {(directory / 'host.pub').read_text()}")
        sshd = Sshd(port, getpass.getuser(), directory / "client", directory / "wrong", known_hosts)
        running.start("sshd", programs["sshd"], "-D", "-e", "-f", str(conf))
        running.wait(sshd.logs_in, "a login over SSH")
        yield sshd
        running.wait(lambda: not sshd.remote(), "an empty remote process table")
