"""What was seen when a deadline had passed: for the message, the report and the files in the cell's directory."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pytest_modelops.cluster.agent import Call
from pytest_modelops.cluster.culprit import Evidence
from pytest_modelops.config.variables import Secrets

_TASKS = 10
"""How many tasks the report shows; the files have more."""


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What was seen when a deadline had passed.

    Attributes:
        cause: what hangs and why, for people.
        seconds: that it took to find out.
        calls: what the agent was asked last.
    """

    cause: str
    evidence: Evidence
    calls: Sequence[Call]
    seconds: float

    @property
    def stacks(self) -> str:
        """Where each process stands; idle nannies are left out."""
        shown = (one for one in self.evidence.processes if not (one.name.startswith("nanny of ") and one.idle))
        return "\n".join(line for one in shown for line in one.shown)

    @property
    def figures(self) -> Mapping[str, object]:
        """What the report shows."""
        view = self.evidence.scheduler
        return {
            "cause": self.cause,
            "processes": [
                {"name": one.name, "pid": one.pid, "state": one.state, **self._of_worker(one.name)}
                for one in self.evidence.processes
            ],
            "counts": view["counts"] if view else {},
            "tasks": [
                {
                    "key": task["key"],
                    "state": task["state"],
                    "worker": self.evidence.names.get(task["worker"], task["worker"]),
                    "waits_for": task["waits_for"],
                }
                for task in (view["pending"][:_TASKS] if view else ())
            ],
        }

    def _of_worker(self, name: str) -> Mapping[str, object]:
        """What is known of a worker; empty for another process."""
        entries = self.evidence.scheduler["workers"].values() if self.evidence.scheduler else ()
        known: dict[str, object] = {}
        for entry in entries:
            if entry["name"] == name:
                known = {"memory": entry["memory"], "last_seen": entry["last_seen"], "tasks": entry["tasks"]}
        if name in self.evidence.deaths:
            known["deaths"] = list(self.evidence.deaths[name])
        return known

    def write(self, directory: Path, secrets: Secrets) -> None:
        """Write `diagnosis.txt`, `diagnosis.json` and the whole stacks of each process to a new directory."""
        (directory / "stacks").mkdir(parents=True)
        evidence = self.evidence
        plain = {
            **self.figures,
            "seconds": round(self.seconds, 3),
            "asked": {**evidence.asked, "names": dict(evidence.names)},
            "calls": [dataclasses.asdict(call) for call in self.calls],
        }
        (directory / "diagnosis.json").write_text(json.dumps(secrets.hide_in(plain), indent=2) + "\n", encoding="utf-8")
        parts = [self.cause, *filter(None, self._text()), f"Where each process stands:\n{self.stacks}"]
        (directory / "diagnosis.txt").write_text(secrets.hide("\n\n".join(parts)) + "\n", encoding="utf-8")
        for one in evidence.processes:
            (directory / "stacks" / f"{one.name}.txt").write_text(secrets.hide(one.dump), encoding="utf-8")

    def _text(self) -> Iterator[str]:
        view = self.evidence.scheduler
        if view is None:
            yield f"The scheduler was asked: {self.evidence.asked.get('silent', 'not at all')}"
        else:
            tasks = (f"{task['key']}: {task['state']} {task['waits_for'] or ''}" for task in view["pending"])
            yield _section(f"Tasks by state: {view['counts']}", tasks)
            yield _section("The scheduler's story of the first ones:", view["story"])
        for name, worker in self.evidence.workers.items():
            deaths = ", ".join(self.evidence.deaths.get(name) or ["none"])
            yield f"{name} uses {worker['memory'] / 2**20:.0f} MiB; deaths since the check began: {deaths}"
            yield _section(f"Tasks of {name}:", (f"{key}: {state}" for key, state in worker["tasks"].items()))
            frames = (line for frames in worker["stacks"].values() for frame in frames for line in frame.splitlines())
            yield _section(f"Call stacks of {name}:", frames)
            yield _section(f"The story that {name} has of them:", worker["story"])
        yield _section("What the agent was asked last:", map(str, self.calls))


def _section(title: str, lines: Iterable[str]) -> str:
    """Return lines below a title; nothing if there are none."""
    return "\n".join([title, *(f"    {line}".rstrip() for line in found)]) if (found := list(lines)) else ""
