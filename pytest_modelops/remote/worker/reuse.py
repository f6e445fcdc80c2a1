"""A runner that installs by itself reuses an environment, in every scenario that is known to go wrong.

The scenarios run on one worker, in directories of their own; pytest judges what comes of them
(`checks/reuse_messages.py`). Most bring the environment into a state, start the runner on one of two canaries, and
ask it which of them it runs.

    reuse/bundle      the canary in use, always at the same path
    reuse/live/venvs  an environment for each digest, Python and set of dependencies, as deployments lay them out, so
                      that a shared path is the runner's own choice; HOME and the temporary directory are beside it, so
                      that everything that a runner may remember is saved and restored together
    reuse/saved/…     copies of `live`: bare, and after a good use

Standard library only, Python 3.9 and up.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..shared import canary
from ..shared.bundle_messages import BundleLocation
from ..shared.canary_messages import ReuseReport, Tried, Use, Variant
from ..shared.waiting import poll
from .environment import Commands, Failed, make_bare
from .location import NOT_STARTED, bundle_of, launch, logs_of, pip_of
from .states import States, another_python, key_of
from .uses import has_answered, use

FIRST_SHARE = 0.5  # of the time; how long the first use takes cannot be known before
# Every other use gets that multiple of the first use's time, and at least so many seconds: then it hangs.
LEAST_SECONDS, TIMES_THE_FIRST = 10.0, 5.0
# With less time left than that, a scenario is not started: its failure would be the deadline's, not the runner's.
LATE_SECONDS, LATE_TIMES_THE_FIRST = 1.0, 2.0
_TIMES_UNTIL_SEEN, _SECONDS_UNTIL_SEEN = 2.0, 3.0
"""Times a first use, but not less than these seconds: what takes a moment takes longer on a busy machine."""
_POLL_SECONDS = 0.002
_MOST_NAMES = 5
_REQUEST = {"entrypoint": canary.ENTRYPOINT, "params": {}, "seed": 0}
_TELL_THE_PYTHON = ("{version}", "{worker-python}")
"""What tells a runner which Python its environment should have; `{python}` is the one that it has."""
_NOTHING_INSTALLED: Tried = {"untried": "the bundle installs nothing"}


class Reuse:
    """All scenarios, one after the other, in so many seconds.

    Args:
        variants: the canaries `A` and `B`.
        forced: variables that make the runner install in any case; `None` if it knows none.
    """

    def __init__(
        self,
        location: BundleLocation,
        *,
        variants: Mapping[str, Variant],
        forced: Mapping[str, str] | None,
        seconds: float,
    ) -> None:
        self._directory = os.path.join(location["directory"], "reuse")
        made_for = variants["A"]
        pip = pip_of(location)
        self._states = States(self._directory, key_of(made_for["digest"], made_for["source"]), pip)
        self._location: BundleLocation = {
            **location,
            "directory": self._directory,
            "venv": self._states.venv,
            "pip": pip,
        }
        self._variants = variants
        self._forced = forced
        self._end = time.monotonic() + seconds
        self._first: Use | None = None
        self._first_began = 0.0
        self._bare: frozenset[str] = frozenset()
        self._scenarios: Mapping[str, Callable[[], Tried]] = {
            "first-use": self._first_use,
            "second-use": self._second_use,
            "edited-code": lambda: self._edited(self._variants["B"]["digest"]),
            "common-prefix": lambda: self._edited(_with_another_end(self._variants["A"]["digest"])),
            "another-python": self._another_python,
            "half-made": lambda: self._use_state(self._states.halve()),
            "missing-packages": lambda: self._use_state(self._states.empty()),
            "dead-holder": self._dead_holder,
            "two-at-once": self._two_at_once,
            "forced-fresh": self._forced_fresh,
        }

    def run(self) -> ReuseReport:
        """Try all scenarios, also after one has failed; none but the first can be tried if the first use fails."""
        shutil.rmtree(self._directory, ignore_errors=True)
        os.makedirs(self._directory)
        scenarios: dict[str, Tried] = {}
        for name, perform in self._scenarios.items():
            began = time.monotonic()
            if self._remaining < LATE_SECONDS + LATE_TIMES_THE_FIRST * self._first_seconds:
                tried: Tried = {"late": True}
            elif name != "first-use" and self._first is None:
                tried = {"untried": "the first use failed"}
            else:
                try:
                    tried = perform()
                except Failed as failure:
                    tried = {"failed": failure.to_plain()}
            scenarios[name] = {**tried, "seconds": round(time.monotonic() - began, 3)}
        for name in ("bundle", "live", "saved"):
            shutil.rmtree(os.path.join(self._directory, name), ignore_errors=True)
        version = ".".join(map(str, sys.version_info[:3]))
        return {"scenarios": scenarios, "version": version, "logs": logs_of(self._location)}

    def _first_use(self) -> Tried:
        self._states.clear()
        with self._commands() as run:
            make_bare(run, self._location)
        self._states.save("bare")
        self._bare = frozenset(self._states.installed())
        self._first_began = time.time()
        first = self._use(self._place("A"))
        if has_answered(first):
            self._first = first
        return {"uses": [first]}

    def _second_use(self) -> Tried:
        before = self._states.installed()
        first = self._first_seconds
        last = self._states.changed_last(before.keys() - self._bare)
        install_seconds = round(min(max(0.0, last - self._first_began), first), 3) if last else 0.0
        uses = [self._use(self._place("A"))]
        if took_too_long(uses, first, install_seconds) and self._remaining > first + LATE_SECONDS:
            uses.append(self._use(self._place("A")))  # a machine may be busy once
        after = self._states.installed()
        rewritten = [path for path in before if after.get(path) != before[path]]
        self._states.save("good")
        return {
            "uses": uses,
            "rewritten": rewritten[:_MOST_NAMES],
            "files": len(before),
            "repeated": _moment(uses[0]) is not None and _moment(uses[0]) == _moment(self._first),
            "first_seconds": first,
            "install_seconds": install_seconds,
        }

    def _edited(self, digest: str) -> Tried:
        self._states.restore("good")
        location = self._place("B", digest=digest)
        if not os.path.exists(location["venv"]):
            with self._commands() as run:
                make_bare(run, location)
        return {"uses": [self._use(location)]}

    def _another_python(self) -> Tried:
        if not any(named in argument for argument in self._location["command"] for named in _TELL_THE_PYTHON):
            return {"untried": f"the runner's command has none of {', '.join(_TELL_THE_PYTHON)}, so it cannot compare"}
        with self._commands() as run:
            python, version = another_python(run)
            if not python:
                return {"untried": "this worker has no other Python"}
            self._states.clear()
            try:
                make_bare(run, self._location, python)
            except Failed as failure:
                return {"untried": f"Python {version} makes no environment: {failure}"}
        self._use({**self._place("A"), "version": version})  # where workers run that one, this is a good use
        return {"uses": [self._use(self._place("A"))]}

    def _use_state(self, something_installed: bool) -> Tried:
        return {"uses": [self._use(self._place("A"))]} if something_installed else _NOTHING_INSTALLED

    def _dead_holder(self) -> Tried:
        self._states.restore("bare")
        location = self._place("A")
        before = self._states.signs()
        try:
            runner = launch(location)
        except NOT_STARTED as error:
            raise Failed(str(error)) from error
        longest = max(_SECONDS_UNTIL_SEEN, _TIMES_UNTIL_SEEN * (self._first_seconds or 1.0))
        end = time.monotonic() + min(self._limit, longest)
        seen = poll(lambda: self._states.signs() - before, end=end, every=_POLL_SECONDS)
        runner.close(seconds=0)  # SIGKILL to it and to everything that it started
        after = self._use(self._place("A"))
        if not seen and has_answered(after):
            return {"untried": "nothing of an install was seen, so that none was interrupted"}
        return {"uses": [after]}

    def _two_at_once(self) -> Tried:
        self._states.restore("bare")
        first = self._place("A")
        second: BundleLocation = {**first, "logs": os.path.join(self._directory, "logs-2")}
        with ThreadPoolExecutor(2) as threads:
            return {"uses": list(threads.map(self._use, (first, second)))}

    def _forced_fresh(self) -> Tried:
        if self._forced is None:
            return {"untried": "no fresh-env is set for this runner"}
        self._states.restore("good")
        planted = os.path.join(self._states.site, "modelops_planted.py")
        with open(planted, "w", encoding="utf-8") as file:
            file.write("# no package installed this file\n")
        # Under the digest that the environment was made for: only a fresh install has the other code.
        location = self._place("B", digest=self._variants["A"]["digest"], variables=self._forced)
        return {"uses": [self._use({**location, "venv": self._states.venv})], "planted": os.path.exists(planted)}

    def _use(self, location: BundleLocation) -> Use:
        return use(location, _REQUEST, seconds=self._limit)

    def _place(self, variant: str, *, digest: str = "", variables: Mapping[str, str] | None = None) -> BundleLocation:
        """Put a variant where the bundle is; the runner gets another digest, or more variables, if there are any."""
        files = self._variants[variant]
        shutil.rmtree(bundle_of(self._location), ignore_errors=True)
        shutil.copytree(files["source"], bundle_of(self._location))
        return {
            **self._location,
            **files,
            "digest": digest or files["digest"],
            "venv": self._states.of(key_of(digest or files["digest"], files["source"])),
            "variables": {**self._states.variables, **(variables or {})},
        }

    @property
    def _first_seconds(self) -> float:
        return self._first["seconds"] if self._first else 0.0

    @property
    def _remaining(self) -> float:
        return self._end - time.monotonic()

    @property
    def _limit(self) -> float:
        """Seconds that a use gets from now on."""
        if self._first is None:
            return self._remaining * FIRST_SHARE
        return min(max(LEAST_SECONDS, TIMES_THE_FIRST * self._first_seconds), max(1.0, self._remaining))

    def _commands(self) -> Commands:
        return Commands(os.path.join(self._directory, "commands"), max(1.0, self._remaining))


def took_too_long(uses: Sequence[Use], first: float, install_seconds: float) -> bool:
    """Return whether no use was quicker than the first, most of which was an install that none of them needs."""
    seconds = [one["seconds"] for one in uses if has_answered(one)]
    return bool(seconds) and install_seconds > first / 2 and min(seconds) >= first


def _moment(made: Use | None) -> int | None:
    """Return when an answer was made, if a canary made it."""
    answer = canary.read(made["answers"][-1].get("result")) if made and made["answers"] else None
    return answer["moment"] if answer else None


def _with_another_end(digest: str) -> str:
    """Return a digest that differs in the last four digits."""
    return digest[:-4] + "".join(f"{15 - int(digit, 16):x}" for digit in digest[-4:])
