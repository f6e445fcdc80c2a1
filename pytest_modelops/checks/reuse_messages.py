"""What a runner has to do in each scenario of reuse, and the messages about one that does not."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping

from packaging.version import InvalidVersion, Version

from pytest_modelops.checks import bundle_messages
from pytest_modelops.checks.bundle_messages import Fault
from pytest_modelops.checks.canary import NAMES
from pytest_modelops.remote.shared import canary
from pytest_modelops.remote.shared.canary_messages import Tried, Use
from pytest_modelops.remote.worker.reuse import took_too_long

_NAMES_THE_ENVIRONMENT = re.compile(
    r"(?<![\w/.-])(?:virtual[ -]?)?(?:environments?|venvs?|virtualenvs?)(?![\w/])", re.IGNORECASE
)
"""How a refusal names what it refuses. A path does not count: a runner that misses a file in it has crashed."""
_MOST_LINES = 10
_WRONG = "it answered with {answer}, not with {wanted}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """A state of an environment, and what has to come of a use in it."""

    title: str  # the state, for people
    answer: str = "A"  # which canary has to answer
    wrong: str = _WRONG  # what it means if the other one does
    may_refuse: bool = False  # the runner may also exit with a message about what is wrong with the environment
    further: Callable[[Tried, Version], Iterator[str]] = lambda _, __: iter(
        ()
    )  # what else is wrong, by worker's Python
    advice: str = ""  # what to do if the runner does not answer


def _not_reused(tried: Tried, _: Version) -> Iterator[str]:
    if tried["repeated"]:
        yield (
            "asked again, it gave the answer of the first use, made at the same moment: nothing was executed, and a "
            "stored result stands for a new one"
        )
    if tried["rewritten"]:
        yield (
            f"what was installed was installed again, within {tried['uses'][0]['seconds']:g} s: "
            f"{', '.join(tried['rewritten'])} of {tried['files']} files were written again, or are gone"
        )
    elif took_too_long(tried["uses"], tried["first_seconds"], tried["install_seconds"]):
        seconds = " and ".join(f"{use['seconds']:g} s" for use in tried["uses"])
        yield (
            f"it took {seconds}, and the first use {tried['first_seconds']:g} s, of which "
            f"{tried['install_seconds']:g} s until the last package was there: starting from an installed environment "
            "is no quicker than installing it, or every start installs elsewhere"
        )


def _other_version(tried: Tried, python: Version) -> Iterator[str]:
    ready = tried["uses"][0]["ready"].get("result")
    if ready is None:
        return
    version = str(ready.get("version")) if isinstance(ready, Mapping) else ""
    try:
        same = Version(version).release[:2] == python.release[:2]
    except InvalidVersion:
        same = False
    if not same:
        yield (
            f"it was used in silence, and runs Python {version}; the worker runs {python}. The name of a "
            "directory proves nothing: ask its interpreter, or have the command pass {version}"
        )


def _planted(tried: Tried, _: Version) -> Iterator[str]:
    if tried["planted"]:
        yield "a foreign file in its site-packages is still there: nothing fresh was made"


SCENARIOS: Mapping[str, Scenario] = {
    "first-use": Scenario(title="first use of a bare environment"),
    "second-use": Scenario(title="second use", further=_not_reused),
    "edited-code": Scenario(
        title="edited code under the same name",
        answer="B",
        wrong="it answered with the old code's output ({answer}), its environment was made for another digest",
    ),
    "common-prefix": Scenario(
        title="a digest that begins as that of the environment",
        answer="B",
        wrong="it answered with the other bundle's output ({answer}): the two digests have their first 60 digits in "
        "common, and all 64 count",
    ),
    "another-python": Scenario(
        title="an environment of another Python under the right key", may_refuse=True, further=_other_version
    ),
    "half-made": Scenario(
        title="a half-made environment, metadata without files",
        may_refuse=True,
        advice="Metadata does not prove that files exist: what was not completed has to be made again",
    ),
    "missing-packages": Scenario(
        title="a finished environment whose packages' files are gone",
        may_refuse=True,
        advice="A marker does not prove that files exist: look whether they are there",
    ),
    "dead-holder": Scenario(
        title="an environment whose runner was killed in the middle of its install",
        advice="A lock has to end with its holder, as that of flock(2) does, and what was begun has to be made again",
    ),
    "two-at-once": Scenario(
        title="two runners at once on a new environment",
        advice="A runner that finds it locked has to wait until it is complete",
    ),
    "forced-fresh": Scenario(
        title="a fresh environment was wanted",
        answer="B",
        wrong="it answered with the old code's output ({answer}): the existing environment was used",
        further=_planted,
    ),
}
"""By the names of `remote/worker/reuse.py`, in the order in which they are tried."""


def faults(name: str, tried: Tried, python: Version) -> list[Fault]:
    """Return what is wrong with what came of a scenario on a worker of that Python; empty if it was not tried."""
    scenario = SCENARIOS[name]
    if "untried" in tried:
        return []
    if "late" in tried:
        return [Fault(head=f"{scenario.title}: there was no time left to try it")]
    if "failed" in tried:
        failure = tried["failed"]
        cause = f". {failure['cause']}" if failure["cause"] else ""
        head = f"{scenario.title}: {failure['failed']}{cause}"
        return [Fault(head=head, details=tuple(failure["last"][-_MOST_LINES:]))]
    if scenario.may_refuse and all(map(_refused, tried["uses"])):
        return []
    found = [Fault(head=head) for head in scenario.further(tried, python)]
    found += [fault for use in tried["uses"] for fault in _of_use(use, scenario, python)]
    return [dataclasses.replace(fault, head=f"{scenario.title}: {fault.head}") for fault in dict.fromkeys(found)]


def _refused(use: Use) -> bool:
    """Return whether the runner gave no handshake, and said that this is because of the environment."""
    ready = use["ready"]
    if isinstance(ready.get("error"), Mapping):
        return _NAMES_THE_ENVIRONMENT.search(str(ready["error"].get("message"))) is not None
    lines = ready["last"] if "exited" in ready else []
    return any(_NAMES_THE_ENVIRONMENT.search(line) for line in lines if not line.startswith((" ", "\t")))


def _of_use(use: Use, scenario: Scenario, python: Version) -> Iterator[Fault]:
    for number, outcome in enumerate([use["ready"], *use["answers"]]):
        request = "execute" if number else "ready"
        if outcome["outside"]:
            yield bundle_messages.polluted(outcome["outside"], request)
        if "result" not in outcome:
            fault = bundle_messages.fault_of(outcome, request, seconds=use["given"], python=python)
            advice = f" {scenario.advice}." if scenario.advice else ""
            yield dataclasses.replace(fault, head=f"{fault.head}{advice}")
    ready = use["ready"].get("result")
    digest = ready.get("bundle_digest") if isinstance(ready, Mapping) else None
    if "result" in use["ready"] and digest != use["digest"]:
        yield Fault(head=f"it answers for the digest {digest!r}, and was started for {use['digest']!r}")
    for outcome in use["answers"]:
        if "result" in outcome and (answer := _variant(outcome["result"])) != scenario.answer:
            wrong = scenario.wrong if answer in NAMES else _WRONG
            yield Fault(head=wrong.format(answer=repr(answer), wanted=repr(scenario.answer)))
    if scenario.further is not _other_version:
        yield from _of_python(use, python)
    yield from bundle_messages.faults_of_end(use["end"])


def _of_python(use: Use, python: Version) -> Iterator[Fault]:
    """Yield where a canary was executed by another Python than that, whatever `ready` said."""
    answers = [canary.read(outcome.get("result")) for outcome in use["answers"]]
    for runs in (answer["runs"] for answer in answers if answer and "runs" in answer):
        if Version(runs["version"]).release[:2] != python.release[:2]:
            did = f"`execute` was done by Python {runs['version']} ({runs['executable']}, prefix {runs['prefix']})"
            yield Fault(head=f"{did}, not by {python}; if that is right, set [tool.modelops.runner] python")


def _variant(result: object) -> str:
    """Return which canary made a result, or what came instead."""
    answer = canary.read(result)
    return answer["variant"] if answer else str(result)[:200]
