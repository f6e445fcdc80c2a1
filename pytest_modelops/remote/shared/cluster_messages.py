"""What passes between pytest and the maker, the process that makes a cell's cluster with a Dask cluster class."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping


class ClusterQuestion(TypedDict):
    """The cluster that is to be made."""

    path: str  # of the class or function, `module:Class`
    directory: str  # where its module is looked for, besides the maker's environment
    options: Mapping[str, object]  # keyword arguments of the class, with their fields filled in
    workers: int  # how many are waited for
    maximum: int  # for a cluster that scales itself between both; 0 for one that does not
    contact: str  # path of the file in which clients find the scheduler; see `ClusterContact`


class ClusterContact(TypedDict):
    """Where clients find the scheduler."""

    address: str
    security: str  # the `Security` of connections to it, pickled, in base64; empty where it has none


class CloseReport(TypedDict):
    """What closing a cluster left behind."""

    left: list[str]  # for people
    notes: list[str]  # what had to be ended by force


class WorkerName(TypedDict):
    """What a worker is called in the report, and the file that it prints its stacks to."""

    name: str
    log: str
