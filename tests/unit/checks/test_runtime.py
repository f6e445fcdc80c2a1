"""What the `runtime` check concludes from what workers report of a plugin, and how they report it; no process runs."""

from __future__ import annotations

import asyncio
import enum
import os
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import dask
import pytest

from pytest_modelops.checks import runtime_messages, runtime_processes
from pytest_modelops.checks.runtime_processes import TaskFacts
from pytest_modelops.config.model import PluginSettings
from pytest_modelops.remote.shared import plain
from pytest_modelops.remote.shared.facts import (
    FoundValue,
    Interpreter,
    NamedProcess,
    Origins,
    PluginFacts,
    PluginQuestion,
    PluginSetup,
    RegisteredPlugin,
)
from pytest_modelops.remote.worker import plugins

PLUGIN = PluginSettings(path="acme:P", probe="runtime", expect={"runtime.executor_type": "cold"})
NO_ORIGINS: Origins = {"variables": {}, "settings": {}}
REGISTERED: RegisteredPlugin = {"name": "acme:P", "origins": NO_ORIGINS}


def value(content: Any, kind: str = "builtins:str") -> FoundValue:
    return {"type": kind, "repr": repr(content), "plain": plain.pack(content)}


def reported(*, setup: PluginSetup | None = None, origins: Origins = NO_ORIGINS, **values: FoundValue) -> PluginFacts:
    """What a worker reported that is cold, unless its values say otherwise."""
    return {
        "pid": 1,
        "listed": True,
        "setup": setup or set_up(),
        "origins": origins,
        "values": {
            "runtime": values.get("runtime", {"type": "acme:Runtime", "repr": "<Runtime>"}),
            "runtime.executor_type": values.get("executor_type", value("cold")),
        },
    }


def set_up(error: str | None = None, trace: str = "") -> PluginSetup:
    return {"done": True, "error": error, "traceback": trace}


def heads(facts: PluginFacts, plugin: PluginSettings = PLUGIN, client: Origins = NO_ORIGINS) -> list[str]:
    return [fault.head for fault in runtime_messages.faults(plugin, facts, {**REGISTERED, "origins": client})]


def test_a_worker_that_is_as_asked_has_no_fault() -> None:
    assert heads(reported()) == []


SAYS = "asked for runtime.executor_type = 'cold', has 'isolated_warm'"
SET_IT = "set it in [tool.modelops.environment] env"
NO_ORIGIN = (
    "No variable …EXECUTOR_TYPE and no Dask setting DASK_…__EXECUTOR_TYPE is set on this worker or in the client, so a "
    f"default may have been taken; if the plugin reads one, {SET_IT}"
)
HERE_ALONE = "on this worker and not set in the client"
FELL_BACK = "the value fell back, or was overridden"
UNKNOWN = "a value that the plugin does not know may fall back to a default"
IN_THE_CLIENT = f"{FELL_BACK}, or the plugin reads it in the client"
IS_COLD, IS_COLT, IS_WARM = ({"X_EXECUTOR_TYPE": said} for said in ("cold", "colt", "warm"))


def variables(values: dict[str, str | None]) -> Origins:
    return {"variables": values, "settings": {}}


@pytest.mark.parametrize(
    ("worker", "client", "origin"),
    [
        ({}, {}, NO_ORIGIN),
        (IS_COLD, {"X_EXECUTOR_TYPE": None}, f"The variable X_EXECUTOR_TYPE is 'cold' {HERE_ALONE}: {IN_THE_CLIENT}"),
        (
            IS_COLD,
            IS_COLD,
            f"The variable X_EXECUTOR_TYPE is 'cold' on this worker and 'cold' in the client: {FELL_BACK}",
        ),
        (IS_COLT, {}, f"The variable X_EXECUTOR_TYPE is 'colt' {HERE_ALONE}: {UNKNOWN}"),
        ({}, IS_WARM, f"The variable X_EXECUTOR_TYPE is not set on this worker and 'warm' in the client; {SET_IT}"),
        ({"X": "cold", "Y": "warm"}, {}, f"The variable X is 'cold' {HERE_ALONE}: {IN_THE_CLIENT}"),
    ],
)
def test_a_value_that_differs_is_reported_with_where_it_may_come_from(
    worker: dict[str, str | None], client: dict[str, str | None], origin: str
) -> None:
    facts = reported(executor_type=value("isolated_warm"), origins=variables(worker))
    assert heads(facts, client=variables(client)) == [f"{SAYS}. {origin}"]


def test_a_dask_setting_of_that_name_is_shown_with_its_value_on_both_sides() -> None:
    worker: Origins = {"variables": {}, "settings": {"acme.executor-type": "'warm'", "acme.executor": "'cold'"}}
    facts = reported(executor_type=value("isolated_warm"), origins=worker)
    assert heads(facts) == [f"{SAYS}. The Dask setting acme.executor-type is 'warm' {HERE_ALONE}"]


def test_an_argument_that_says_the_wrong_value_is_named() -> None:
    plugin = PluginSettings(path="acme:P", arguments={"executor_type": "isolated_warm"}, expect=PLUGIN.expect)
    [head] = heads(reported(executor_type=value("isolated_warm")), plugin)
    assert head == f"{SAYS}. The plugin's argument executor_type is 'isolated_warm'"


def test_a_setup_that_raised_is_reported_before_what_is_missing_after_it() -> None:
    facts = reported(setup=set_up("ValueError: no"), runtime=missing(), executor_type=missing())
    assert heads(facts) == [
        "the plugin's setup raised ValueError: no; the worker stays, lists the plugin and would run tasks all the same",
        (
            "it has no attribute 'runtime', although it lists the plugin 'acme:P'; it registered, "
            "runs lambdas, and would run tasks without a runtime"
        ),
    ]


def missing(step: str = "runtime", of: str = "", kind: str = "distributed:Worker") -> FoundValue:
    return {"missing": step, "of": of, "type": kind}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"runtime": value(None, "builtins:NoneType")}, "its 'runtime' is None"),
        (
            {"executor_type": missing("executor_type", "runtime", "acme:Runtime")},
            "asked for runtime.executor_type = 'cold', runtime (a acme:Runtime) has no 'executor_type'",
        ),
        (
            {"executor_type": {"raised": "OSError: gone", "step": "executor_type", "of": "runtime"}},
            "asked for runtime.executor_type = 'cold', 'executor_type' raised OSError: gone",
        ),
    ],
)
def test_what_is_not_there_is_reported_with_what_is(values: dict[str, Any], text: str) -> None:
    [head] = heads(reported(**values))
    assert head.startswith(text)


def test_a_plugin_that_a_worker_never_got() -> None:
    assert heads({**reported(), "setup": None}) == ["it was never given the plugin 'acme:P'"]


@pytest.mark.parametrize(
    ("asked", "actual", "same"),
    [
        ("cold", "cold", True),
        (1, True, False),
        (True, 1, False),
        (1, 1.0, True),
        (["a", 1], ("a", 1), True),
        (["a", True], ("a", 1), False),
        ("4", 4, False),
    ],
)
def test_values_are_the_same_as_in_the_file(asked: Any, actual: Any, same: bool) -> None:
    assert runtime_messages.is_same(asked, value(actual)) is same


@pytest.mark.parametrize(("asked", "same"), [("acme:Cold", True), ("acme:Warm", False)])
def test_an_object_is_compared_by_its_class(asked: str, same: bool) -> None:
    assert runtime_messages.is_same(asked, {"type": "acme:Cold", "repr": "<Cold>"}) is same


def test_runtimes_of_different_classes_are_a_fault_and_a_missing_one_is_none() -> None:
    other = reported(runtime={"type": "acme:Old", "repr": "<Old>"})
    lacks = reported(runtime=missing())
    facts = {"worker-0": reported(), "worker-1": lacks, "worker-late": other}
    [(name, fault)] = runtime_messages.differences(PLUGIN, facts)
    assert (name, fault.head) == ("worker-late", "its runtime is a acme:Old, that of worker-0 a acme:Runtime")
    assert runtime_messages.figures(lacks)["values"] == {"runtime.executor_type": "'cold'"}


LOG = """\
Traceback (most recent call last):
  File "/x/worker.py", line 1, in plugin_add
    result = plugin.setup(worker=self)
  File "/x/acme.py", line 2, in setup
    sys.exit(3)
SystemExit: 3
2026-11-24 22:42:06,274 - distributed.nanny - INFO - Worker process 6144 exited with status 3
asyncio.exceptions.CancelledError"""


def test_a_worker_that_did_not_survive_is_reported_from_its_log() -> None:
    text = runtime_messages.not_set_up(PLUGIN, "worker-0", LOG.splitlines(), Path("/w.log"))
    lines = text.splitlines()
    assert lines[0] == "worker plugin acme:P, on worker-0: it ended the worker: SystemExit: 3"
    assert lines[-2:] == ["        sys.exit(3)", "The worker did not survive it. Its log: /w.log"]


def test_files_of_a_traceback_are_called_as_in_their_package() -> None:
    trace = 'Traceback …\n  File "/e/lib/python3.12/site-packages/acme/a.py", line 1, in setup\n    x()\nValueError: no'
    [fault] = runtime_messages.faults(PLUGIN, reported(setup=set_up("ValueError: no", trace)), REGISTERED)
    assert fault.details[1] == '  File "acme/a.py", line 1, in setup'


def test_a_missing_module_comes_with_what_to_do() -> None:
    text = runtime_messages.unmade(PLUGIN, {"unmade": "ModuleNotFoundError: No module named 'a.b'", "module": "a.b"})
    assert text.endswith("has a module 'a': add one that has it to [tool.modelops.environment] requirements")


# Which processes do tasks. -----------------------------------------------------------------------------------


HERE: Interpreter = {"executable": "/py", "version": "3.12.1", "prefix": "/env", "platform": "cpython-312-x86_64-linux"}


def named(pid: Any, **other: Any) -> NamedProcess:
    """A process that was seen below the worker and lives, unless it is said otherwise."""
    of: NamedProcess = {
        "pid": pid, "of": 7, "seen": True, "lives": True, "born": True, "command": "", "runs": HERE
    }  # fmt: skip
    return {**of, **other}  # type: ignore[typeddict-item]


def judge(kind: str, *returned: Any, python: str | None = None, **other: Any) -> list[str]:
    tasks: list[TaskFacts] = []
    for one in returned:
        pid = one.get("pid") if isinstance(one, dict) else one
        process = named(pid, **other) if pid != 7 else None
        tasks.append({"value": one, "seconds": 0.1, "worker": 7, "start": None, "process": process, "python": HERE})
    return [fault.head for fault in runtime_processes.judge(kind, "acme:run", tasks, python)]


@pytest.mark.parametrize(
    ("kind", "returned"),
    [
        ("cold", (1, 2, 3)),
        ("cold", ({"pid": 1, "start": 0.5}, {"pid": 1, "start": 0.7})),
        ("warm", (1, 1, 1)),
        ("warm", ({"pid": 1, "start": "x"}, {"pid": 1, "start": "x"})),
        ("direct", (7, 7)),
    ],
)
def test_processes_that_are_as_asked(kind: str, returned: tuple[Any, ...]) -> None:
    assert judge(kind, *returned) == []


@pytest.mark.parametrize(
    ("kind", "returned", "text"),
    [
        ("cold", (1, 2, 1), "asked for cold, a new process for every task; 3 tasks had 2 (pid 1 was reused)"),
        ("cold", (1, 7, 2), "a new process for every task; the worker itself (pid 7) did 1 of 3"),
        ("cold", (7,), "a new process for every task; the worker itself (pid 7) did 1 of 1"),
        ("cold", (7, 7), "2 tasks had 1 (pid 7, the worker's own, was reused)"),
        ("warm", (1, 1, 2), "asked for warm, one process for all tasks of a worker; 3 tasks had 2"),
        ("warm", ({"pid": 1, "start": 1}, {"pid": 1, "start": 2}), "2 tasks had 2"),
        ("warm", (7, 7), "asked for warm, a process beside the worker; the worker itself (pid 7) did the tasks"),
        ("direct", (7, 1), "asked for direct, the worker's own process (pid 7); others did the tasks"),
        ("cold", (1, None), "`acme:run` returned None; it has to return a pid, or {"),
        ("cold", (True, False), "`acme:run` returned True; it has to return a pid, or {"),
        ("cold", ({"process": 1},), "`acme:run` returned {'process': 1}; it has to return a pid, or {"),
    ],
)
def test_processes_that_are_not(kind: str, returned: tuple[Any, ...], text: str) -> None:
    [head] = judge(kind, *returned)
    assert text in head


GONE = {"seen": False, "lives": False, "born": False, "runs": {}}
ELSEWHERE = {"seen": False, "lives": True, "command": "python server.py", "runs": {}}


@pytest.mark.parametrize(
    ("kind", "returned", "process", "text"),
    [
        (
            "warm",
            (5, 5),
            GONE,
            "`acme:run` named pid 5, which does not exist; it is no process that the worker (pid 7)",
        ),
        ("warm", (5, 5), ELSEWHERE, "named pid 5 (python server.py), which is no descendant of the worker (pid 7)"),
        ("warm", (5, 5), {"lives": False}, "named pid 5, which ended before the answer arrived"),
        ("warm", (5, 5), {**GONE, "born": True}, "named pid 5, which does not exist"),
        ("cold", (5, 6), GONE, "named pid 5, which does not exist"),
        ("cold", (5, 6), ELSEWHERE, "named pid 5 (python server.py), which is no descendant of the worker (pid 7)"),
        ("cold", (5, 6), {**GONE, "born": True}, "named pid 5, which was not seen below the worker"),
    ],
)
def test_a_process_that_a_worker_has_not_started_did_not_do_its_tasks(
    kind: str, returned: tuple[int, ...], process: dict[str, Any], text: str
) -> None:
    [head] = judge(kind, *returned, **process)
    assert text in head


def test_a_cold_process_may_end_before_it_is_looked_at_but_not_all_of_them() -> None:
    processes = [named(5, lives=False), named(6, seen=False, lives=False, runs={})]
    tasks: list[TaskFacts] = [
        {"value": one["pid"], "seconds": 0.1, "worker": 7, "start": None, "process": one, "python": HERE}
        for one in processes
    ]
    assert list(runtime_processes.judge("cold", "acme:run", tasks)) == []


@pytest.mark.parametrize(
    ("runs", "python", "texts"),
    [
        ({**HERE, "version": "3.11.9"}, None, ("asked for warm, the work was done by Python 3.11.9", '"3.11" if that')),
        ({**HERE, "version": "3.11.9"}, "3.11", ()),
        ({**HERE, "version": "3.11.9"}, "any", ()),
        ({**HERE, "version": "3.11.9"}, "3.10", ("the work was done by Python 3.11.9", "python is '3.10'")),
        ({**HERE, "version": "3.12.7"}, None, ("the work was done by Python 3.12.7", "the worker runs 3.12.1")),
        ({**HERE, "version": "3.12.7"}, "3.12", ()),
        ({**HERE, "version": "3.12.7"}, "3.12.1", ("python is '3.12.1'",)),
        (HERE, "3.11", ("the work was done by Python 3.12.1", "python is '3.11'")),
        ({**HERE, "prefix": "/tmp/other", "executable": "/tmp/other/bin/python"}, None, ()),
        ({**HERE, "platform": "cpython-312t-x86_64-linux"}, None, ("built for cpython-312t-x86_64-linux",)),
        ({"unknown": "it runs /bin/sh, which is no Python"}, None, ("is not known: it runs /bin/sh", 'python = "any"')),
        ({"unknown": "it runs /bin/sh, which is no Python"}, "any", ()),
    ],
)
def test_the_python_that_does_the_tasks_is_the_worker_s_or_the_one_that_was_declared(
    runs: Interpreter, python: str | None, texts: tuple[str, ...]
) -> None:
    heads = judge("warm", 5, 5, python=python, runs=runs)
    assert len(heads) == bool(texts)
    assert all(text in heads[0] for text in texts), heads


# What a worker reports. ----------------------------------------------------------------------------------------


class Kind(enum.Enum):
    COLD = "cold"


class Broken:
    @property
    def late(self) -> None:
        raise OSError("gone")

    def __repr__(self) -> str:
        raise ValueError("no repr")


def probe(root: Any, path: str) -> FoundValue:
    return plugins.probe(root, [path])[path]


def test_a_step_is_an_attribute_or_a_key() -> None:
    root = SimpleNamespace(runtime=SimpleNamespace(config={"executor": Kind.COLD, "directory": PurePosixPath("/a")}))
    assert plain.unpack(probe(root, "runtime.config.executor")["plain"]) == "cold"
    assert plain.unpack(probe(root, "runtime.config.directory")["plain"]) == "/a"
    assert probe(root, "runtime.other") == missing("other", "runtime", "types:SimpleNamespace")
    assert probe(root, "other") == missing("other", "", "types:SimpleNamespace")


def test_an_object_has_a_class_whatever_else_it_does() -> None:
    root = SimpleNamespace(broken=Broken())
    assert probe(root, "broken")["type"] == f"{__name__}:Broken"
    assert probe(root, "broken")["repr"].startswith("<Broken instance at ")
    assert probe(root, "broken.late") == {"raised": "OSError: gone", "step": "late", "of": "broken"}


QUESTION: PluginQuestion = {"path": "acme:P", "attributes": ["runtime", "x.executor_type"], "variables": ["OF_NOBODY"]}


def test_variables_and_settings_named_like_an_attribute_are_reported_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ACME_EXECUTOR_TYPE", "EXECUTOR_TYPE", "ACME_EXECUTOR_TYPES", "ACME_TOKEN", "SUBEXECUTOR_TYPE"):
        monkeypatch.setenv(name, "1")
    with dask.config.set({"acme.executor-type": "cold", "acme.executor": "no", "acme.types": {}}):
        found = plugins.origins(QUESTION)
    assert found == {
        "variables": {"ACME_EXECUTOR_TYPE": "1", "EXECUTOR_TYPE": "1", "OF_NOBODY": None},
        "settings": {"acme.executor-type": "'cold'"},
    }


class FakeWorker:
    """As much of a worker as plugins are given to."""

    def __init__(self, answer: Any) -> None:
        self.plugins = {"p": object()}
        self.runtime = "cold"
        self.handlers: dict[str, Any] = {"plugin-add": self.plugin_add}
        self._answer = answer

    async def plugin_add(self, plugin: Any, name: str | None = None, catch_errors: bool = True) -> Any:
        assert (type(os.environ), dask.config.get) == UNTOUCHED
        return self._answer()


UNTOUCHED = (type(os.environ), dask.config.get)


def ask(worker: Any, *, add: bool = True) -> PluginFacts:
    async def asking() -> PluginFacts:
        plugins.serve(worker)
        if add:
            await worker.handlers["plugin-add"](plugin=b"", name="p")
        facts: PluginFacts = await worker.handlers["modelops_probe"]("p", QUESTION)
        return facts

    return asyncio.run(asking())


def setup_of(answer: Any) -> PluginSetup:
    setup = ask(FakeWorker(answer))["setup"]
    assert setup is not None
    return setup


def test_a_worker_reports_how_a_setup_ended_in_which_nothing_was_replaced() -> None:
    facts = ask(FakeWorker(lambda: {"status": "OK"}))
    assert facts["setup"] == {"done": True, "error": None, "traceback": ""}
    assert (facts["listed"], facts["origins"]["variables"]["OF_NOBODY"]) == (True, None)
    assert plain.unpack(facts["values"]["runtime"]["plain"]) == "cold"
    assert ask(FakeWorker(dict), add=False)["setup"] is None


def test_a_worker_reports_what_dask_only_says_in_its_answer() -> None:
    from distributed.core import error_message

    def opens() -> None:
        raise ValueError("no volume")

    def fails() -> Any:
        try:
            opens()
        except ValueError as error:
            return error_message(error)

    setup = setup_of(fails)
    assert setup["error"] == "ValueError: no volume"
    assert "in opens" in setup["traceback"]
    text = {"exception_text": "ValueError('x')", "traceback_text": "  File …\n", "exception": b"no pickle"}
    assert setup_of(lambda: text)["error"] == "ValueError('x')"


def test_what_a_plugin_ends_its_worker_with_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    def exits() -> Any:
        raise SystemExit(3)

    worker: Any = FakeWorker(exits)
    with pytest.raises(SystemExit):
        ask(worker)
    err = capfd.readouterr().err
    assert f"{plugins.NOT_SET_UP}: p\nTraceback (most recent call last):" in err
    assert "SystemExit: 3" in err
