"""The shapes of what host, worker and runner exchange about a bundle. Python 3.9 and up.

The functions that send them:

- `checks/bundle_isolated.place` makes a `BundleLocation`, which every request to a worker holds;
- `worker/bundles.Bundles` answers with an `…Answer`, whose method is named in its docstring;
- `worker/runner_process.Runner.call` and `worker/one_shot.OneShot.call` return an `Outcome`.
"""

from __future__ import annotations

from typing import Any, TypedDict


class WireFunction(TypedDict):
    """The function that runs a bundle's entry points."""

    module: str
    function: str


class ClientInstall(TypedDict):
    """What the client installs of a bundle that goes into running processes, where its Python may be another one.

    Attributes:
        wheels: directory in the cell.
        requirements: `name==version` of each wheel.
    """

    wheels: str
    requirements: list[str]


class _Location(TypedDict):
    name: str
    digest: str
    directories: dict[str, str]
    source: str
    wheels: str
    runner: str
    command: list[str]
    protocol: str
    install: str


class BundleLocation(_Location, total=False):
    """Where a bundle is in the cell, and how its runner is started.

    Attributes:
        name, digest: of the bundle.
        directories: by worker name, the worker's own directory for the bundle; the worker creates it.
        source, wheels: directories in the cell: the bundle's files, and the wheels that it is installed from.
        runner: path of the runner in the cell, `module:file`, or empty for the reference runner.
        command: the runner's command line, with the placeholders `{python}`, `{runner}`, `{bundle}`, `{venv}`,
            `{digest}`, `{wheels}` and `{version}`.
        protocol: `json-rpc`, or `one-shot` for a runner that is started for each request.
        install: `isolated`, or `workers` for a bundle that is installed into running processes and has no runner.

        modules: names of the bundle's top-level modules.
        wire: runs its entry points; `None` if it declares none.
        installs: whether the runner installs the bundle itself, into an environment that holds only pip.
        requirements, client: of a bundle that is installed into running processes: what workers and the client install.

        directory, venv: on one worker: the worker's directory for the bundle, and the bundle's environment.
        variables: environment variables that the runner gets besides the worker's.
        version: value of `{version}`; by default the worker's Python.
        logs: directory of the runner's logs; by default `logs` in `directory`.
    """

    modules: list[str]
    wire: WireFunction | None
    installs: bool
    requirements: list[str]
    client: ClientInstall
    directory: str
    venv: str
    variables: dict[str, str]
    version: str | None
    logs: str


class _Outcome(TypedDict):
    outside: str


class Outcome(_Outcome, total=False):
    """What a request to a runner led to. Exactly one of the first six is present.

    Attributes:
        result: the answer.
        error: `{"code", "message", "data"}`, the answer of a runner that could not perform the request.
        exited: how the process ended before it answered: `exited with code 1`.
        garbled: what the runner sent instead of a JSON object.
        silent: the seconds that the runner had. `stacks` shows where it was.
        unstarted: why the runner could not be started.

        outside: what it wrote to stdout outside of frames since the last request; empty if nothing.
        stacks: the stacks of a silent runner's threads.
        cause, last: the first cause in its stderr, if one was found, and the last lines of it. Absent after an answer.
        strange: an answer to nothing that was asked.
        why: why a one-shot runner's output or an artifact is garbled.
        printed: what a one-shot runner that did not answer wrote to stdout.
        protocol: `one-shot`, of a one-shot runner.
        left: processes of a runner without an answer that could not be ended.
    """

    result: Any
    error: Any
    exited: str
    garbled: str
    silent: float
    unstarted: str
    stacks: str
    cause: str | None
    last: list[str]
    strange: str
    why: str
    printed: str
    protocol: str
    left: list[str]


class RunnerEnd(TypedDict, total=False):
    """How a runner ended, as `Runner.close` returns it.

    Attributes:
        outside: as in an `Outcome`.
        ended: how it ended by itself; `None` if it did not.
        unwilling: the seconds within which it should have ended and did not. `stacks` shows where it was.
        survived: processes that it had started and that were still running after its end.
        left: processes that could not be ended.
    """

    outside: str
    ended: str | None
    unwilling: float
    stacks: str
    survived: list[str]
    left: list[str]


class CloseAnswer(RunnerEnd, total=False):
    """Of `Bundles.close`: without a running runner, only `logs`.

    Attributes:
        logs: content of the runner's `stderr` and `stdout`, both ends of long ones.
    """

    logs: dict[str, bytes]


class InstallFailure(TypedDict):
    """Why an environment could not be made.

    Attributes:
        failed: what failed and how.
        timed_out: whether it ran out of time.
        cause, last: first cause in the output, if one was found, and the last lines of it.
    """

    failed: str
    timed_out: bool
    cause: str | None
    last: list[str]


class Inspection(TypedDict):
    """What is in an environment, as `runner/inspection.py` prints it.

    Attributes:
        python: path of its interpreter.
        version: of that interpreter, `3.12.1`.
        packages: version of each installed package, by canonical name.
        missing: dotted names of the bundle's modules that an import would not find.
    """

    python: str
    version: str
    packages: dict[str, str]
    missing: list[str]


class EnvironmentContents(Inspection):
    """What is in an environment, and which modules cannot be imported from it.

    Attributes:
        imports: modules that could not be imported → why.
    """

    imports: dict[str, str]


class InstallAnswer(TypedDict):
    """Of `Bundles.install`: one of both is `None`."""

    contents: EnvironmentContents | None
    failure: InstallFailure | None


class ProcessInstall(TypedDict):
    """Of `Bundles.install_in_process`.

    Attributes:
        done: whether it has come to its end.
        touched: files of the process's environment that have changed.
        failure: why it failed; `None` if it did not.
    """

    done: bool
    touched: list[str]
    failure: InstallFailure | None


class Conflict(TypedDict):
    """A package that a process has in another version than the bundle brings.

    Attributes:
        name: canonical.
        here, wanted: the two versions.
        imported: whether the process has imported its own one.
    """

    name: str
    here: str
    wanted: str
    imported: bool


class ProcessContents(EnvironmentContents):
    """What a process that runs already finds of a bundle.

    Attributes:
        hidden: modules of the bundle → the file of another module of that name that is imported already.
        conflicts: packages in another version.
    """

    hidden: dict[str, str]
    conflicts: list[Conflict]


class ProcessAnswer(TypedDict):
    """Of `Bundles.inspect_process`.

    Attributes:
        pid: of the process.
        setup: how the install went; `None` if there was none.
        contents: `None` unless the install succeeded.
    """

    pid: int
    setup: ProcessInstall | None
    contents: ProcessContents | None


class Ready(TypedDict):
    """A runner's answer to `ready`.

    Attributes:
        ready: `True`.
        bundle_digest: the digest that it was started for.
        python, version: its interpreter's path, and the series, `3.12`.
        pid: of its process.
        venv: the environment that it was started for.
    """

    ready: bool
    bundle_digest: str
    python: str
    version: str
    pid: int
    venv: str


class WorkerPython(TypedDict):
    """The interpreter of a worker: its path, and its version, `3.12.1`."""

    python: str
    version: str


class HandshakeAnswer(TypedDict):
    """Of `Bundles.handshake`.

    Attributes:
        outcome: of `ready`.
        again: of a second `ready`, which only one-shot runners are asked.
        end: how the runner ended; empty if it was not started.
        worker: the worker's interpreter.
        venv: the bundle's environment.
        beside: modules beside the runner with the name of one of the bundle's → their file.
        logs: as in `CloseAnswer`.
    """

    outcome: Outcome
    again: Outcome | None
    end: RunnerEnd
    worker: WorkerPython
    venv: str
    beside: dict[str, str]
    logs: dict[str, bytes]


class Artifact(TypedDict):
    """What an entry point returned under a name: bytes, SHA-256 in hex, content as base64."""

    size: int
    checksum: str
    inline: str


class ArtifactSummary(TypedDict):
    """An artifact as it travels to pytest, with the first 300 bytes of its content."""

    size: int
    checksum: str
    head: bytes


class _Replicate(TypedDict):
    task_id: str
    outside: str
    protocol: str
    worker: str
    pid: int | None
    error: Outcome | None


class _ReplicateOfFailure(_Replicate, total=False):
    beside: dict[str, str]


class ReplicateAnswer(_ReplicateOfFailure):
    """Of `Bundles.execute`, the result of a task.

    Attributes:
        task_id: as it was asked.
        outside, protocol: as in an `Outcome`.
        worker: name of the worker.
        pid: of the process that ran the entry point; `None` if none was started.
        error: what came instead of a result.
        beside: as in `HandshakeAnswer`; only with an error.
        outputs: the artifacts by name; empty with an error.
    """

    outputs: dict[str, Artifact]


class ReplicateSummary(_ReplicateOfFailure):
    """A `ReplicateAnswer` as it travels to pytest."""

    outputs: dict[str, ArtifactSummary]


class _Aggregate(TypedDict):
    target: str
    of: list[str]
    outside: str
    protocol: str


class AggregateAnswer(_Aggregate, total=False):
    """Of `Bundles.aggregate`, the result of a task.

    Attributes:
        target: as it was asked.
        of: the task ids of the replicates that it aggregated.
        outside, protocol: as in an `Outcome`.
        result: what the target returned.
        error: what came instead of a result.
    """

    result: Any
    error: Outcome
