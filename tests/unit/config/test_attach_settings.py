"""`[tool.modelops.attach]` and its flags: what may be written, what it means, what is said of all else."""

from __future__ import annotations

import pytest

from tests.unit.config.conftest import MessageOf, Read

FLAG = ("--modelops-attach", "tls://[::1]:8786")


def test_without_a_deployment_nothing_changes(read: Read) -> None:
    settings = read("[tool.modelops.attach]\ntasks = 7")
    assert (settings.attach.is_asked_for, settings.backend) == (False, "auto")
    assert settings.attach.plan(9) is None


@pytest.mark.parametrize("key", ['address = "tcp://h:1"', 'scheduler-file = "s.json"', 'factory = "a.b:c"'])
def test_a_deployment_is_instead_of_a_backend_and_the_flag_is_stronger(read: Read, key: str) -> None:
    text = f'[tool.modelops]\nbackend = "docker"\nkeep = "failed"\n[tool.modelops.attach]\n{key}\n'
    settings = read(text)
    assert (settings.backend, settings.keep, settings.containers.keep) == ("attach", "never", "never")
    assert settings.attach.deployment.endswith(key.partition('"')[2].rstrip('"'))
    settings = read(text, attach=FLAG)
    assert settings.attach.deployment == FLAG[1]
    assert not settings.attach.scheduler_file
    assert not settings.attach.factory
    assert settings.attach.plan(420) == {"deployment": FLAG[1], "aggregation_tasks": 420, "tasks": 1000}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('address = "h:8786"', "[tool.modelops.attach] address: 'h:8786' is not the address of a scheduler"),
        ('address = "http://h:8787"', "'http://h:8787' is not the address"),
        ('address = "tcp://h"', "'tcp://h' is not the address"),
        ('factory = "module"', "factory: 'module' is not a function; write module:function"),
        ('address = "tcp://h:1"\nfactory = "a:b"', "address and factory name a deployment each"),
        ("force = true", "force means nothing without a deployment"),
        ('gateway = "x"', "'gateway' is not a key"),
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
