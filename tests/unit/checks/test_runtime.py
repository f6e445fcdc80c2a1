"""What is concluded from what workers reported of a plugin, and the telling itself; no process runs."""

from __future__ import annotations

import asyncio
import enum
import os
import threading
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_modelops.checks import runtime_messages, runtime_processes
from pytest_modelops.config.model import PluginSettings
from pytest_modelops.remote.shared import plain
from pytest_modelops.remote.worker import plugins

PLUGIN = PluginSettings(path="acme:P", probe="runtime", expect={"runtime.executor_type": "cold"})
REGISTERED: dict[str, Any] = {"name": "acme:P", "read": [], "missing": [], "settings": {}}


def value(content: Any, kind: str = "builtins:str") -> dict[str, Any]:
    return {"class": kind, "repr": repr(content), "plain": plain.pack(content)}


def reported(**keys: Any) -> dict[str, Any]:
    """What a worker reported that is cold, or not."""
    return {
        "pid": 1,
        "listed": True,
        "setup": {"done": True, "error": None, "traceback": "", "read": [], "settings": {}},
        "variables": {},
        "values": {"runtime": {"class": "acme:Runtime", "repr": "<Runtime>"}, "runtime.executor_type": value("cold")},
        **keys,
    }


def heads(answer: dict[str, Any], plugin: PluginSettings = PLUGIN, **registered: Any) -> list[str]:
    return [fault.head for fault in runtime_messages.faults(plugin, answer, {**REGISTERED, **registered})]


def with_executor(content: Any, **keys: Any) -> dict[str, Any]:
    answer = reported(**keys)
    return {**answer, "values": {**answer["values"], "runtime.executor_type": value(content)}}


def setup(*read: str, error: str | None = None, trace: str = "") -> dict[str, Any]:
    return {"done": True, "error": error, "traceback": trace, "read": list(read), "settings": {}}


def test_a_worker_that_is_as_asked_has_no_fault() -> None:
    assert heads(reported()) == []


VARIABLE = {"MODELOPS_EXECUTOR_TYPE": "cold"}
SAYS = "asked for runtime.executor_type = 'cold', has 'isolated_warm'"
NOT_READ = (
    "The variable MODELOPS_EXECUTOR_TYPE of this worker says 'cold', and was not looked up during the plugin's setup, "
    "so its value was not read there"
)


@pytest.mark.parametrize(
    ("keys", "registered", "origin"),
    [
        ({}, {}, ""),
        ({"variables": VARIABLE}, {}, f". {NOT_READ}"),
        (
            {"variables": VARIABLE},
            {"read": ["MODELOPS_EXECUTOR_TYPE"], "missing": ["MODELOPS_EXECUTOR_TYPE"], "settings": {}},
            (
                f". {NOT_READ}; it was looked up in the client, which has no such variable, when "
                "the plugin was made: its configuration comes from there"
            ),
        ),
        (
            {"variables": VARIABLE, "setup": setup("MODELOPS_EXECUTOR_TYPE")},
            {},
            (
                ". The variable MODELOPS_EXECUTOR_TYPE of this worker says 'cold' and was looked up "
                "during the plugin's setup: the value fell back, or was overridden"
            ),
        ),
        (
            {"variables": {"MODELOPS_EXECUTOR_TYPE": "colt"}, "setup": setup("MODELOPS_EXECUTOR_TYPE")},
            {},
            (
                ". The variable MODELOPS_EXECUTOR_TYPE of this worker says 'colt' and was looked up "
                "during the plugin's setup: a value that it does not know may fall back"
            ),
        ),
        (
            {"setup": setup("MODELOPS_EXECUTOR_TYPE", "HOME")},
            {},
            (
                ". The variable MODELOPS_EXECUTOR_TYPE was looked up during the plugin's setup "
                "there, and this harness sets none; set it in [tool.modelops.environment] env"
            ),
        ),
        ({"variables": {"OTHER_TYPES": "warm"}}, {}, ""),
    ],
)
def test_a_value_that_differs_is_reported_with_where_it_may_come_from(
    keys: dict[str, Any], registered: dict[str, Any], origin: str
) -> None:
    assert heads(with_executor("isolated_warm", **keys), **registered) == [f"{SAYS}{origin}"]


def test_an_argument_that_says_the_wrong_value_is_named() -> None:
    plugin = PluginSettings(path="acme:P", arguments={"executor_type": "isolated_warm"}, expect=PLUGIN.expect)
    [head] = heads(with_executor("isolated_warm"), plugin)
    assert head == f"{SAYS}. The plugin's argument executor_type is 'isolated_warm'"


def test_a_setup_that_raised_is_reported_before_what_is_missing_after_it() -> None:
    answer = reported(
        setup=setup(error="ValueError: no"), values={"runtime": missing(), "runtime.executor_type": missing()}
    )
    assert heads(answer) == [
        "the plugin's setup raised ValueError: no; the worker stays, lists the plugin and would run tasks all the same",
        (
            "it has no attribute 'runtime', although it lists the plugin 'acme:P'; it registered, "
            "runs lambdas, and would run tasks without a runtime"
        ),
    ]


def missing(step: str = "runtime", of: str = "", kind: str = "distributed:Worker") -> dict[str, Any]:
    return {"missing": step, "of": of, "class": kind}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"runtime": value(None, "builtins:NoneType")}, "its 'runtime' is None"),
        (
            {"runtime.executor_type": missing("executor_type", "runtime", "acme:Runtime")},
            "asked for runtime.executor_type = 'cold', runtime (a acme:Runtime) has no 'executor_type'",
        ),
        (
            {"runtime.executor_type": {"raised": "OSError: gone", "step": "executor_type", "of": "runtime"}},
            "asked for runtime.executor_type = 'cold', 'executor_type' raised OSError: gone",
        ),
    ],
)
def test_what_is_not_there_is_reported_with_what_is(values: dict[str, Any], words: str) -> None:
    answer = reported()
    [head] = heads({**answer, "values": {**answer["values"], **values}})
    assert head.startswith(words)


def test_a_plugin_that_a_worker_never_got() -> None:
    assert heads(reported(setup=None)) == ["it was never given the plugin 'acme:P'"]


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


def test_an_object_is_compared_by_its_class() -> None:
    found = {"class": "acme:Cold", "repr": "<Cold>"}
    assert runtime_messages.is_same("acme:Cold", found)
    assert not runtime_messages.is_same("acme:Warm", found)


def test_a_worker_whose_runtime_is_of_another_class() -> None:
    other = reported()
    other["values"] = {**other["values"], "runtime": {"class": "acme:Old", "repr": "<Old>"}}
    [(name, fault)] = runtime_messages.differences(PLUGIN, {"worker-0": reported(), "worker-late": other})
    assert (name, fault.head) == ("worker-late", "its runtime is a acme:Old, that of worker-0 a acme:Runtime")


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
    assert lines[-2:] == ["        sys.exit(3)", "The worker did not live on. Its log: /w.log"]


def test_files_of_a_traceback_are_called_as_in_their_package() -> None:
    trace = 'Traceback …\n  File "/e/lib/python3.12/site-packages/acme/a.py", line 1, in setup\n    x()\nValueError: no'
    answer = reported(setup=setup(error="ValueError: no", trace=trace))
    [fault] = runtime_messages.faults(PLUGIN, answer, REGISTERED)
    assert fault.details[1] == '  File "acme/a.py", line 1, in setup'


def test_what_is_missing_has_no_class_to_differ_in() -> None:
    lacks = reported()
    lacks["values"] = {**lacks["values"], "runtime": missing()}
    assert list(runtime_messages.differences(PLUGIN, {"worker-0": reported(), "worker-1": lacks})) == []
    assert runtime_messages.figures(lacks)["values"] == {"runtime.executor_type": "'cold'"}


def test_a_missing_module_comes_with_what_to_do() -> None:
    text = runtime_messages.unmade(PLUGIN, {"unmade": "ModuleNotFoundError: No module named 'a.b'", "module": "a.b"})
    assert text.endswith("has a module 'a': add the one that does to [tool.modelops.environment] requirements")


# Which processes do tasks. -----------------------------------------------------------------------------------


def judge(kind: str, *returned: Any) -> list[str]:
    answers = [{"value": one, "seconds": 0.1, "worker": 7, "start": None} for one in returned]
    return [fault.head for fault in runtime_processes.judge(kind, "acme:run", answers)]


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
    ("kind", "returned", "words"),
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
def test_processes_that_are_not(kind: str, returned: tuple[Any, ...], words: str) -> None:
    [head] = judge(kind, *returned)
    assert words in head


# What a worker tells. ----------------------------------------------------------------------------------------


class Kind(enum.Enum):
    COLD = "cold"


class Broken:
    @property
    def late(self) -> None:
        raise OSError("gone")

    def __repr__(self) -> str:
        raise ValueError("no repr")


def probe(root: Any, path: str) -> dict[str, Any]:
    reported: dict[str, Any] = plugins.probe(root, [path])[path]
    return reported


def test_a_step_is_an_attribute_or_a_key() -> None:
    root = SimpleNamespace(runtime=SimpleNamespace(config={"executor": Kind.COLD, "directory": PurePosixPath("/a")}))
    assert plain.unpack(probe(root, "runtime.config.executor")["plain"]) == "cold"
    assert plain.unpack(probe(root, "runtime.config.directory")["plain"]) == "/a"
    assert probe(root, "runtime.other") == missing("other", "runtime", "types:SimpleNamespace")
    assert probe(root, "other") == missing("other", "", "types:SimpleNamespace")


def test_an_object_tells_its_class_whatever_else_it_does() -> None:
    root = SimpleNamespace(broken=Broken())
    assert probe(root, "broken")["class"] == f"{__name__}:Broken"
    assert probe(root, "broken")["repr"].startswith("<Broken instance at ")
    assert probe(root, "broken.late") == {"raised": "OSError: gone", "step": "late", "of": "broken"}


def test_variables_that_are_looked_up_are_noted_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THERE", "1")
    before = type(os.environ)
    with plugins.reads() as noted, plugins.reads() as inner:
        assert os.environ["THERE"] == os.environ.get("THERE") == os.getenv("THERE") == "1"
        assert os.environ.get("NOT_THERE", "x") == "x"
        assert "ALSO_NOT" not in os.environ
        os.environ["WRITTEN"] = "1"
        del os.environ["WRITTEN"]
    assert noted.variables == inner.variables == {"THERE", "NOT_THERE", "ALSO_NOT"}
    assert type(os.environ) is before
    os.environ.get("AFTERWARDS")
    assert "AFTERWARDS" not in noted.variables


def test_settings_that_others_than_dask_look_up_are_noted() -> None:
    import dask

    before = dask.config.get
    with dask.config.set({"acme.executor-type": "cold"}), plugins.reads() as noted, plugins.reads() as inner:
        assert dask.config.get("acme.executor-type") == "cold"
        assert dask.config.get("acme.other", default=7) == dask.config.get("acme.other", 7) == 7
        assert dask.config.get("acme.mine", config={"acme": {"mine": 1}}) == 1
        with pytest.raises(KeyError):
            dask.config.get("acme.gone")
        dask.utils.typename(str)  # and Dask's own look-ups are not
        dask.config.get("temporary-directory")
    expected = {"acme.executor-type": "'cold'", "acme.other": None, "acme.gone": None, "temporary-directory": "None"}
    assert noted.settings == inner.settings == expected
    assert dask.config.get is before


def test_watching_ends_with_the_last_that_watches() -> None:
    with plugins.reads() as first:
        with plugins.reads():
            pass
        thread = threading.Thread(target=lambda: os.environ.get("IN_A_THREAD"))
        thread.start()
        thread.join()
    assert "IN_A_THREAD" in first.variables


class FakeWorker:
    """As much of a worker as plugins are given to."""

    def __init__(self, answer: Any) -> None:
        self.plugins = {"p": object()}
        self.runtime = "cold"
        self.handlers: dict[str, Any] = {"plugin-add": self.plugin_add}
        self._answer = answer

    async def plugin_add(self, plugin: Any, name: str | None = None, catch_errors: bool = True) -> Any:
        os.environ.get("READ_IN_SETUP")
        return self._answer()


def ask(worker: Any, *, add: bool = True) -> dict[str, Any]:
    async def asking() -> dict[str, Any]:
        plugins.serve(worker)
        if add:
            await worker.handlers["plugin-add"](plugin=b"", name="p")
        reported: dict[str, Any] = await worker.handlers["modelops_probe"]("p", ["runtime"], ["HOME_OF_NOBODY"])
        return reported

    return asyncio.run(asking())


def test_a_worker_tells_how_a_setup_ended() -> None:
    answer = ask(FakeWorker(lambda: {"status": "OK"}))
    assert answer["setup"] == {"done": True, "error": None, "traceback": "", "read": ["READ_IN_SETUP"], "settings": {}}
    assert (answer["listed"], answer["variables"]) == (True, {"HOME_OF_NOBODY": None})
    assert plain.unpack(answer["values"]["runtime"]["plain"]) == "cold"
    assert ask(FakeWorker(dict), add=False)["setup"] is None


def test_a_worker_tells_what_dask_only_says_in_its_answer() -> None:
    from distributed.core import error_message

    def opens() -> None:
        raise ValueError("no volume")

    def fails() -> Any:
        try:
            opens()
        except ValueError as error:
            return error_message(error)

    answer = ask(FakeWorker(fails))
    assert answer["setup"]["error"] == "ValueError: no volume"
    assert "in opens" in answer["setup"]["traceback"]
    text = {"exception_text": "ValueError('x')", "traceback_text": "  File …\n", "exception": b"no pickle"}
    assert ask(FakeWorker(lambda: text))["setup"]["error"] == "ValueError('x')"


def test_what_a_plugin_ends_its_worker_with_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    def exits() -> Any:
        raise SystemExit(3)

    worker: Any = FakeWorker(exits)
    with pytest.raises(SystemExit):
        ask(worker)
    err = capfd.readouterr().err
    assert f"{plugins.NOT_SET_UP}: p\nTraceback (most recent call last):" in err
    assert "SystemExit: 3" in err
