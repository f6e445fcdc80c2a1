"""Whether a replicate that Dask calls finished has failed: by its runner, or by what its artifacts hold."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterator, Mapping

from pytest_modelops.checks.bundle_messages import Fault, fault_of, polluted, shown
from pytest_modelops.remote.shared.bundle_messages import ArtifactContent, ReplicateSummary


def faults_of_replicate(
    one: ReplicateSummary, failed_when: Collection[str], *, seconds: float, may_be_empty: Collection[str] = ()
) -> list[Fault]:
    """Return why a replicate has failed; empty if it has not.

    Args:
        failed_when: of `error` (the runner could not run it), `outputs.error` (an artifact is named `error`, with any
            ending, or is a JSON object with an `error`), `outputs.empty` (an artifact holds nothing, there is none, or
            the runner did not answer), and `ARTIFACT:PATH` (that place in an artifact's JSON holds something).
        seconds: the deadline.
        may_be_empty: patterns of artifacts that may hold nothing.
    """
    found = []
    error, outputs, contents = one["error"], one["outputs"], one.get("contents", {})
    if one["outside"]:  # it may be the reason for the rest
        found.append(polluted(one["outside"], "execute", one["protocol"]))
    if error is not None and not failed_when_is_elsewhere(failed_when):
        found.append(fault_of(error, "execute", seconds=seconds))
    if "outputs.error" in failed_when:
        for name, artifact in outputs.items():
            if name.partition(".")[0].lower() == "error":
                found.append(Fault(head=f"it returned an artifact named {name!r}: {shown(artifact['head'])}"))
            elif said := contents[name]["error"]:
                found.append(Fault(head=f"its artifact {name!r} holds an error: {said}"))
    if error is None:
        found += [Fault(head=head) for head in _at_places(contents, failed_when)]
        if "outputs.empty" in failed_when:
            found += [Fault(head=head) for head in _empty(contents, may_be_empty)]
    return found


def failed_when_is_elsewhere(failed_when: Collection[str]) -> bool:
    """Return whether a runner that failed is let pass: only what artifacts hold counts, and it has returned none."""
    return not {"error", "outputs.empty"} & {*failed_when}


def _empty(contents: Mapping[str, ArtifactContent], may_be_empty: Collection[str]) -> Iterator[str]:
    empty = {name: content["empty"] for name, content in contents.items() if content["empty"]}
    if len(empty) == len(contents):
        yield "it returned no artifact that holds anything"
        return
    for name, why in empty.items():
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in may_be_empty):
            yield (
                f"its artifact {name!r} is empty ({why}), others are not; if it may be, add it to "
                "[tool.modelops.aggregation] may-be-empty"
            )


def _at_places(contents: Mapping[str, ArtifactContent], failed_when: Collection[str]) -> Iterator[str]:
    """Yield what is at the places that have to hold nothing, and the places that nobody can look at."""
    for condition in failed_when:
        pattern, colon, path = condition.rpartition(":")
        if not colon:
            continue
        for name, content in contents.items():
            if (said := content["found"].get(condition)) is None:
                continue
            if said == "not JSON":
                yield f"its artifact {name!r} is not JSON, and failed-when looks at {path!r} in it"
            else:
                yield f"its artifact {name!r} holds {said}{f' at {path!r}' if path else ''}, and failed-when names it"
        if path and pattern not in contents and not re.search(r"[*?[]", pattern):
            names = ", ".join(map(repr, contents)) or "none"
            yield (
                f"failed-when names the artifact {pattern!r}, which it did not return (it returned {names}); if not "
                f'every result has it, write a pattern: "{pattern}*:{path}"'
            )
