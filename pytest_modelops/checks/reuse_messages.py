"""What came of using an environment again, in words. Reads the plain data that `remote/worker/reuse.py` describes."""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from packaging.version import InvalidVersion, Version

from pytest_modelops.checks import bundle_messages as words
from pytest_modelops.checks.bundle_messages import Fault
from pytest_modelops.checks.canary import ARTIFACT
from pytest_modelops.remote.worker.reuse import took_too_long

Answer = Mapping[str, Any]

_SPEAKS_OF_ENVIRONMENT = re.compile(
    r"(?<![\w/.-])(?:virtual[ -]?)?(?:environments?|venvs?|virtualenvs?)(?![\w/])", re.IGNORECASE
)
"""How a refusal names what it refuses. A path is no such word: that a file in it is missing is a crash."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Canary:
    """A state of an environment, and what has to come of a use in it.

    Attributes:
        title: the state, for people.
        answer: which code has to answer.
        wrong: what it means when the other one does.
        may_refuse: whether a runner may also end in words that say what is wrong with the environment.
        further: what has to hold besides.
        advice: what to do when it does not come up.
    """

    title: str
    answer: str = "A"
    wrong: str = "it answered with {answer}, not with {wanted}"
    may_refuse: bool = False
    further: Callable[[Answer, Version], Iterator[str]] = lambda _, __: iter(())
    advice: str = ""


def _rewritten(reply: Answer, _: Version) -> Iterator[str]:
    if reply["kept"]:
        yield (
            "asked again, it gave the answer of the first use, made at the same moment: nothing was executed, and a "
            "result that was kept stands for a new one"
        )
    if reply["rewritten"]:
        names = ", ".join(reply["rewritten"])
        yield (
            f"what was installed was installed again, within {reply['uses'][0]['seconds']:g} s: {names} of "
            f"{reply['files']} files were written restarted, or are gone"
        )

    elif took_too_long(reply["uses"], reply["first_seconds"], reply["install_seconds"]):
        seconds = " and ".join(f"{use['seconds']:g} s" for use in reply["uses"])
        yield (
            f"it took {seconds}, and the first use {reply['first_seconds']:g} s, of which {reply['install_seconds']:g} "
            "s until the last package was there: it starts from what is there no quicker than it installs it, or it "
            "installs elsewhere at every start"
        )


def _other_version(reply: Answer, python: Version) -> Iterator[str]:
    ready = reply["uses"][0]["ready"].get("result")
    version = str(ready.get("version")) if isinstance(ready, Mapping) else ""
    if ready is not None and not _same_series(version, python):
        yield (
            f"it was used in silence, and runs Python {version}; the worker runs {python}. The name of a directory "
            "proves nothing: ask its interpreter, or have the command hand over {version}"
        )


def _planted(reply: Answer, _: Version) -> Iterator[str]:
    if reply["planted"]:
        yield "a foreign file in its site-packages is still there: nothing fresh was made"


CANARIES: Mapping[str, Canary] = {
    "first-use": Canary(title="first use of a bare environment"),
    "second-use": Canary(title="second use", further=_rewritten),
    "edited-code": Canary(
        title="edited code under the same name",
        answer="B",
        wrong="it answered with the old code's output ({answer}), its environment was made for another digest",
    ),
    "common-prefix": Canary(
        title="a digest that begins as that of the environment",
        answer="B",
        wrong="it answered with the other bundle's output ({answer}): the two digests have their first 60 digits in "
        "common, and all 64 count",
    ),
    "another-python": Canary(
        title="an environment of another Python under the right key", may_refuse=True, further=_other_version
    ),
    "half-made": Canary(
        title="a half-made environment, metadata without files",
        may_refuse=True,
        advice="Metadata proves no files: what was not finished has to be made again",
    ),
    "missing-packages": Canary(
        title="a finished environment whose packages' files are gone",
        may_refuse=True,
        advice="A marker proves no files: look whether they are there",
    ),
    "dead-holder": Canary(
        title="an environment whose runner was killed in the middle of its install",
        advice="A lock has to end with its holder, as that of flock(2) does, and what was begun has to be made again",
    ),
    "two-at-once": Canary(
        title="two runners at once on a new environment", advice="Who finds it locked has to wait until it is finished"
    ),
    "forced-fresh": Canary(
        title="a fresh environment was wanted",
        answer="B",
        wrong="it answered with the old code's output ({answer}): what was there was used",
        further=_planted,
    ),
}
"""By the names of `remote/worker/reuse.py`, in the order in which they are tried."""


def faults(name: str, reply: Answer, python: Version) -> list[Fault]:
    """What is wrong with what came of a canary; nothing where it was not tried, or is as it has to be.

    Args:
        python: the worker's.
    """
    canary = CANARIES[name]
    if "untried" in reply:
        return []
    if "late" in reply:
        return [Fault(head=f"{canary.title}: there was no time left to try it")]
    if "failed" in reply:
        failed = reply["failed"]
        cause = f". {failed['cause']}" if failed["cause"] else ""
        return [Fault(head=f"{canary.title}: {failed['failed']}{cause}", details=tuple(failed["last"][-10:]))]
    if canary.may_refuse and all(map(refused, reply["uses"])):
        return []
    found = [Fault(head=head) for head in canary.further(reply, python)]
    for use in reply["uses"]:
        found += [fault for fault in _of_use(use, canary, python) if fault not in found]
    return [dataclasses.replace(fault, head=f"{canary.title}: {fault.head}") for fault in found]


def refused(use: Answer) -> bool:
    """Whether the runner did not shake hands, and said that this is for the environment."""
    ready = use["ready"]
    if isinstance(ready.get("error"), Mapping):
        return _SPEAKS_OF_ENVIRONMENT.search(str(ready["error"].get("message"))) is not None
    lines = ready["last"] if "exited" in ready else []
    return any(_SPEAKS_OF_ENVIRONMENT.search(line) for line in lines if not line.startswith((" ", "\t")))


def _of_use(use: Answer, canary: Canary, python: Version) -> Iterator[Fault]:
    ready, answer = use["ready"], use["answer"]
    for outcome, request in ((ready, "ready"), (answer, "execute")):
        if outcome is None:
            continue
        if outcome["outside"]:
            yield words.polluted(outcome["outside"], request)
        if "result" not in outcome:
            fault = words.fault_of(outcome, request, seconds=use["given"], python=python)
            advice = f" {canary.advice}." if canary.advice else ""
            yield dataclasses.replace(fault, head=f"{fault.head}{advice}")
    if "result" in ready and (reply := _digest(ready["result"])) != use["digest"]:
        yield Fault(head=f"it answers for the digest {reply!r}, and was started for {use['digest']!r}")
    if answer is not None and "result" in answer and (said := _said(answer["result"])) != canary.answer:
        shown = {"answer": repr(said), "wanted": repr(canary.answer)}
        known = said in {"A", "B"}
        yield Fault(head=(canary.wrong if known else Canary.wrong).format(**shown))
    yield from words.faults_of_end(use["end"])


def _digest(ready: Any) -> Any:
    return ready.get("bundle_digest") if isinstance(ready, Mapping) else None


def _said(result: Any) -> str:
    """What the canary answered, or what came instead."""
    try:
        return base64.b64decode(result[ARTIFACT], validate=True).decode()
    except (KeyError, TypeError, ValueError):
        return str(result)[:200]


def _same_series(reply: str, python: Version) -> bool:
    try:
        return Version(reply).release[:2] == python.release[:2]
    except InvalidVersion:
        return False
