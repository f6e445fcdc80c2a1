"""What `[tool.modelops.docker]` says, what it means, and what is said of what it cannot mean."""

from __future__ import annotations

import pytest

from pytest_modelops.config.docker import ContainerSettings
from pytest_modelops.matrix.cell import Role
from tests.unit.config.conftest import MessageOf, Read

PLACE = "pyproject.toml: [tool.modelops.docker]"


def section(text: str) -> str:
    return f"[tool.modelops.docker]\n{text}\n"


def test_by_default_everything_is_closed(read: Read) -> None:
    settings = read(section("")).containers
    assert settings == ContainerSettings()
    assert (settings.network, settings.read_only, settings.new_privileges) == (False, True, False)
    assert settings.capabilities == settings.writable == settings.pass_env == ()
    assert settings.image_of(Role.WORKER) == ("python:{python}-slim", False)
    assert settings.variants == {}


def test_every_key_is_read(read: Read) -> None:
    toml = section(
        """
        image = { client = "python:{python}" }
        prebuilt = { scheduler = "registry.example:5000/team/app:{dask}", worker = "app@sha256:%s" }
        require-modules = ["modelops.worker", "numpy"]
        memory = "512m"
        cpus = 0.5
        pids = 64
        disk = "1.5g"
        user = "1001:1001"
        network = true
        read-only = false
        writable = ["/var/cache/app"]
        capabilities = ["CAP_SYS_PTRACE", "sys_nice"]
        new-privileges = true
        pass-env = "LICENCE_KEY"
        """
        % ("a" * 64)
    )
    settings = read(toml, keep=("--modelops-keep", "failed")).containers
    assert settings.image_of(Role.CLIENT) == ("python:{python}", False)
    assert settings.image_of(Role.SCHEDULER) == ("registry.example:5000/team/app:{dask}", True)
    assert settings.variants == {role: role.value for role in Role}
    assert settings.require_modules == ("modelops.worker", "numpy")
    assert (settings.memory, settings.cpus, settings.pids) == (512 << 20, 0.5, 64)
    assert settings.disk == 3 << 29
    assert (settings.user, settings.network, settings.read_only) == ("1001:1001", True, False)
    assert settings.writable == ("/var/cache/app",)
    assert settings.capabilities == ("SYS_PTRACE", "SYS_NICE")
    assert (settings.new_privileges, settings.pass_env, settings.keep) == (True, ("LICENCE_KEY",), "failed")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('imag = "x"', ": 'imag' is not a key; did you mean 'image'? Valid: capabilities, cpus, disk, image, "),
        ('image = "a b"', " image: 'a b' is not an image's name; write one such as python:{python}-slim or "),
        ('image = "x:{version}"', " image: 'x:{version}' is not an image's name; "),
        ("image = 3.12", ' image: 3.12 is a number; write it in quotes: "3.12"'),
        ('image = { wroker = "x" }', " image: 'wroker' is not a role; did you mean 'worker'? Valid: client, "),
        ('image = "x"\nprebuilt = "y"', ": client and scheduler and worker have both image and prebuilt; "),
        ('prebuilt = "y"\nimage = { worker = "x" }', ": worker have both image and prebuilt; "),
        ('memory = "5m"', ' memory: \'5m\' is not a size from 6m up; write one such as "512m" or "2g"'),
        ("memory = 512", ' memory: 512 is not a size from 6m up; write one such as "512m" or "2g"'),
        ('disk = "much"', " disk: 'much' is not a size"),
        ("cpus = 0", " cpus: 0 is not a number of CPUs from 0.01 up"),
        ("pids = 0", " pids: 0 is not a whole number from 1 up"),
        ('user = "a b"', " user: 'a b' is not a user; "),
        ('network = "yes"', " network: 'yes' is neither true nor false"),
        ('writable = ["tmp"]', " writable: 'tmp' is not the absolute path of a directory in an image"),
        ('writable = ["/modelops/env"]', " writable: '/modelops/env' is not the absolute path"),
        ('writable = ["/a/../b"]', " writable: '/a/../b' is not the absolute path"),
        ('capabilities = ["sys-admin"]', " capabilities: 'sys-admin' is not a Linux capability, such as SYS_PTRACE"),
        ('pass-env = ["A=B"]', " pass-env: 'A=B' is not a variable's name; it has letters, digits and _ only"),
        ('require-modules = ["a..b"]', " require-modules: 'a..b' is not the name of a module"),
    ],
)
def test_a_wrong_value_is_named_with_file_and_key(message_of: MessageOf, line: str, message: str) -> None:
    assert message_of(section(line)).startswith(PLACE + message)
