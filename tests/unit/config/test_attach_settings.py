"""`[tool.modelops.attach]` and its flags: what may be written, what it means, what is said of all else."""

from __future__ import annotations

import pytest

from tests.unit.config.conftest import MessageOf, Read

FLAG = ("--modelops-attach", "tls://[::1]:8786")


def test_without_a_deployment_nothing_changes(read: Read) -> None:
    settings = read("[tool.modelops.attach]\ntasks = 7")
    assert (settings.attach.is_asked_for, settings.backend) == (False, "auto")
    assert settings.attach.plan(9) is None


@pytest.mark.parametrize(
    "key",
    ['address = "tcp://h:1"', 'scheduler-file = "s.json"', 'factory = "a.b:c"', 'gateway = { address = "http://g" }'],
)
def test_a_deployment_is_instead_of_a_backend_and_the_flag_is_stronger(read: Read, key: str) -> None:
    text = f'[tool.modelops]\nbackend = "docker"\nkeep = "failed"\n[tool.modelops.attach]\n{key}\n'
    settings = read(text)
    assert (settings.backend, settings.keep, settings.containers.keep) == ("attach", "never", "never")
    assert settings.attach.deployment.endswith(key.split('"')[1])
    settings = read(text, attach=FLAG)
    assert settings.attach.deployment == FLAG[1]
    assert not settings.attach.scheduler_file
    assert not settings.attach.factory
    assert not settings.attach.gateway
    limits = {"tasks": 1000, "bytes": 10_000_000, "seconds": 900.0, "allow": []}
    assert settings.attach.plan(420) == {"deployment": FLAG[1], "aggregation_tasks": 420, **limits}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('address = "h:8786"', "[tool.modelops.attach] address: 'h:8786' is not the address of a scheduler"),
        ('address = "http://h:8787"', "'http://h:8787' is not the address"),
        ('address = "tcp://h"', "'tcp://h' is not the address"),
        ('factory = "module"', "factory: 'module' is not a function; write module:function"),
        ('address = "tcp://h:1"\nfactory = "a:b"', "address and factory name a deployment each"),
        ("force = true", "force means nothing without a deployment"),
        ('gateway = "x"', "[tool.modelops.attach.gateway]: 'x' is not a table"),
        ("gateway = {}", "[tool.modelops.attach.gateway]: nothing is set"),
        ('gateway = { address = "http://g" }\nfactory = "a:b"', "factory and gateway name a deployment each"),
        ('allow = ["restart"]', "'restart' is not something to allow; valid: install, scale"),
        ('address = "tcp://h:1"\nallow = ["scale"]', "cannot be scaled by the address of its scheduler"),
        ('factory = "a:b"\nallow = ["scale"]', "is for the check `runtime`, and there is none without"),
        ('bytes = "10"', "'10' is not a size; write one such as \"10MB\""),
        ('address = "tcp://h:1"\n[tool.modelops]\ntrust-last = true', "trust-last means nothing with a deployment"),
        ('address = "tcp://h:1"\ntasks = 400', "would send 420 tasks to the deployment, and `tasks`"),
    ],
)
def test_what_cannot_be_meant(message_of: MessageOf, keys: str, said: str) -> None:
    assert said in message_of(f"[tool.modelops.attach]\n{keys}")


@pytest.mark.parametrize("option", ["backend", "keep"])
def test_flags_of_other_backends_mean_nothing(message_of: MessageOf, read: Read, option: str) -> None:
    value = "docker" if option == "backend" else "always"
    assert f"--modelops-{option}: means nothing" in message_of(attach=FLAG, **{option: (f"--modelops-{option}", value)})
    assert read(attach=FLAG, **{option: (f"PYTEST_MODELOPS_{option.upper()}", value)}).backend == "attach"


@pytest.mark.parametrize(("text", "size"), [("10MB", 10**7), ("1.5 kB", 1500), ("2GiB", 2**31), ("7B", 7)])
def test_sizes_are_written_as_dask_writes_them(read: Read, text: str, size: int) -> None:
    assert read(f'[tool.modelops.attach]\nbytes = "{text}"').attach.bytes == size
