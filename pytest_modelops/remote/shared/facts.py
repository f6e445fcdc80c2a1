"""What the agent and the cell's processes answer: the shapes that pass between cell and host.

All of it is plain data (see `plain.py`). Copied into cells: standard library only, Python 3.9 and up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

# Facts of processes --------------------------------------------------------------------------------------------------


class WorkerSettings(TypedDict):
    """How a worker runs, as it says itself.

    Attributes:
        threads: how many tasks it runs at once; `None` where this Dask does not say.
        nanny: whether a nanny watches it.
        name: its name in the cluster.
        resources: amount by name, as given to `--resources`.
    """

    threads: int | None
    nanny: bool
    name: str
    resources: dict[str, float]


class ConfigValue(TypedDict):
    """One key of Dask's configuration: what a `DASK_…` variable asks for and what applies, both as `repr`."""

    asked: str
    actual: str


class ProcessFacts(TypedDict, total=False):
    """What a process of the cell says of itself. Without an answer it has only `silent` or `error`.

    Attributes:
        pid: of the process itself; with a nanny, not the process that was started.
        python: full version, `3.12.7`.
        implementation: `CPython`.
        executable: path of its interpreter.
        platform: as `platform.platform()` gives it.
        packages: version by distribution of what a task passes through; `None` where it is not installed.
        variables: the environment variables that were asked for; `None` where one is not set.
        config: by key, the Dask settings that the `DASK_…` variables among them ask for.
        stacks_signal: number of the signal at which it prints its stacks to stderr and goes on.
        settings: of a worker only.
        silent: why there is no answer: none arrived in time.
        error: why there is no answer: asking raised, or the worker is gone.
    """

    pid: int
    python: str
    implementation: str
    executable: str
    platform: str
    packages: dict[str, str | None]
    variables: dict[str, str | None]
    config: dict[str, ConfigValue]
    stacks_signal: int
    settings: WorkerSettings
    silent: str
    error: str


class ClusterFacts(TypedDict, total=False):
    """What every process of a cell says of itself; empty before they are asked.

    Attributes:
        workers: by address; with those that are registered.
    """

    client: ProcessFacts
    scheduler: ProcessFacts
    workers: dict[str, ProcessFacts]


class RegisteredWorker(TypedDict):
    """A worker that is registered with the scheduler: its name, and its resources as given to `--resources`."""

    name: str
    resources: dict[str, float]


class ConnectionState(TypedDict, total=False):
    """Whether the client is connected, and with which scheduler address once it is."""

    connected: bool
    scheduler: str


# Functions that the host sends, and what came of calling them --------------------------------------------------------


class ShippedModule(TypedDict):
    """A function on its way into the cell: the source of a module, and the function's name in it."""

    source: str
    name: str


class Outcome(TypedDict, total=False):
    """What came of a task: `value`, or `error` with `traceback`, or `gone`, or `pending`.

    Attributes:
        value: what it returned, packed (see `plain.pack`).
        error: `Type: text` of what it raised.
        traceback: of that error, from the worker; may be empty.
        gone: that its worker left the cluster while the task was on it.
        pending: where the task was when the time was over.
    """

    value: Any
    error: str
    traceback: str
    gone: str
    pending: str


class Answer(TypedDict, total=False):
    """What a worker answered to a request that is not a task: `value`, or `error`, or `silent`.

    Attributes:
        value: the operation's own answer.
        error: `Type: text`, or a whole traceback of the worker's.
        silent: that nothing came in time.
    """

    value: Any
    error: str
    silent: str


class WorkerAnswer(TypedDict, total=False):
    """What a worker's handler returns of an operation on bundles: its `value`, or the traceback of what it raised."""

    value: Any
    raised: str


# The aggregation job -------------------------------------------------------------------------------------------------


class AggregationReport(TypedDict):
    """What came of the aggregation job.

    Attributes:
        results: outcome of each aggregate, by the parameter set's number as text.
        tasks: how many were submitted.
        seconds: until the last aggregate was there.
        simulated: how many replicates were done.
        failed: error by key of the first few replicates that failed.
        processing: how many tasks each worker has, by address; `None` where the scheduler does not answer.
    """

    results: dict[str, Outcome]
    tasks: int
    seconds: float
    simulated: int
    failed: dict[str, str]
    processing: dict[str, int] | None


class BundleReplicate(TypedDict):
    """One replicate to run: its parameters, its seed, and the address of the worker that must run it, if any."""

    params: Mapping[str, object]
    seed: int
    worker: str | None


class BundleJobReport(TypedDict):
    """What came of a bundle's job.

    Attributes:
        replicates: outcome by `<set>-<replicate>`; the value is the replicate's summary.
        aggregates: outcome by `<set>-<target>`.
        seconds: until everything was there.
    """

    replicates: dict[str, Outcome]
    aggregates: dict[str, Outcome]
    seconds: float


# Worker plugins ------------------------------------------------------------------------------------------------------


class PluginQuestion(TypedDict):
    """What client and workers are asked about a plugin.

    Attributes:
        path: `module:Class`.
        attributes: dotted paths of a worker.
        variables: names of the environment variables that the cell sets for its workers.
    """

    path: str
    attributes: list[str]
    variables: list[str]


class Origins(TypedDict):
    """Where a plugin's configuration may come from, in one process.

    Attributes:
        variables: environment variables: those that the cell sets for its workers (`None` where one is not set in
            this process), and those whose name ends like that of an attribute that is looked at.
        settings: Dask settings whose name does, as `repr`.
    """

    variables: dict[str, str | None]
    settings: dict[str, str]


class RegisteredPlugin(TypedDict, total=False):
    """What came of making a worker plugin in the client, and of registering it.

    Attributes:
        name: that it is registered by.
        origins: of the client.
        unmade: `Type: text` of why it could not be made; then it was not registered.
        module: with `unmade`, the name of the module that is missing.
        gone: addresses of the workers that left while it was registered.
        error: `Type: text` of what registering raised.
        traceback: of `unmade` or `error`.
    """

    name: str
    origins: Origins
    unmade: str
    module: str | None
    gone: list[str]
    error: str
    traceback: str


class PluginSetup(TypedDict):
    """How a plugin's setup on a worker went: whether it has ended, and `Type: text` of what it raised."""

    done: bool
    error: str | None
    traceback: str


class FoundValue(TypedDict, total=False):
    """What is at a dotted path of a worker: `type` and `repr`, or `missing`, or `raised`.

    Attributes:
        type: `module:Class` of the value, as it would be configured; with `missing`, of the object that lacks the step.
        repr: shortened.
        plain: the value itself, packed, where it is plain data, an enum member of plain data or a path.
        missing: the step that is not there.
        raised: `Type: text` of what a step raised.
        step: with `raised`, the step.
        of: with `missing` and `raised`, the path before the step; empty for the worker itself.
    """

    type: str
    repr: str
    plain: Any
    missing: str
    raised: str
    step: str
    of: str


class PluginFacts(TypedDict):
    """What a worker says of a plugin.

    Attributes:
        pid: of the worker's process.
        listed: whether it lists the plugin, which it also does when the setup raised.
        setup: `None` where it was never given the plugin.
        values: what is at each path that was asked for.
        origins: of this worker.
    """

    pid: int
    listed: bool
    setup: PluginSetup | None
    values: dict[str, FoundValue]
    origins: Origins


class PluginAnswer(TypedDict, total=False):
    """What came of asking a worker for a plugin; see `Answer`."""

    value: PluginFacts
    error: str
    silent: str
