"""One more worker of a deployment and one less, with cluster objects that scale at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pytest_modelops.remote.client import scaling
from pytest_modelops.remote.client.connection import Failure


class Deployment:
    """Its scheduler's view of the workers, and a cluster object that decides itself which worker it closes."""

    def __init__(self, *, grows: bool = True, closes: int = -1) -> None:
        self.workers = {"tcp://0": {"name": 0}, "tcp://1": {"name": 1}}
        self._grows, self._closes = grows, closes

    def ask_scheduler(self, operation: str, *, seconds: float) -> dict[str, Any]:
        assert operation == "identity"
        return {"workers": dict(self.workers)}

    def scale(self, count: int) -> None:
        if count > len(self.workers) and self._grows:
            self.workers[f"tcp://{count - 1}"] = {"name": count - 1}
        elif count < len(self.workers):
            del self.workers[list(self.workers)[self._closes]]


class ByName(Deployment):
    """As Dask's own classes."""

    worker_spec: dict[int, str] = {}  # noqa: RUF012

    def sync(self, function: Any, names: list[int]) -> None:
        function(names)

    def scale_down(self, names: list[int]) -> None:
        self.workers = {address: one for address, one in self.workers.items() if one["name"] not in names}


@pytest.mark.parametrize("made", [Deployment(), ByName(closes=0)])
def test_the_worker_that_joined_leaves(made: Any) -> None:
    one = scaling.Scaling(made)
    assert one.scale_up(made, 5) == "tcp://2"
    assert one.scale_down(made, 5) == {"missing": [], "more": []}


def test_another_worker_leaves_and_that_is_said() -> None:
    made: Any = Deployment(closes=0)
    one = scaling.Scaling(made)
    one.scale_up(made, 5)
    assert one.scale_down(made, 5) == {"missing": ["tcp://0"], "more": ["tcp://2"]}


def test_what_cannot_be_scaled_is_said() -> None:
    made: Any = Deployment(grows=False)
    one = scaling.Scaling(made)
    for cluster, said in ((None, "returned an address"), (SimpleNamespace(_adaptive=1), "is adaptive")):
        with pytest.raises(Failure, match=said):
            one.scale_up(cluster, 5)
        assert one.scale_down(cluster, 5) == {"missing": [], "more": []}, "it has not been scaled up"
    with pytest.raises(TimeoutError, match="no worker more had joined"):
        one.scale_up(made, 0.1)
