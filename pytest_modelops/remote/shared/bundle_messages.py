"""The shapes of what host, worker and runner exchange about a bundle. Python 3.9 and up.

- `checks/bundle_isolated.copy_in` makes a `BundleLocation`, which every request to a worker holds.
- The methods of `worker/bundles.Bundles` return an `…Answer`.
- `call` of `worker/runner_process.Runner` and of `worker/one_shot.OneShot` returns an `Outcome`, `close` a `RunnerEnd`.

Directories are paths in the cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from .facts import Interpreter, NamedProcess

PUT = "put/"
"""Begins a relative path of what was copied to workers of a deployment."""

# Where a bundle is ----------------------------------------------------------------------------------------------------

Place = Literal["installed", "source", "anywhere", "if-shipped"]
"""Where a module must be found: in what was installed, in the bundle's directory, in either, or only together with
what else is installed under its top-level name."""
OnPath = Literal["first", "last", "never"]
"""Where the bundle's own directory stands on the import path."""


class WireFunction(TypedDict):
    """The function that runs a bundle's entry points."""

    module: str
    function: str


Installer = Literal["uv", "pip"]
"""What installed a bundle's wheels: uv once, for each process to copy, or pip in each process."""


class InstalledWheels(TypedDict):
    """What a bundle needs, installed once by uv, to be copied by each process that runs the same interpreter."""

    directory: str  # an environment, or a directory of packages
    interpreter: str  # path of the interpreter that it was made for, without links


class OtherInstall(TypedDict):
    """What client or scheduler, whose Python may be another one, install of a bundle that goes into processes."""

    wheels: str  # directory
    installed: InstalledWheels | None
    requirements: list[str]  # `name==version`


class _Location(TypedDict):
    name: str
    digest: str
    directories: dict[str, str]  # by worker name, its own directory for the bundle, which it creates
    source: str  # directory of the bundle's files
    wheels: str  # directory of the wheels that it is installed from
    runner: str  # path, `module:file`, or empty for the reference runner
    command: list[str]  # with {python}, {runner}, {bundle}, {venv}, {digest}, {wheels} and {version}
    protocol: str  # `json-rpc`, or `one-shot` for a runner that is started for each request
    install: str  # `isolated`, or `workers` for a bundle that goes into running processes and has no runner


class BundleLocation(_Location, total=False):
    """Where a bundle is in the cell, and how its runner is started."""

    pips: str  # directory of pips, unpacked and compiled, see `own_pip.prepared`; empty if there is none
    installed: InstalledWheels | None  # of these wheels; without it, pip installs them
    modules: list[str]  # names of its top-level modules
    on_path: OnPath  # the bundle's directory; by default `first`
    wire: WireFunction | None
    installs: bool  # whether the runner installs the bundle itself, into an environment that holds only pip
    unread: list[str]  # files and tables of it that list packages and are read by no installer

    served: str  # attribute of a worker that has the bundle, and its handler; by default `modelops_bundles`
    conditions: list[str]  # `ARTIFACT:PATH`, see `artifacts.look`; only where it is executed

    # Of a bundle that goes into running processes:
    requirements: list[str]
    client: OtherInstall
    scheduler: OtherInstall  # only of a bundle that goes into the scheduler

    # On one worker:
    directory: str  # the worker's own directory for the bundle
    venv: str  # the bundle's environment
    pip: str  # directory of this worker's pip, see `own_pip.py`; by default `own-pip` in `directory`
    variables: dict[str, str]  # that the runner gets besides the worker's
    version: str | None  # value of {version}; by default the worker's Python
    logs: str  # directory of the runner's logs; by default `logs` in `directory`


# Requests to a runner -------------------------------------------------------------------------------------------------


class _Outcome(TypedDict):
    outside: str  # what it wrote to stdout outside of frames since the last request; empty if nothing


class Outcome(_Outcome, total=False):
    """What a request to a runner led to. Exactly one of the first six fields is present."""

    result: Any
    error: Any  # `{"code", "message", "data"}`: the runner could not perform the request
    exited: str  # how the process ended before it answered: `exited with code 1`
    garbled: str  # what the runner sent instead of a JSON object
    silent: float  # the seconds that the runner had
    unstarted: str  # why the runner could not be started

    stacks: str  # of a silent runner's threads, or `STOPPED`
    cause: str | None  # first cause in its stderr; as `last`, absent after an answer
    last: list[str]  # last lines of its stderr
    strange: str  # an answer to nothing that was asked
    why: str  # why a one-shot runner's output, or an artifact, is garbled
    printed: str  # what a one-shot runner that did not answer wrote to stdout
    protocol: str  # `one-shot`, of a one-shot runner
    left: list[str]  # processes of a runner without an answer that could not be ended
    process: NamedProcess  # that the answer to `ready` names, or else the one that was started


class RunnerEnd(TypedDict, total=False):
    """How a runner ended."""

    outside: str  # as in an `Outcome`
    ended: str | None  # how it ended by itself, if it did
    unwilling: float  # seconds that it had to end by itself and did not
    stacks: str  # of an unwilling runner's threads
    survived: list[str]  # processes that it had started and that were still running after its end
    left: list[str]  # processes that could not be ended


class CloseAnswer(RunnerEnd, total=False):
    """Of `close`; without a running runner only `logs`."""

    logs: dict[str, bytes]  # content of the runner's `stderr` and `stdout`, both ends of long ones


class Ready(TypedDict):
    """A runner's answer to `ready`."""

    ready: bool
    bundle_digest: str  # that it was started for
    python: str  # path of its interpreter
    version: str  # series of its interpreter, `3.12`
    pid: int
    venv: str  # that it was started for


class WorkerPython(TypedDict):
    """The interpreter of a worker."""

    python: str  # path
    version: str  # `3.12.1`


class HandshakeAnswer(TypedDict):
    """Of `handshake`."""

    outcome: Outcome  # of `ready`
    again: Outcome | None  # of a second `ready`, for one-shot runners
    end: RunnerEnd  # empty if the runner was not started
    worker: WorkerPython
    own: Interpreter  # the worker's
    venv: str  # the bundle's environment
    beside: dict[str, str]  # modules beside the runner with the name of one of the bundle's → their file
    logs: dict[str, bytes]  # as in `CloseAnswer`


# Installs -------------------------------------------------------------------------------------------------------------


class InstallFailure(TypedDict):
    """Why an environment could not be made."""

    failed: str  # what failed and how
    timed_out: bool
    cause: str | None  # first cause in the output
    last: list[str]  # last lines of the output


class Inspection(TypedDict):
    """What is in an environment, as `runner/inspection.py` prints it."""

    python: str  # path of its interpreter
    version: str  # of its interpreter, `3.12.1`
    packages: dict[str, str]  # version of each installed package, by canonical name
    wires: list[str]  # entry points of the group `modelops.wire` that they declare, `module:function`
    missing: list[str]  # dotted names of the bundle's modules that an import would not find
    left_out: list[str]  # those that nothing was installed of, and that a build may leave out on purpose
    changed: list[str]  # files that are missing, or are not what their package recorded


class EnvironmentContents(Inspection):
    """What is in an environment, and which modules cannot be imported from it."""

    imports: dict[str, str]  # modules that could not be imported → why


class InstallAnswer(TypedDict):
    """Of `install`: one of both is `None`."""

    contents: EnvironmentContents | None
    failure: InstallFailure | None
    installer: Installer | None  # `None` if it failed


class ProcessInstall(TypedDict):
    """Of `install_in_process`."""

    done: bool  # whether it has come to its end
    touched: list[str]  # files of the process's environment that have changed
    failure: InstallFailure | None
    installer: Installer | None  # `None` if it failed, or is not done


class Conflict(TypedDict):
    """A package that a process has in another version than the bundle brings."""

    name: str  # canonical
    here: str  # the process's version
    wanted: str  # the bundle's version
    imported: bool  # whether the process has imported its own version


class ProcessContents(EnvironmentContents):
    """What a process that runs already finds of a bundle."""

    hidden: dict[str, str]  # modules of the bundle → file of another module of that name that is imported already
    conflicts: list[Conflict]


class ProcessAnswer(TypedDict):
    """Of `inspect_process`."""

    pid: int
    setup: ProcessInstall | None  # `None` if nothing was installed
    contents: ProcessContents | None  # `None` unless the install succeeded


# Tasks ----------------------------------------------------------------------------------------------------------------


class Artifact(TypedDict):
    """What an entry point returned under a name."""

    size: int  # bytes
    checksum: str  # SHA-256 in hex
    inline: str  # content as base64


class ArtifactContent(TypedDict):
    """What an artifact holds."""

    empty: str  # in which way it holds nothing; empty if it holds something
    error: str  # its `error`, if it is a JSON object with one
    found: dict[str, str]  # condition → what is there, or `not JSON`; only conditions that are met


class ArtifactSummary(TypedDict):
    """An artifact as it travels to pytest."""

    size: int
    checksum: str
    head: bytes  # the first 300 bytes of its content


class _Replicate(TypedDict):
    task_id: str  # as it was asked
    outside: str  # as in an `Outcome`
    protocol: str
    worker: str  # name
    pid: int | None  # of the process that ran the entry point; `None` if none was started
    error: Outcome | None  # what came instead of a result


class _MaybeFailed(_Replicate, total=False):
    beside: dict[str, str]  # as in `HandshakeAnswer`; only with an error
    contents: dict[str, ArtifactContent]  # by name of the artifact; absent with an error


class ReplicateAnswer(_MaybeFailed):
    """Of `execute`, the result of a task."""

    outputs: dict[str, Artifact]  # by name; empty with an error


class ReplicateSummary(_MaybeFailed):
    """A `ReplicateAnswer` as it travels to pytest."""

    outputs: dict[str, ArtifactSummary]


class _Aggregate(TypedDict):
    target: str  # as it was asked
    of: list[str]  # task ids of the replicates that it aggregated
    outside: str  # as in an `Outcome`
    protocol: str


class AggregateAnswer(_Aggregate, total=False):
    """Of `aggregate`, the result of a task: with a `result` or an `error`."""

    result: Any  # what the target returned
    error: Outcome
