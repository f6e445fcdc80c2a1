"""A runner that installs by itself uses an environment again, in all the ways that are known to go wrong.

What is done is done on one worker, in directories of its own; what came of it is reported as plain data and
judged by pytest
(`checks/reuse_words.py`). A *use* is: bring the environment into a state, start the runner, await `ready`, have it
execute the canary's entry point, end it. Which code answered shows in the answer: the bundle comes in two variants.

    reuse/bundle      the variant that is in use, always at the same path
    reuse/live/venv   the environment, always at the same path; beside it HOME and the temporary directory, so that all
                      that a runner may remember is saved and brought back together
    reuse/saved/…     copies of `live`: bare, and after a good use

Standard library only, Python 3.9 and up.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..shared.bundle_messages import BundleLocation
from .environment import Commands, Failed, make_bare
from .location import NOT_STARTED, bundle_of, launch, logs_of
from .states import States, another_python

CANARY = "modelops.canary/which"
"""The entry point that the variants answer by themselves; written as every other, since runners take them apart."""
MOMENT = "moment"
"""The artifact of the canary that no two executions have in common."""
FIRST_SHARE = 0.5
"""So much of all the time is the first use's, which nobody can guess."""
LEAST_SECONDS, TIMES_THE_FIRST = 10.0, 5.0
"""Every other use gets so many times what the first took, and at least so many seconds: then it hangs."""
_TIMES_UNTIL_SEEN = 2.0
LATE_SECONDS, LATE_TIMES_THE_FIRST = 1.0, 2.0
"""With less than that left, a canary is not begun: its end would tell of the deadline, and not of the runner."""
_SHUTDOWN_SECONDS = 3.0
_POLL_SECONDS = 0.002
_MOST_NAMES = 5

Answer = dict[str, Any]
"""What came of a canary: `uses`, in order, or `untried`, why there is nothing to try here; `seconds`; and

- `late`: there was no time left for it; `failed`: what stood in the way, as `Failed.to_plain`;
- of `second-use`: `rewritten`, installed files that were written again; `files`, how many were looked at; `kept`,
  whether its answer is the first use's, to the moment at which that was made; `first_seconds`, what the first use took,
  and `install_seconds`, after how many of them its last package was there, 0 if it installed none;
- of `another-python`: `other`, its version; of `forced-fresh`: `planted`, whether the foreign file is still there;
- of `dead-holder`: `seen`, what was there of the install when the runner was killed.
"""


_NOTHING_INSTALLED: Answer = {"untried": "the bundle installs nothing"}


class Reuse:
    """All canaries, one after the other.

    Args:
        location: the bundle, on this worker.
        variants: `A` and `B`: the `source`, `wheels` and `digest` of each.
        forced: variables that make the runner install whatever there is; `None` if it knows none.
        seconds: for all.
    """

    def __init__(
        self,
        location: BundleLocation,
        *,
        variants: Mapping[str, Mapping[str, str]],
        forced: Mapping[str, str] | None,
        seconds: float,
    ) -> None:
        self._directory = os.path.join(location["directory"], "reuse")
        self._states = States(self._directory)
        self._location: BundleLocation = {**location, "directory": self._directory, "venv": self._states.venv}
        self._variants = variants
        self._forced = forced
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._first_seconds: float | None = None
        self._first_moment = ""
        self._first_began = 0.0
        self._bare: frozenset[str] = frozenset()
        self._canaries: Mapping[str, Callable[[], Answer]] = {
            "first-use": self._first_use,
            "second-use": self._second_use,
            "edited-code": lambda: self._edited(self._variants["B"]["digest"]),
            "common-prefix": lambda: self._edited(_with_another_end(self._variants["A"]["digest"])),
            "another-python": self._another_python,
            "half-made": self._half_made,
            "missing-packages": self._missing_packages,
            "dead-holder": self._dead_holder,
            "two-at-once": self._two_at_once,
            "forced-fresh": self._forced_fresh,
        }

    def run(self) -> dict[str, Any]:
        """Try all, also when one has failed; after a first use that was none, nothing else can be tried.

        Returns:
            `{"canaries": {name: Reported}, "worker": {"python", "version"}, "logs"}`.
        """
        shutil.rmtree(self._directory, ignore_errors=True)
        os.makedirs(self._directory)
        reply: dict[str, Answer] = {}
        for name, perform in self._canaries.items():
            began = time.monotonic()
            if self._remaining < LATE_SECONDS + LATE_TIMES_THE_FIRST * (self._first_seconds or 0.0):
                reply[name] = {"late": True}
            elif name != "first-use" and self._first_seconds is None:
                reply[name] = {"untried": "the first use failed"}
            else:
                try:
                    reply[name] = dict(perform())
                except Failed as failure:
                    reply[name] = {"failed": failure.to_plain()}
            reply[name]["seconds"] = round(time.monotonic() - began, 3)
        self._states.forget()
        shutil.rmtree(bundle_of(self._location), ignore_errors=True)
        version = ".".join(map(str, sys.version_info[:3]))
        return {
            "canaries": reply,
            "worker": {"python": sys.executable, "version": version},
            "logs": logs_of(self._location),
        }

    # The canaries ----------------------------------------------------------------------------------------------------

    def _first_use(self) -> Answer:
        self._states.clear()
        with self._commands() as run:
            make_bare(run, self._location)
        self._states.save("bare")
        self._bare = frozenset(self._states.installed())
        self._first_began = time.time()
        use = self._use("A")
        if _answered(use):
            self._first_seconds = use["seconds"]
            self._first_moment = _moment(use)
        return {"uses": [use]}

    def _second_use(self) -> Answer:
        before = self._states.installed()
        first = self._first_seconds or 0.0
        last = self._states.changed_last(before.keys() - self._bare)
        install_seconds = round(min(max(0.0, last - self._first_began), first), 3) if last else 0.0
        use = self._use("A")
        uses = [use]
        if took_too_long(uses, first, install_seconds) and self._remaining > first + LATE_SECONDS:
            uses.append(self._use("A"))  # a machine may be busy once
        after = self._states.installed()
        rewritten = [path for path in before if after.get(path) != before[path]]
        self._states.save("good")
        kept = bool(self._first_moment) and _moment(use) == self._first_moment
        return {
            "uses": uses,
            "rewritten": rewritten[:_MOST_NAMES],
            "files": len(before),
            "kept": kept,
            "first_seconds": first,
            "install_seconds": install_seconds,
        }

    def _edited(self, digest: str) -> Answer:
        self._states.restore("good")
        return {"uses": [self._use("B", digest)]}

    def _another_python(self) -> Answer:
        with self._commands() as run:
            python, version = another_python(run)
            if not python:
                return {"untried": "this worker has no other Python"}
            self._states.clear()
            try:
                make_bare(run, self._location, python)
            except Failed as failure:
                return {"untried": f"Python {version} makes no environment: {failure}"}
        self._use("A", version=version)  # where workers run that one, this is a good use
        return {"uses": [self._use("A")], "other": version}

    def _half_made(self) -> Answer:
        return {"uses": [self._use("A")]} if self._states.halve() else _NOTHING_INSTALLED

    def _missing_packages(self) -> Answer:
        return {"uses": [self._use("A")]} if self._states.empty() else _NOTHING_INSTALLED

    def _dead_holder(self) -> Answer:
        self._states.restore("bare")
        location = self._place("A")
        before = self._states.signs()
        try:
            runner = launch(location)
        except NOT_STARTED as error:
            raise Failed(str(error)) from error
        # A first use has come to its end after this, unless the machine has become busy.
        end = time.monotonic() + min(self._limit, _TIMES_UNTIL_SEEN * (self._first_seconds or 1.0))
        while not (seen := self._states.signs() - before) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        runner.close(seconds=0)  # SIGKILL to it and to all that it has started
        use = self._use("A")
        if not seen and _answered(use):
            return {"untried": "nothing of an install was seen, so that none was interrupted"}
        return {"uses": [use], "seen": sorted(seen)[:_MOST_NAMES]}

    def _two_at_once(self) -> Answer:
        self._states.restore("bare")
        uses: list[Answer] = [{}, {}]
        location = self._place("A")

        def use(number: int) -> None:
            logs = os.path.join(self._directory, "logs" if number == 0 else "logs-2")
            uses[number] = self._use_location({**location, "logs": logs})

        threads = [threading.Thread(target=use, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {"uses": uses}

    def _forced_fresh(self) -> Answer:
        if self._forced is None:
            return {"untried": "no fresh-env is set for this runner"}
        self._states.restore("good")
        planted = os.path.join(self._states.site, "modelops_planted.py")
        with open(planted, "w", encoding="utf-8") as file:
            file.write("# of nobody\n")
        # Under the digest that the environment was made for: only a fresh install has the other code.
        use = self._use("B", self._variants["A"]["digest"], variables=self._forced)
        return {"uses": [use], "planted": os.path.exists(planted)}

    # A use -----------------------------------------------------------------------------------------------------------

    def _use(
        self,
        variant: str,
        digest: str | None = None,
        *,
        variables: Mapping[str, str] | None = None,
        version: str | None = None,
    ) -> Answer:
        """Start the runner for a variant, under its digest or another.

        Args:
            version: of the Python that the worker pretends to run.
        """
        location = self._place(variant)
        location["digest"] = digest or location["digest"]
        location["variables"] = {**location["variables"], **(variables or {})}
        return self._use_location({**location, "version": version})

    def _place(self, variant: str) -> BundleLocation:
        """Put a variant where the bundle is."""
        shutil.rmtree(bundle_of(self._location), ignore_errors=True)
        shutil.copytree(self._variants[variant]["source"], bundle_of(self._location))
        made = self._variants[variant]
        return {
            **self._location,
            "source": made["source"],
            "wheels": made["wheels"],
            "digest": made["digest"],
            "variables": dict(self._states.variables),
        }

    def _use_location(self, location: BundleLocation) -> Answer:
        """Returns `{"ready": Outcome, "answer": Outcome or None, "end", "digest", "given", "seconds"}`.

        `given` is how many seconds it had, `seconds` how many it took until it had answered.
        """
        given = self._limit
        began = time.monotonic()
        reply: Answer = {"answer": None, "end": {}, "digest": location["digest"], "given": round(given, 1)}
        try:
            runner = launch(location)
        except NOT_STARTED as error:
            unstarted: Answer = {"unstarted": str(error), "cause": None, "last": [], "outside": ""}
            return {**reply, "ready": unstarted, "seconds": 0.0}
        try:
            reply["ready"] = runner.call("ready", {}, given)
            if "result" in reply["ready"]:
                asked = {"entrypoint": CANARY, "params": {}, "seed": 0}
                reply["answer"] = runner.call("execute", asked, given - (time.monotonic() - began))
            reply["seconds"] = round(time.monotonic() - began, 3)
        finally:
            reply["end"] = runner.close(seconds=_SHUTDOWN_SECONDS if _answered(reply) else 0)
        return reply

    @property
    def _remaining(self) -> float:
        return self._end - time.monotonic()

    @property
    def _limit(self) -> float:
        """Seconds that a use gets from now on."""
        if self._first_seconds is None:
            return self._remaining * FIRST_SHARE
        return min(max(LEAST_SECONDS, TIMES_THE_FIRST * self._first_seconds), max(1.0, self._remaining))

    def _commands(self) -> Commands:
        return Commands(os.path.join(self._directory, "commands"), max(1.0, self._remaining))


def took_too_long(uses: Sequence[Answer], first: float, install_seconds: float) -> bool:
    """Whether no use was quicker than the first, most of which was an install that none of them needs."""
    seconds = [use["seconds"] for use in uses if _answered(use)]
    return bool(seconds) and install_seconds > first / 2 and min(seconds) >= first


def _answered(use: Answer) -> bool:
    return use["answer"] is not None and "result" in use["answer"]


def _moment(use: Answer) -> str:
    """When an answer was made; empty where it does not say."""
    result = use["answer"]["result"] if _answered(use) else {}
    return str(result.get(MOMENT, "")) if isinstance(result, dict) else ""


def _with_another_end(digest: str) -> str:
    """A digest that differs in the last four digits."""
    return digest[:-4] + "".join(f"{15 - int(digit, 16):x}" for digit in digest[-4:])
