"""`faults` of `[tool.modelops.aggregation]`: what may be written, what it means, what is said of all else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_modelops.config.faults import FAULTS, Fault
from tests.unit.config.conftest import MessageOf, Read


def test_a_fault_is_a_name_or_a_table(read: Read) -> None:
    entries = '"memory", { fault = "cut-off", at = 0.2, seconds = 7, fails = "Killed" }'
    first, second = read(f"[tool.modelops.aggregation]\nfaults = [{entries}]").aggregation.faults
    assert (first.name, first.at, first.seconds, first.fails) == ("memory", 0.5, 2.0, "")
    assert (first.needed_of(40), Fault(name="memory", at=7).needed_of(40)) == (20, 7)
    assert (second.name, second.at, second.seconds, second.fails) == ("cut-off", 0.2, 7.0, "Killed")


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ('"memory"', "faults: 'memory' is not a list of faults or tables"),
        (
            '["kill-workers"]',
            "faults[0].fault: 'kill-workers' is not a fault; did you mean 'kill-worker'? Valid: cut-off",
        ),
        ("[{ at = 0.1 }]", "faults[0]: has no fault; valid: cut-off, disk-full"),
        ('["memory", { fault = "memory" }]', "faults: memory is there twice"),
        (
            '[{ fault = "memory", at = 1.0 }]',
            "faults[0].at: 1.0 is neither a share of the tasks, below 1.0, nor a number",
        ),
        ('[{ fault = "memory", fails = "(" }]', "faults[0].fails: '(' is not a regular expression"),
        ('[{ fault = "kill-worker", seconds = 1 }]', "faults[0]: has seconds, and kill-worker does not last"),
        ('[{ fault = "memory", worker = 1 }]', "faults[0]: 'worker' is not a key"),
    ],
)
def test_what_cannot_be_meant(message_of: MessageOf, entries: str, said: str) -> None:
    assert said in message_of(f"[tool.modelops.aggregation]\nfaults = {entries}")


def test_the_docs_say_of_each_fault_what_is_done() -> None:
    text = (Path(__file__).parents[3] / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(FAULTS)
