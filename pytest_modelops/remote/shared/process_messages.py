"""Messages between pytest, a supervisor and the init of a container. JSON on both sides, so all fields are plain data.

Answers carry the number (`id`) of their request. What a supervisor or an init sends by itself is an event.
"""

from __future__ import annotations

from typing import TypedDict, final

STOPPED = "it is stopped (SIGSTOP) and does nothing"
"""Of a process that prints no stacks."""


class Request(TypedDict, total=False):
    """What pytest asks of a supervisor or of an init.

    Attributes:
        op: `start`, `prepare`, `left` and `finish` (supervisor), `state` and `keep` (init), `signal`, `descendants` and
            `abort_children` (both).
        id: number of the request.
        argv: command to start; with `template`, module and arguments of `python -m`; for `prepare`, the interpreter.
        env: its variables, all of them.
        cwd: its working directory.
        log: path of the file that its output is added to.
        modules: what `prepare` imports in a process that others can be forked from.
        template: pid of such a process, from which this one is forked.
        attached: the next two descriptors on the socket become its stdin and stdout; only stderr goes to the log.
        patience: for how many seconds it may run on when pytest is gone, to end by itself; it gets SIGTERM.
        pid: the process that is meant; to an init, 0 is the command.
        number: of the signal.
    """

    op: str
    id: int
    argv: list[str]
    env: dict[str, str]
    cwd: str
    log: str
    modules: list[str]
    template: int
    attached: bool
    patience: float
    pid: int
    number: int


class ChildStack(TypedDict):
    """A child process of one that hangs.

    Attributes:
        pid: as its supervisor or init counts.
        command: its command line, shortened.
        state: where the kernel says that it stands: `running`, `sleeping`, …
        waits_in: the function of the kernel in which it waits; empty if unknown.
        obstacle: why its stacks cannot be had; it then runs on. Otherwise it was ended by SIGABRT.
        in_log: its stderr is that of the process that hangs, so its stacks are in that log.
        dump: else, what it printed last.
    """

    pid: int
    command: str
    state: str
    waits_in: str
    obstacle: str
    in_log: bool
    dump: str


@final
class Answer(TypedDict, total=False):
    """What a supervisor or an init answers.

    Attributes:
        id: number of the request.
        error: why it could not be done; then nothing else is set.
        pid: of the process that was started.
        sent: whether the signal was sent; `False` if the process is gone.
        pids: descendants, parents before their children.
        children: what `abort_children` found, parents before their children.
        state: where the kernel says that a process stands: `running`, `sleeping`, `gone`, …
        left: processes and directories that are left, for people.
    """

    id: int
    error: str
    pid: int
    sent: bool
    pids: list[int]
    children: list[ChildStack]
    state: str
    left: list[str]


@final
class Exited(TypedDict):
    """A supervisor's event: a process that it started has ended.

    Attributes:
        exited: its pid.
        status: as waitpid(2) returns it.
    """

    exited: int
    status: int


@final
class CanFork(TypedDict):
    """A supervisor's event: a process that others are forked from has imported its modules.

    Attributes:
        prepared: its pid.
        cannot: why nothing can be forked from it; empty if it can.
    """

    prepared: int
    cannot: str


class Prepared(TypedDict):
    """First message of a process that others are forked from to its supervisor.

    Attributes:
        cannot: as in `CanFork`.
    """

    cannot: str


class ForkRequest(TypedDict):
    """What a supervisor asks such a process to fork. With it come descriptors: stdin and stdout, if attached, and log.

    Attributes:
        argv: module and arguments, as after `python -m`.
        env: as in `Request`; holds every variable that the process to fork from was started with.
        cwd: as in `Request`.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: str


class Forked(TypedDict, total=False):
    """The answer to a `ForkRequest`.

    Attributes:
        pid: of the new process, a child of the supervisor.
        error: why there is none.
    """

    pid: int
    error: str


@final
class InitEvents(TypedDict, total=False):
    """Events of an init, each sent once; together they are what became of the command.

    Attributes:
        started: pid of the command, as the container counts it.
        failed: why it could not be started.
        exited: how it ended, as waitpid(2) returns it.
        memory: the container's limit in bytes, if the kernel killed the command for memory.
    """

    started: int
    failed: str
    exited: int
    memory: int
