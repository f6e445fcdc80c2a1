"""`[tool.modelops.cluster]`: what may be written, what fields in options become, what is said of all else."""

from __future__ import annotations

import pytest

from pytest_modelops.config.cluster import Adaptive, filled
from tests.unit.config.conftest import MessageOf, Read

MADE = '[tool.modelops]\nbackend = "cluster"\n[tool.modelops.cluster]\n'
A_CLASS = 'class = "distributed:LocalCluster"\n'


def test_fields_are_filled_in_at_any_depth_and_other_braces_stay() -> None:
    options = {
        "python": "{python}",
        "cores": "{workers}",
        "extra": ["--image", "r/{image}", {"env": ["export A=${home}", "{{python}}", "{A}"]}],
        "number": 2.5,
    }
    found = filled(options, {"python": "/env/bin/python", "workers": 3, "image": "app:1"})
    assert found == {
        "python": "/env/bin/python",
        "cores": 3,
        "extra": ["--image", "r/app:1", {"env": ["export A=${home}", "{python}", "{A}"]}],
        "number": 2.5,
    }


def test_how_many_workers_there_are(read: Read) -> None:
    assert read(f"{MADE}{A_CLASS}").workers == 2
    assert read(f"{MADE}{A_CLASS}scale = 5").workers == 5
    assert read(f"{MADE}{A_CLASS}", workers=("--modelops-workers", "3")).workers == 3
    adaptive = read(f"{MADE}{A_CLASS}adaptive = {{ minimum = 3, maximum = 4 }}")
    assert (adaptive.workers, adaptive.cluster.adaptive) == (3, Adaptive(minimum=3, maximum=4))


def test_the_table_means_nothing_to_other_backends(read: Read) -> None:
    settings = read(f'[tool.modelops]\nbackend = "process"\n[tool.modelops.cluster]\n{A_CLASS}scale = 5')
    assert (settings.backend, settings.workers) == ("process", 2)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("", "[tool.modelops.cluster]: the backend is cluster, and there is no class"),
        ('class = "LocalCluster"', "class: 'LocalCluster' is not a class; write module:Class"),
        (
            A_CLASS + 'options = { python = ["{pyton}"] }',
            "options: python: {pyton}: 'pyton' is not a field; did you mean",
        ),
        (A_CLASS + 'options = { "n-workers" = 1 }', "options: 'n-workers' is not the name of an argument"),
        (A_CLASS + "options = { since = 2024-01-01 }", "options: since: 2024-01-01 is a date or time"),
        (A_CLASS + 'options = { image = "{image}" }', "options name {image}, and there is no image; set image"),
        (
            A_CLASS + 'image = "app:{python}"',
            "image: {python}: 'python' is not a field; valid: dask-version, python-version",
        ),
        (A_CLASS + "scale = 0", "scale: 0 is not a whole number from 1 up"),
        (A_CLASS + "adaptive = { minimum = 1 }", "adaptive: has no maximum"),
        (A_CLASS + "adaptive = { minimum = 3, maximum = 2 }", "adaptive: maximum 2 is less than minimum 3"),
        (A_CLASS + "scale = 1\nadaptive = { minimum = 1, maximum = 2 }", "has scale and adaptive; leave out one"),
        (
            A_CLASS + '[tool.modelops.environment]\nworker-args = ["--no-dashboard"]',
            "worker-args are not for the backend",
        ),
    ],
)
def test_what_cannot_be_meant(message_of: MessageOf, keys: str, said: str) -> None:
    assert said in message_of(MADE + keys)


def test_results_of_an_earlier_run_are_not_taken(message_of: MessageOf) -> None:
    assert "trust-last means nothing" in message_of(
        f"{MADE}{A_CLASS}", **{"trust-last": ("--modelops-trust-last", "true")}
    )


def test_the_flag_does_not_override_what_the_table_says(message_of: MessageOf) -> None:
    flag = ("--modelops-workers", "3")
    assert "scale already says how many workers there are" in message_of(f"{MADE}{A_CLASS}scale = 1", workers=flag)
