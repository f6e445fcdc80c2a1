"""What the agent and the cell's processes answer: the shapes that pass between cell and host.

All of it is plain data (see `plain.py`). Copied into cells: standard library only, Python 3.9 and up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

# Facts of processes --------------------------------------------------------------------------------------------------


class WorkerSettings(TypedDict):
    """How a worker runs, as it says itself."""

    threads: int | None  # how many tasks it runs at once; `None` where this Dask does not say
    nanny: bool  # whether a nanny watches it
    name: str  # its name in the cluster
    resources: dict[str, float]  # amount by name, as given to `--resources`


class ConfigValue(TypedDict):
    """One key of Dask's configuration: what a `DASK_…` variable asks for and what applies, both as `repr`."""

    asked: str
    actual: str


class ProcessFacts(TypedDict, total=False):
    """What a process of the cell says of itself. Without an answer it has only `silent` or `error`."""

    pid: int  # of the process itself; with a nanny, not the process that was started
    python: str  # full version, `3.12.7`
    implementation: str  # `CPython`
    executable: str  # path of its interpreter
    platform: str  # as `platform.platform()` gives it
    # version by distribution of what a task passes through; `None` where it is not installed
    packages: dict[str, str | None]
    variables: dict[str, str | None]  # the environment variables that were asked for; `None` where one is not set
    config: dict[str, ConfigValue]  # by key, the Dask settings that the `DASK_…` variables among them ask for
    # numbers of the signals at which it prints its stacks and goes on: Python does it between two steps of the main
    # thread (0 if it cannot), `faulthandler` does it at once, which may crash the process if threads of it are running
    stacks_signal: int
    forced_stacks_signal: int
    settings: WorkerSettings  # of a worker only
    silent: str  # why there is no answer: none arrived in time
    error: str  # why there is no answer: asking raised, or the worker is gone


class PreloadSetup(TypedDict):
    """How the setup of a preload of the user's went."""

    name: str  # as Dask was given it
    done: bool  # whether it has ended
    error: str  # `Type: text` of what it raised; empty if nothing
    traceback: str  # of that error
    uncaught: bool  # whether it is one that Dask does not catch, such as `SystemExit`


class ClusterFacts(TypedDict, total=False):
    """What every process of a cell says of itself; empty before they are asked."""

    client: ProcessFacts
    scheduler: ProcessFacts
    workers: dict[str, ProcessFacts]  # by address; with those that are registered


class RegisteredWorker(TypedDict):
    """A worker that is registered with the scheduler: its name, and its resources as given to `--resources`."""

    name: str
    memory_limit: int  # in bytes; 0 where there is none
    resources: dict[str, float]
    paused: bool  # whether it takes no tasks, because of its memory


class Gateway(TypedDict, total=False):
    """A cluster of a Dask gateway; what is missing or empty is taken from Dask's configuration."""

    address: str  # of the gateway's server
    auth: str  # `module:Class` or a name that dask-gateway knows
    cluster: str  # name of a cluster that runs


class AttachContact(TypedDict, total=False):
    """Where a client finds a deployment that runs already, in one of four ways, and what it may send there."""

    address: str  # of the scheduler
    scheduler_file: str  # path
    factory: str  # `module:function` that returns an address or a Dask cluster
    gateway: Gateway
    directory: str  # where the factory's module is looked for, besides the client's environment
    files: str  # directory of what is copied to workers, if that is allowed
    tasks: int  # how many the client sends at most
    bytes: int  # of functions, arguments and files together
    seconds: float  # how long it may send, from its start
    force: bool  # whether functions go to another Python, too


class ConnectionState(TypedDict, total=False):
    """Whether the client is connected, and with which scheduler address once it is."""

    connected: bool
    scheduler: str


class ClientStatus(TypedDict):
    """How the client stands with the scheduler."""

    status: str  # of Dask's client: `connecting`, `running`, `closed`, …; `failed` if it was never connected
    connection: int  # another number after it has connected again
    error: str  # why it failed, else empty


# Functions that the host sends, and what came of calling them --------------------------------------------------------


class ShippedModule(TypedDict):
    """A function on its way into the cell: the source of a module, and the function's name in it."""

    source: str
    name: str


class Outcome(TypedDict, total=False):
    """What came of a task: `value`, or `error` with `traceback`, or `gone`, or `pending`."""

    value: Any  # what it returned, packed (see `plain.pack`)
    error: str  # `Type: text` of what it raised
    traceback: str  # of that error, from the worker; may be empty
    gone: str  # that its worker left the cluster while the task was on it
    pending: str  # where the task was when the time was over


class Answer(TypedDict, total=False):
    """What a worker answered to a request that is not a task: `value`, or `error`, or `silent`."""

    value: Any  # the operation's own answer
    error: str  # `Type: text`, or a whole traceback of the worker's
    silent: str  # that nothing came in time


class WorkerAnswer(TypedDict, total=False):
    """What a worker's handler returns of an operation on bundles: its `value`, or the traceback of what it raised."""

    value: Any
    raised: str


class TrialQuestion(TypedDict):
    """Calls to try in processes of their own, and what each must return."""

    calls: dict[str, str]  # by name, function and arguments as Dask sends them, in base64
    expected: Any


class WorkerOptions(TypedDict):
    """What `dask worker` makes of its arguments."""

    dask: str  # version
    ignored: list[str]  # the arguments that it accepts and does not understand
    nearest: dict[str, str]  # the valid option that was probably meant, by each option of these that has one
    error: str  # what its command line says of an option that it knows; empty if nothing


# The aggregation job -------------------------------------------------------------------------------------------------


class AggregationReport(TypedDict):
    """What came of the aggregation job."""

    results: dict[str, Outcome]  # outcome of each aggregate, by the parameter set's number as text
    tasks: int  # how many were submitted
    seconds: float  # until the last aggregate was there
    simulated: int  # how many replicates were done
    failed: dict[str, str]  # error by key of the first few replicates that failed
    # how many tasks each worker has, by address; `None` where the scheduler does not answer
    processing: dict[str, int] | None


class Progress(TypedDict):
    """How far a running job is."""

    finished: int  # how many replicates are done and their results are there
    error: str  # what ended the job before it was complete; empty if nothing did


class RunningReport(Progress):
    """What came of a job in the middle of which something happened."""

    results: dict[str, Outcome]  # outcome of each aggregate that was submitted, by the parameter set's number as text
    failed: dict[str, str]  # error by key of the first few replicates that failed
    processing: dict[str, int] | None  # as in `AggregationReport`


class TaskCount(TypedDict):
    """Tasks that were submitted since the scheduler began to count: how many are done, and how many there are."""

    done: int  # finished or failed
    known: int


class BundleReplicate(TypedDict):
    """One replicate to run: its parameters, its seed, and the address of the worker that must run it, if any."""

    params: Mapping[str, object]
    seed: int
    worker: str | None


class BundleJobReport(TypedDict):
    """What came of a bundle's job."""

    replicates: dict[str, Outcome]  # outcome by `<set>-<replicate>`; the value is the replicate's summary
    aggregates: dict[str, Outcome]  # outcome by `<set>-<target>`
    seconds: float  # until everything was there


# Processes that do the work ------------------------------------------------------------------------------------------


class Interpreter(TypedDict, total=False):
    """What a Python says of itself when it is asked; or `unknown` alone."""

    executable: str  # path
    version: str  # `3.12.1`
    prefix: str  # of its environment
    platform: str  # what compiled modules have to be for: `cpython-312-x86_64-linux-gnu`
    unknown: str  # why it could not be asked


class NamedProcess(TypedDict):
    """What the system knows of a process that a runtime or a runner named as its own."""

    pid: int
    of: int  # pid of the process that it has to descend from
    seen: bool  # whether it was seen below that one
    lives: bool  # whether it ran when the answer was there
    born: bool  # whether its pid was given out while the answer was awaited; of use where it was too quick to be seen
    command: str  # its command line, if it lives elsewhere
    runs: Interpreter  # empty unless it was seen


# Worker plugins ------------------------------------------------------------------------------------------------------


class PluginQuestion(TypedDict):
    """What client and workers are asked about a plugin."""

    path: str  # `module:Class`
    attributes: list[str]  # dotted paths of a worker
    variables: list[str]  # names of the environment variables that the cell sets for its workers


class Origins(TypedDict):
    """Where a plugin's configuration may come from, in one process."""

    # environment variables: those that the cell sets for its workers (`None` where one is not set in this process),
    # and those whose name ends like that of an attribute that is looked at
    variables: dict[str, str | None]
    settings: dict[str, str]  # Dask settings whose name does, as `repr`


class RegisteredPlugin(TypedDict, total=False):
    """What came of making a worker plugin in the client, and of registering it."""

    name: str  # that it is registered by
    origins: Origins  # of the client
    unmade: str  # `Type: text` of why it could not be made; then it was not registered
    module: str | None  # with `unmade`, the name of the module that is missing
    gone: list[str]  # addresses of the workers that left while it was registered
    error: str  # `Type: text` of what registering raised
    traceback: str  # of `unmade` or `error`


class PluginSetup(TypedDict):
    """How a plugin's setup on a worker went: whether it has ended, and `Type: text` of what it raised."""

    done: bool
    error: str | None
    traceback: str


class LookQuestion(PluginQuestion):
    """What workers of a deployment are asked for, which have nothing of ours."""

    packages: list[str]  # names of distributions
    modules: list[str]  # dotted names


class FoundValue(TypedDict, total=False):
    """What is at a dotted path of a worker: `type` and `repr`, or `missing`, or `raised`."""

    # `module:Class` of the value, as it would be configured; with `missing`, of the object that lacks the step
    type: str
    repr: str  # shortened
    plain: Any  # the value itself, packed, where it is plain data, an enum member of plain data or a path
    missing: str  # the step that is not there
    raised: str  # `Type: text` of what a step raised
    step: str  # with `raised`, the step
    of: str  # with `missing` and `raised`, the path before the step; empty for the worker itself


class PluginFacts(TypedDict):
    """What a worker says of a plugin."""

    pid: int  # of the worker's process
    listed: bool  # whether it lists the plugin, which it also does when the setup raised
    setup: PluginSetup | None  # `None` where it was never given the plugin
    values: dict[str, FoundValue]  # what is at each path that was asked for
    origins: Origins  # of this worker


class WorkerLook(TypedDict):
    """What a worker of a deployment has of what it was asked for."""

    pid: int  # of the worker's process
    plugins: list[str]  # `module:Class` of each plugin that it lists, sorted
    values: dict[str, FoundValue]  # what is at each path that was asked for
    origins: Origins  # of this worker
    packages: dict[str, str | None]  # version by distribution; `None` where one is not installed
    missing: list[str]  # modules that are not found


class PluginAnswer(TypedDict, total=False):
    """What came of asking a worker for a plugin; see `Answer`."""

    value: PluginFacts
    error: str
    silent: str
