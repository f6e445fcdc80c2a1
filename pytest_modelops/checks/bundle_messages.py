"""What came of a bundle's runner, in words. Reads the plain data that `remote/worker/runner_process.py` describes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.version import Version

from pytest_modelops.cluster.stacks import innermost

Outcome = Mapping[str, Any]

_TRACE_LINES = 14
_MOST_NAMES = 6
_NOT_THE_BUNDLE_S = re.compile(r"<frozen importlib|/importlib/__init__\.py|/modelops_remote/runner/runner\.py")
"""Files whose frames say nothing of a bundle: the import machinery, and the reference runner."""
_WANTS_ANOTHER_PYTHON = re.compile(
    r"requires a different Python: \S+ not in '([^']*)'|does not satisfy Python([<>=!~][^\s,]*)"
)
"""How pip and uv say it, and in which group the requirement is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        head: what, in a sentence or few.
        details: lines that a person reads next: a stack, a traceback, last words.
    """

    head: str
    details: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tidy:
    """Makes texts of a cell readable: paths in a bundle are shown relative to it.

    Attributes:
        directories: the workers' own directories for the bundle.
    """

    directories: Collection[str]

    def __call__(self, text: str) -> str:
        """The text without what differs from worker to worker, and says nothing."""
        for directory in self.directories:
            text = text.replace(f"{directory}/bundle/", "").replace(f"{directory}/venv/", "venv/")
        return text

    def fault(self, fault: Fault) -> Fault:
        """A fault, so treated."""
        return Fault(head=self(fault.head), details=tuple(map(self, fault.details)))


def message(intro: str, faults: Mapping[str, Sequence[Fault]], after: str = "", *, named: bool = False) -> str:
    """Everything that is wrong, as one text: its first line says the first of it.

    Args:
        intro: what this is about.
        faults: by name (of a worker, or a replicate). Those with the same head share a line, and show its details once.
        after: its last line.
        named: tell the names also where all share one fault that has no details.
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
    """What happened instead of a result.

    Args:
        seconds: the deadline, for a runner that was silent.
        python: of the workers.
    """
    cause = f" First cause: {_ended(outcome['cause'])}" if outcome.get("cause") else ""
    if outcome.get("cause") and python is not None:
        cause += advice(outcome["cause"], python)
    if outcome.get("strange"):
        cause += f" It sent an answer to nothing that was asked: {outcome['strange']}"
    one_shot = outcome.get("protocol") == "one-shot"
    if "unstarted" in outcome:
        return Fault(head=f"its runner could not be started: {outcome['unstarted']}")
    if "silent" in outcome:
        stack = [line for line in innermost(outcome["stacks"]) if not _NOT_THE_BUNDLE_S.search(line)]
        what = _printed(outcome["printed"]) if one_shot else "and still ran"
        not_done = f"end after `{request}`" if one_shot else f"answer `{request}`"
        head = f"its runner did not {not_done} within the deadline of {seconds:g} s, {what}.{cause}"
        return Fault(head=head, details=tuple(stack or ["it printed no stack"]))
    if "exited" in outcome:
        silence = "" if outcome["last"] else " It printed nothing to stderr."
        before = "before its JSON-RPC handshake" if request == "ready" else f"during `{request}`"
        how = f"during `{request}`, {_printed(outcome['printed'])}" if one_shot else before
        head = f"its runner {outcome['exited']} {how}.{cause}{silence}"
        return Fault(head=head, details=tuple(_own_frames(outcome["last"])[-_TRACE_LINES:]))
    if "garbled" in outcome:
        why = outcome.get("why", "what is no JSON-RPC message")
        head = f"its runner answered `{request}` with {outcome['garbled']!r}: {why}.{cause}"
        if not one_shot:
            head = f"its runner answered `{request}` with {why}: {outcome['garbled']!r}.{cause}"
        return Fault(head=head, details=tuple(outcome["last"][-_TRACE_LINES:]))
    return _fault_of_error(outcome["error"], request)


def _printed(text: str) -> str:
    """What a one-shot runner had on stdout, in words."""
    return f"having printed {text!r} to stdout" if text else "having printed nothing to stdout"


def _fault_of_error(error: Any, request: str) -> Fault:
    if not isinstance(error, Mapping):
        return Fault(head=f"`{request}` was answered with the error {error!r}")
    data = error.get("data")
    if not isinstance(data, Mapping) or "exc_type" not in data:  # another's way to tell of it
        head = f"`{request}` was answered with error {error.get('code')}: {cut(str(error.get('message')))}"
        return Fault(head=head, details=() if data is None else (cut(f"data: {data!r}"),))
    trace = _own_frames(str(data.get("traceback", "")).rstrip().splitlines())
    head = f"`{request}` raised {data.get('exc_type')}: {cut(str(data.get('exc')))}"
    return Fault(head=head, details=tuple(map(cut, trace[-_TRACE_LINES:])))


def cut(text: str, most: int = 400) -> str:
    """A text of at most so many characters, for messages."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def _own_frames(lines: Sequence[str]) -> list[str]:
    """A traceback's lines without the frames that are not the bundle's; none where no frame is."""
    kept, skipping = [], False
    for line in lines:
        if line.startswith('  File "'):
            skipping = _NOT_THE_BUNDLE_S.search(line) is not None
        elif not line.startswith(" "):
            skipping = False
        if not skipping:
            kept.append(line)
    if any(line.startswith('  File "') for line in kept):
        return kept
    return [line for line in kept if not line.startswith("Traceback (most recent")]


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def advice(cause: str, python: Version) -> str:
    """What to do about a bundle that wants another Python than the workers run; empty for another cause."""
    match = _WANTS_ANOTHER_PYTHON.search(cause)
    if match is None:
        return ""
    wanted = match[1] or match[2]
    return (
        f" It requires Python {wanted}; this cell's workers run {python}. Set requires-python to "
        f"'>={python.major}.{python.minor}', or drop the cell."
    )


_LACKS_A_COMPILER = re.compile(
    r"error: command '(?P<one>[^']+)' failed: No such file"
    r"|building '[^\n]*' extension\n(?:[^\n]*\n)*?error: \[Errno 2\] No such file or directory: '(?P<other>[^']+)'"
    r"|unable to execute '(?P<third>[^']+)'"
)
"""How setuptools says it, in versions new and old."""


def advice_on_build(output: str, python: Version) -> str:
    """What to do about sources of which no wheel can be made here; empty for another cause."""
    if match := _LACKS_A_COMPILER.search(output):
        compiler = match["one"] or match["other"] or match["third"]
        return (
            f" It has sources that need the compiler {compiler!r}, which is not on this machine; install that, or ship "
            f"a wheel for Python {python.major}.{python.minor} instead."
        )
    return advice(output, python)


def polluted(outside: str, request: str | None, protocol: str = "json-rpc") -> Fault:
    """That stdout carried something else than answers.

    Args:
        request: what was asked; `None` after the last answer.
    """
    when = f"before the answer to `{request}`" if request else "after the last answer"
    else_than = f"JSON-RPC frames {when}"
    if protocol == "one-shot":
        else_than = f"the one JSON document that answers `{request}`"
    return Fault(
        head=f"stdout carried something else than {else_than}: {outside!r}. It is the runner's; what a "
        "bundle prints, or lets a child print, has to go to stderr"
    )


def faults_of_end(end: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with how a runner ended, if anything is."""
    wrong = []
    if end.get("outside"):
        wrong.append(polluted(end["outside"], None))
    if end.get("unwilling"):
        stack = [line for line in innermost(end["stacks"]) if not _NOT_THE_BUNDLE_S.search(line)]
        seconds = round(end["unwilling"], 1)  # 3, or what was left of the deadline
        head = f"its runner did not end within {seconds:g} s after `shutdown`: something keeps it running"
        wrong.append(Fault(head=head, details=tuple(stack or ["it printed no stack"])))
    if end.get("survived"):
        wrong.append(Fault(head="when its runner had ended, this was left of it", details=tuple(end["survived"])))
    if end.get("left"):
        wrong.append(Fault(head="this of its runner could not be ended", details=tuple(end["left"])))
    return wrong


def keep_logs(logs: Mapping[str, bytes], prefix: str, keep: Callable[[str, bytes], Path]) -> str:
    """Keep a runner's stderr and stdout; where they are, as the end of a message."""
    kept = {name: keep(f"{prefix}-{name}", content) for name, content in sorted(logs.items())}
    return f"Full log: {kept['stderr']}; raw stdout: {kept['stdout']}" if len(kept) > 1 else ""


def faults_of_replicate(reply: Mapping[str, Any], failed_when: Collection[str], *, seconds: float) -> list[Fault]:
    """Why a replicate is a failed one although Dask calls it finished; empty if it is not.

    Args:
        reported: its summary, see `checks/bundle_tasks.py`.
        failed_when: of `error` (the runner failed to run it), `outputs.error` (an artifact is named `error`, with any
            ending), `outputs.empty` (there is no artifact, also for want of an answer, or all of them are empty).
        seconds: the deadline.
    """
    found = []
    error, outputs = reply["error"], reply["outputs"]
    if reply["outside"]:  # what else went wrong may have been its doing
        found.append(polluted(reply["outside"], "execute", reply["protocol"]))
    empty = "outputs.empty" in failed_when and not any(one["size"] for one in outputs.values())
    if error is not None and ("error" in failed_when or empty):
        found.append(fault_of(error, "execute", seconds=seconds))
    for name, artifact in outputs.items():
        if name.partition(".")[0].lower() == "error" and "outputs.error" in failed_when:
            found.append(Fault(head=f"it returned an artifact named {name!r}: {shown(artifact['head'])}"))
    if error is None and empty:
        found.append(Fault(head="it returned no artifact that holds anything"))
    return found


def shown(content: bytes, most: int = 200) -> str:
    """The beginning of an artifact, for messages."""
    return repr(content[:most].decode(errors="backslashreplace"))


def processes_of(replicates: Iterable[Mapping[str, Any]]) -> int:
    """How many processes of runners these replicates were run by."""
    return len({(one["worker"], one["pid"]) for one in replicates})


def counted(number: int, of: Collection[Any], what: str) -> str:
    """`2 of 6 replicates`."""
    return f"{number} of {len(of)} {what}"
