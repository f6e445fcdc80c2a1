"""xdist on the controller: hands the plan to the workers, and each cell as a whole to one worker."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modelops.session.run import MatrixRun

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController


class Distributing:
    """xdist's hooks on the controller; without xdist, nothing calls them."""

    def __init__(self, run: MatrixRun) -> None:
        self.run = run

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: WorkerController) -> None:
        node.workerinput["modelops"] = self.run.hand_over()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: WorkerController) -> None:
        self.run.progress.forget(node.gateway.id)
        if getattr(node, "workeroutput", {}).get("modelops_nothing_touched"):
            self.run.nothing_touched = True

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Give each cell as a whole to one worker, and other tests as `--dist` says.

        `xdist_group` marks would not do: xdist 3.8 ignores them with pytest 9.2, and before that it appends the group
        to node ids, which then differ in reports and in `--lf`.
        """
        from xdist.scheduler import LoadGroupScheduling

        run = self.run
        of_others = {"loadfile": _file_of, "loadscope": _scope_of}.get(config.option.dist)

        class OneWorkerForACell(LoadGroupScheduling):  # type: ignore[misc] # xdist has no types
            def _split_scope(self, nodeid: str) -> str:
                split = of_others or super()._split_scope
                return run.cell_of(nodeid) or split(nodeid)

            def _assign_work_unit(self, node: Any) -> None:
                # The worker may have just crashed. Its `remove_node` comes next and hands on its work.
                with contextlib.suppress(OSError):
                    super()._assign_work_unit(node)

            def _reschedule(self, node: Any) -> None:
                super()._reschedule(node)
                # A worker begins a test only when it knows the next one, or that it is the last. A replacement worker
                # may get a single test, the rest of a cell, and would wait forever.
                while not node.shutting_down and self._pending_of(self.assigned_work[node]) == 1:
                    super()._reschedule(node)

            def remove_node(self, node: Any) -> str | None:
                # A worker crashed in the first of its tests that is not done. xdist would hand on that test, too, and
                # one worker after the other would crash in it.
                for unit in self.assigned_work[node].values():
                    for test, done in unit.items():
                        if not done:
                            unit[test] = True
                            super().remove_node(node)
                            return str(test)
                rest: str | None = super().remove_node(node)
                return rest

        return OneWorkerForACell(config, log)


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _scope_of(nodeid: str) -> str:
    """Return the class or module of a test, as `--dist loadscope` has it."""
    return nodeid.partition("[")[0].rpartition("::")[0]
