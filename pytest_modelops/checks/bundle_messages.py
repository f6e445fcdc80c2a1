"""Messages about bundles and their runners, as far as several checks share them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence, Sized
from pathlib import Path

from packaging.version import Version

from pytest_modelops.cluster.stacks import innermost
from pytest_modelops.remote.shared.bundle_messages import Outcome, RunnerEnd
from pytest_modelops.remote.shared.process_messages import STOPPED
from pytest_modelops.remote.shared.tracebacks import shortened

_TRACE_LINES = 14
_MOST_NAMES = 6
_NOT_THE_BUNDLE_S = re.compile(r"<frozen importlib|/importlib/__init__\.py|/modelops_remote/runner/")
"""Files whose frames do not concern a bundle: the import machinery, and the reference runner."""
_READS_LINES = re.compile(r"JSONDecodeError: Expecting value: line 1 column 1|Content-Length")
"""The first cause of a runner that takes the header of a frame for JSON."""
_WANTS_ANOTHER_PYTHON = re.compile(
    r"requires a different Python: \S+ not in '([^']*)'|does not satisfy Python([<>=!~][^\s,]*)"
)
"""The wording of pip and of uv; one of the groups is the requirement."""

_WELL = "exited with code 0"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        head: what, in a sentence or a few.
        details: lines that a person reads next: a stack, a traceback, the end of a log.
    """

    head: str
    details: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tidy:
    """Makes texts from a cell readable: shows paths in a bundle relative to it.

    Attributes:
        directories: the workers' own directories for the bundle.
    """

    directories: Collection[str]

    def __call__(self, text: str) -> str:
        """Return the text without the directories, which differ from worker to worker."""
        for directory in self.directories:
            text = text.replace(f"{directory}/bundle/", "").replace(f"{directory}/venv/", "venv/")
            text = re.sub(rf"{re.escape(directory)}/venvs/[^/\s]+/", "venv/", text)
        return text

    def fault(self, fault: Fault) -> Fault:
        return Fault(head=self(fault.head), details=tuple(map(self, fault.details)))


def message(intro: str, faults: Mapping[str, Sequence[Fault]], after: str = "", *, named: bool = False) -> str:
    """Return a message about everything that is wrong; its first line holds the first fault.

    Args:
        intro: what this is about.
        faults: by name (of a worker, or a replicate). Faults with the same head share a line and one's details.
        after: the last line.
        named: show the names even if all share one fault without details.
    """
    groups: dict[str, dict[str, Fault]] = {}
    for name, found in faults.items():
        for fault in found:
            groups.setdefault(fault.head, {})[name] = fault
    lines = [f"{intro}: {next(iter(groups))}"]
    for number, (head, by_name) in enumerate(groups.items()):
        names = [*by_name][:_MOST_NAMES]
        more = f" and {len(by_name) - len(names)} more" if len(by_name) > len(names) else ""
        details = next(iter(by_name.values())).details
        if number:
            lines.append(f"{', '.join(names)}{more}: {head}")
        elif details or len(groups) > 1 or named:
            lines.append(f"{', '.join(names)}{more}:" if details else f"{', '.join(names)}{more}")
        lines += [f"    {line}" for line in details]
    return "\n".join([*lines, *([after] if after else [])])


def fault_of(outcome: Outcome, request: str, *, seconds: float, python: Version | None = None) -> Fault:
    """Return what happened instead of a result.

    Args:
        seconds: the deadline, for a silent runner.
        python: of the workers.
    """
    cause = ""
    if said := outcome.get("cause"):
        cause = f" First cause: {said if said.endswith(('.', '!', '?')) else f'{said}.'}"
        cause += advice(said, python) if python is not None else ""
        if request == "ready" and _READS_LINES.search(said):
            cause += " If it reads one JSON document a line: it is asked in `Content-Length` frames."
        cause += f" {advised}" if (advised := hint(said)) else ""
    if strange := outcome.get("strange"):
        cause += f" It sent an answer to nothing that was asked: {strange}"
    one_shot = outcome.get("protocol") == "one-shot"
    if "unstarted" in outcome:
        return Fault(head=f"its runner could not be started: {outcome['unstarted']}")
    if "silent" in outcome:
        what = _printed(outcome["printed"]) if one_shot else "and still ran"
        not_done = f"end after `{request}`" if one_shot else f"answer `{request}`"
        head = f"its runner did not {not_done} within the deadline of {seconds:g} s, {what}.{cause}"
        return Fault(head=head, details=_stack(outcome["stacks"]))
    if "exited" in outcome:
        silence = "" if outcome["last"] else " It printed nothing to stderr."
        before = "before its JSON-RPC handshake" if request == "ready" else f"during `{request}`"
        how = f"during `{request}`, {_printed(outcome['printed'])}" if one_shot else before
        head = f"its runner {outcome['exited']} {how}.{cause}{silence}"
        return Fault(head=head, details=tuple(shortened(_own_frames(outcome["last"]), _TRACE_LINES)))
    if "garbled" in outcome:
        sent, why = repr(outcome["garbled"]), outcome.get("why", "what is no JSON-RPC message")
        head = f"its runner answered `{request}` with {f'{sent}: {why}' if one_shot else f'{why}: {sent}'}.{cause}"
        return Fault(head=head, details=tuple(outcome["last"][-_TRACE_LINES:]))
    return _fault_of_error(outcome["error"], request)


def _stack(stacks: str) -> tuple[str, ...]:
    """Return the lines of a runner's stacks that show where its bundle is."""
    if stacks == STOPPED:
        return (STOPPED,)
    stack = [line for line in innermost(stacks) if not _NOT_THE_BUNDLE_S.search(line)]
    return tuple(stack or ["it printed no stack"])


def _printed(text: str) -> str:
    return f"having printed {text!r} to stdout" if text else "having printed nothing to stdout"


def _fault_of_error(error: object, request: str) -> Fault:
    if not isinstance(error, Mapping):
        return Fault(head=f"`{request}` was answered with the error {error!r}")
    data = error.get("data")
    if not isinstance(data, Mapping) or "exc_type" not in data:  # as other runners than the reference runner report it
        head = f"`{request}` was answered with error {error.get('code')}: {cut(str(error.get('message')))}"
        return Fault(head=head, details=() if data is None else (cut(f"data: {data!r}"),))
    trace = _own_frames(str(data.get("traceback", "")).rstrip().splitlines())
    said = cut(str(data.get("exc")))
    head = f"`{request}` raised {data.get('exc_type')}: {said}{f'. {advised}' if (advised := hint(said)) else ''}"
    return Fault(head=head, details=tuple(map(cut, shortened(trace, _TRACE_LINES))))


def cut(text: str, most: int = 400) -> str:
    """Shorten a text to this many characters, for messages."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def _own_frames(lines: Sequence[str]) -> list[str]:
    """Return a traceback's lines without the frames that are not the bundle's; empty if no frame is."""
    own, skipping = [], False
    for line in lines:
        if line.startswith('  File "'):
            skipping = _NOT_THE_BUNDLE_S.search(line) is not None
        elif not line.startswith(" "):
            skipping = False
        if not skipping:
            own.append(line)
    if any(line.startswith('  File "') for line in own):
        return own
    return [line for line in own if not line.startswith("Traceback (most recent")]


def advice(cause: str, python: Version) -> str:
    """Return what to do if the bundle requires another Python than the workers run; empty for another cause."""
    match = _WANTS_ANOTHER_PYTHON.search(cause)
    if match is None:
        return ""
    wanted = match[1] or match[2]
    return (
        f" It requires Python {wanted}; this cell's workers run {python}. Set requires-python to "
        f"'>={python.major}.{python.minor}', or drop the cell."
    )


def hint(said: str) -> str:
    """Return what to do about an error that has its reason in how bundles are run; empty for another one."""
    if re.search(r"No module named '?pip'?(?![\w.])", said):
        return (
            "A bundle's environment has pip only with `installs = true` in [tool.modelops.runner], which is for a "
            "runner that installs the bundle by itself."
        )
    if "daemonic processes are not allowed to have children" in said:
        return (
            "A worker with a nanny is a daemonic process. Set nanny = false, or the variable "
            "DASK_DISTRIBUTED__WORKER__DAEMON=false in `env`, or install the bundle isolated."
        )
    return ""


def polluted(outside: str, request: str | None, protocol: str = "json-rpc") -> Fault:
    """Return the fault that stdout carried something else than answers.

    Args:
        request: what the runner was asked; `None` after the last answer.
    """
    when = f"before the answer to `{request}`" if request else "after the last answer"
    else_than = f"JSON-RPC frames {when}"
    if protocol == "one-shot":
        else_than = f"the one JSON document that answers `{request}`"
    return Fault(
        head=f"stdout carried something else than {else_than}: {outside!r}. stdout is the runner's: what a "
        "bundle or its children print has to go to stderr"
    )


def faults_of_end(end: RunnerEnd) -> list[Fault]:
    """Return what is wrong with how a runner ended."""
    wrong = []
    if end.get("outside"):
        wrong.append(polluted(end["outside"], None))
    if end.get("unwilling"):
        seconds = round(end["unwilling"], 1)  # 3, or what was left of the deadline
        head = f"its runner did not end within {seconds:g} s after `shutdown`: something keeps it running"
        wrong.append(Fault(head=head, details=_stack(end["stacks"])))
    if (ended := end.get("ended")) and ended != _WELL:
        wrong.append(Fault(head=f"its runner {ended} after `shutdown`; it has to exit with code 0"))
    if end.get("survived"):
        wrong.append(Fault(head="when its runner had ended, this was left of it", details=tuple(end["survived"])))
    if end.get("left"):
        wrong.append(Fault(head="this of its runner could not be ended", details=tuple(end["left"])))
    return wrong


def keep_logs(logs: Mapping[str, bytes], prefix: str, keep: Callable[[str, bytes], Path]) -> str:
    """Store a runner's stderr and stdout; returns where they are, as the last line of a message."""
    paths = {name: keep(f"{prefix}-{name}", content) for name, content in sorted(logs.items())}
    return f"Full log: {paths['stderr']}; raw stdout: {paths['stdout']}" if len(paths) > 1 else ""


def shown(content: bytes, most: int = 200) -> str:
    """Return the beginning of an artifact, for messages."""
    return repr(content[:most].decode(errors="backslashreplace"))


def counted(number: int, of: Sized, what: str) -> str:
    """Return, for example, `2 of 6 replicates`."""
    return f"{number} of {len(of)} {what}"
