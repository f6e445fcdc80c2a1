"""`[tool.modelops.worker-plugin]`: what may be written, what it means, what is said of all else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_modelops import checks
from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.config.model import PluginSettings
from tests.unit.config.conftest import MessageOf, Read

PLACE = "pyproject.toml: [tool.modelops.worker-plugin]"


def of_table(read: Read, keys: str) -> PluginSettings:
    found = read(f"[tool.modelops.worker-plugin]\n{keys}").plugin
    assert found is not None
    return found


def test_without_the_table_there_is_no_plugin_and_no_check(read: Read) -> None:
    assert read("[tool.modelops]\nworkers = 1").plugin is None
    assert "runtime" not in [check.name for check in checks.all_checks([], None)]


def test_with_a_plugin_there_is_a_check_before_those_of_bundles(read: Read) -> None:
    bundle = Bundle(name="seir", path=Path("seir"))
    ordered = checks.in_order(checks.all_checks([bundle], of_table(read, 'class = "a:B"\nprobe = "c"')))
    names = [check.name for check in ordered]
    assert names.index("aggregation") < names.index("runtime") < names.index("bundle-install")
    assert ordered[names.index("runtime")].needs == ("start",)


def test_everything_can_be_said(read: Read) -> None:
    found = of_table(
        read,
        """
        class = "acme.workers:Plugins.Runtime"
        arguments = { retries = 3, directories = ["a"] }
        probe = "runtime"
        expect = { "runtime.executor_type" = "cold", "runtime.limits.memory" = 4 }
        processes = { cold = "acme.probes:run_one", warm = "acme.probes:run_warm" }
        tasks = 2
        """,
    )
    assert found == PluginSettings(
        path="acme.workers:Plugins.Runtime",
        arguments={"retries": 3, "directories": ["a"]},
        probe="runtime",
        expect={"runtime.executor_type": "cold", "runtime.limits.memory": 4},
        processes={"cold": "acme.probes:run_one", "warm": "acme.probes:run_warm"},
        tasks=2,
    )


def test_an_attribute_without_quotes_is_the_same(read: Read) -> None:
    found = of_table(read, 'class = "a:B"\nexpect = { runtime.executor_type = "cold", runtime.retries = 3 }')
    assert found.expect == {"runtime.executor_type": "cold", "runtime.retries": 3}
    assert (found.probe, found.processes, found.tasks) == ("", {}, 4)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("", ': has no class; write one such as class = "acme.workers:RuntimePlugin"'),
        ('class = "a.B"\nprobe = "c"', " class: 'a.B' is not an import path; write package.module:Class"),
        ('class = "a-b:C"\nprobe = "c"', " class: 'a-b:C' is not an import path; write package.module:Class"),
        ('class = 1\nprobe = "c"', ' class: 1 is a number; write it in quotes: "1"'),
        ('klass = "a:B"', ": 'klass' is not a key; did you mean 'class'? Valid: arguments, class, expect, probe, "),
        ('class = "a:B"', ": has neither probe nor expect; name an attribute that the plugin sets on a worker"),
        ('class = "a:B"\nprobe = "c d"', " probe: 'c d' is not an attribute of a worker; write a name, or names"),
        ('class = "a:B"\nprobe = ""', " probe: '' is empty"),
        ('class = "a:B"\nprobe = "c"\narguments = 1', " arguments: 1 is not a table of keyword arguments"),
        ('class = "a:B"\nprobe = "c"\narguments = { a-b = 1 }', " arguments: 'a-b' is not the name of an argument"),
        (
            'class = "a:B"\nprobe = "c"\narguments = { day = 2024-01-01 }',
            " arguments: day: 2024-01-01 cannot be compared or sent; write text, a number, true, false or a list",
        ),
        ('class = "a:B"\nexpect = {}', " expect: {} is not a table of attributes, such as {"),
        ('class = "a:B"\nexpect = "cold"', " expect: 'cold' is not a table of attributes, such as {"),
        ('class = "a:B"\nexpect = { "a b" = 1 }', " expect: 'a b' is not an attribute of a worker"),
        ('class = "a:B"\nexpect = { a = 2024-01-01 }', " expect: a: 2024-01-01 cannot be compared or sent"),
        (
            'class = "a:B"\nprobe = "c"\nprocesses = { cool = "a:b" }',
            " processes: 'cool' is not a way to run tasks; did you mean 'cold'? Valid: cold, direct, warm",
        ),
        (
            'class = "a:B"\nprobe = "c"\nprocesses = { cold = "a.b" }',
            " processes: cold: 'a.b' is not an import path; write package.module:function",
        ),
        (
            'class = "a:B"\nprobe = "c"\nprocesses = "cold"',
            " processes: 'cold' is not a table of functions, such as { cold = \"acme.probes:run_one\" }",
        ),
        ('class = "a:B"\nprobe = "c"\ntasks = 3', ": has tasks and no processes that they would be of"),
        (
            'class = "a:B"\nprobe = "c"\ntasks = 1\nprocesses = { cold = "a:b" }',
            " tasks: 1 task cannot show whether the next one has a process of its own; write 2 or more",
        ),
    ],
)
def test_a_wrong_value_is_named_with_file_and_key(message_of: MessageOf, keys: str, message: str) -> None:
    assert message_of(f"[tool.modelops.worker-plugin]\n{keys}").startswith(PLACE + message)
