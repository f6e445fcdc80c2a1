"""What came of a bundle's runner, in words. Reads the plain data that `incell/running.py` describes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_modelops.cluster import innermost

Outcome = Mapping[str, Any]

_TRACE_LINES = 14


def by_worker(failures: Mapping[str, str]) -> list[str]:
    """A line for each worker; workers that failed in the same words share one."""
    names: dict[str, list[str]] = {}
    for name, words in failures.items():
        names.setdefault(words, []).append(name)
    return [f"{', '.join(workers)}: {words}" for words, workers in names.items()]


def head(outcome: Outcome, request: str) -> str:
    """One sentence: what happened instead of an answer, with the first cause."""
    cause = f" First cause: {outcome['cause']}." if outcome.get("cause") else ""
    before = "before its JSON-RPC handshake" if request == "ready" else f"during `{request}`"
    if "unstarted" in outcome:
        return f"its runner could not be started: {outcome['unstarted']}"
    if "silent" in outcome:
        return (
            f"its runner did not answer `{request}` within {outcome['silent']:.1f} s, and still ran.{cause}"
        )
    if "exited" in outcome:
        silence = "" if outcome["last"] else " It printed nothing to stderr."
        return f"its runner {outcome['exited']} {before}.{cause}{silence}"
    if "garbled" in outcome:
        return f"its runner answered `{request}` with what is no JSON-RPC message: {outcome['garbled']!r}.{cause}"
    error = outcome["error"]
    data = error.get("data") if isinstance(error, Mapping) else None
    if isinstance(data, Mapping) and data.get("exc_type"):
        return f"`{request}` raised {data['exc_type']}: {data.get('exc', '')}"
    if isinstance(error, Mapping):
        return f"`{request}` was answered with error {error.get('code')}: {error.get('message')}"
    return f"`{request}` was answered with the error {error!r}"


def details(outcome: Outcome) -> list[str]:
    """What a person reads next: where it stood, its own traceback, or its last words; indented."""
    if "stacks" in outcome:
        return [f"    {line}" for line in innermost(outcome["stacks"])] or ["    it printed no stack"]
    error = outcome.get("error")
    data = error.get("data") if isinstance(error, Mapping) else None
    if isinstance(data, Mapping) and data.get("traceback"):
        return [f"    {line}" for line in str(data["traceback"]).rstrip().splitlines()[-_TRACE_LINES:]]
    return [f"    {line}" for line in outcome.get("last", ())]


def polluted(outside: str, request: str) -> str:
    """That stdout carried something else than frames."""
    return (
        f"stdout carried something else than JSON-RPC frames {request}: {outside!r}. stdout is the runner's; what a "
        "bundle prints, or lets a child print, has to go to stderr"
    )


def ended(end: Mapping[str, Any]) -> list[str]:
    """What is wrong with how a runner ended, if anything is."""
    wrong = []
    if end.get("outside"):
        wrong.append(polluted(end["outside"], "after the last answer"))
    if end.get("survived"):
        wrong.append(f"when its runner had ended, this was left of it: {'; '.join(end['survived'])}")
    if end.get("left"):
        wrong.append(f"this could not be ended: {'; '.join(end['left'])}")
    return wrong


def keep_logs(logs: Mapping[str, bytes], prefix: str, keep: Callable[[str, bytes], Path]) -> str:
    """Keep a runner's stderr and stdout; where they are, as the end of a message."""
    kept = {name: keep(f"{prefix}-{name}", content) for name, content in sorted(logs.items())}
    return f"Full log: {kept['stderr']}; raw stdout: {kept['stdout']}" if len(kept) > 1 else ""


_EMPTY = "it returned no artifact that holds anything"


def failures(told: Mapping[str, Any], failed_when: Iterable[str]) -> list[str]:
    """Why a replicate is a failed one although Dask calls it finished; empty if it is not.

    Args:
        told: its summary, see `checks/bundle_tasks.py`.
        failed_when: of `error` (the runner failed to run it), `outputs.error` (an artifact is named `error`, or begins
            so), `outputs.empty` (there is no artifact, or all of them are empty).
    """
    found = []
    error, outputs = told["error"], told["outputs"]
    if error is not None and "error" in failed_when:
        found.append("\n".join([head(error, "execute"), *details(error)]))
    for name, artifact in outputs.items():
        if name.partition(".")[0].lower() == "error" and "outputs.error" in failed_when:
            found.append(f"it returned an artifact named {name!r}: {shown(artifact['head'])}")
    if error is None and "outputs.empty" in failed_when and not any(one["size"] for one in outputs.values()):
        found.append(_EMPTY)
    return found


def shown(content: bytes, most: int = 200) -> str:
    """The beginning of an artifact, for messages."""
    return repr(content[:most].decode(errors="backslashreplace"))


def counted(number: int, of: Collection[Any], what: str) -> str:
    """`2 of 6 replicates`."""
    return f"{number} of {len(of)} {what}"
