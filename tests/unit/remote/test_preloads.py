"""How preloads of the user's go, as a process of the cell records it; no Dask server runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import pytest
from distributed import preloading

from pytest_modelops.checks.start import broken_preloads
from pytest_modelops.remote.worker import modelops_preload

FAILS = "async def dask_setup(server):\n    open_ledger()\n\ndef open_ledger():\n    raise OSError('no ledger')\n"
WORKS = "def dask_setup(server):\n    server.loaded.append(__name__)\n"


class Server(SimpleNamespace):
    """A scheduler, as far as preloads see it."""

    def __init__(self, *preloads: Path | str) -> None:
        super().__init__(handlers={}, loaded=[])
        names = [modelops_preload.__file__, *map(str, preloads)]
        self.preloads = preloading.process_preloads(self, names, [])  # type: ignore[arg-type]

    def start(self) -> list[Any]:
        asyncio.run(self.preloads.start())
        answer: list[Any] = self.handlers["modelops_preloads"]()
        return answer


@pytest.fixture
def works(tmp_path: Path) -> Path:
    path = tmp_path / "works_here.py"
    path.write_text(WORKS)
    return path


@pytest.fixture
def fails(tmp_path: Path) -> Path:
    path = tmp_path / "fails_here.py"
    path.write_text(FAILS)
    return path


def test_a_setup_that_raises_is_recorded_and_the_others_run(works: Path, fails: Path) -> None:
    server = Server(fails, works)
    failed, passed = server.start()
    assert server.loaded == ["works_here"]
    assert passed == {"name": str(works), "done": True, "error": "", "traceback": "", "uncaught": False}
    assert (failed["name"], failed["done"], failed["error"]) == (str(fails), True, "OSError: no ledger")
    frames = [line for line in failed["traceback"].splitlines() if line.startswith("  File")]
    assert [("fails_here" in frame, frame.rpartition(" in ")[2]) for frame in frames] == [
        (True, "dask_setup"),
        (True, "open_ledger"),
    ]


@pytest.mark.parametrize("error", ["SystemExit", "KeyboardInterrupt", "BaseException"])
def test_a_setup_that_would_end_the_process_is_recorded_and_the_others_run(
    works: Path, tmp_path: Path, error: str
) -> None:
    leaves, at_import = tmp_path / "leaves_here.py", tmp_path / "leaves_at_import.py"
    leaves.write_text(f"def dask_setup(server):\n    raise {error}('no licence')\n")
    at_import.write_text(f"raise {error}('no host')\n")
    server = Server(leaves, works)
    failed, passed = server.start()
    assert server.loaded == ["works_here"]
    assert (failed["done"], failed["error"], failed["uncaught"]) == (True, f"{error}: no licence", True)
    assert not passed["error"]
    message = broken_preloads({"worker-0": [failed]})
    assert f"leaves_here.py failed on worker-0: {error}: no licence" in message
    assert 'leaves_here.py", line 2, in dask_setup' in message
    assert "does not catch this" in message
    with dask.config.set({"distributed.scheduler.preload": [str(at_import)]}):
        [configured] = Server().start()
    assert (configured["error"], configured["uncaught"]) == (f"{error}: no host", True)


def test_configured_preloads_are_loaded_although_ours_is_on_the_command_line(works: Path, fails: Path) -> None:
    with dask.config.set({"distributed.scheduler.preload": [str(works), str(fails)]}):
        server = Server()
        assert [setup["error"] for setup in server.start()] == ["", "OSError: no ledger"]
    assert server.loaded == ["works_here"]


def test_configured_preloads_are_ignored_where_dask_ignores_them(works: Path, fails: Path) -> None:
    with dask.config.set({"distributed.scheduler.preload": [str(fails)]}):
        assert [setup["name"] for setup in Server(works).start()] == [str(works)]


def test_a_configured_preload_that_cannot_be_imported_is_recorded() -> None:
    with dask.config.set({"distributed.scheduler.preload": ["no_such_module_here"]}):
        [setup] = Server().start()
    assert "no_such_module_here" in setup["error"]


def test_processes_with_the_same_fault_are_one_line(works: Path, fails: Path) -> None:
    setups = Server(works, fails).start()
    assert broken_preloads({"scheduler": setups[:1]}) == ""
    message = broken_preloads({"scheduler": setups[:1], "worker-0": setups, "nanny of worker-0": setups})
    first, *rest = message.splitlines()
    assert "fails_here.py failed on worker-0, nanny of worker-0: OSError: no ledger" in first
    assert sum("open_ledger" in line and "File" in line for line in rest) == 1
