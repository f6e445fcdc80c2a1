"""One life of a runner that is asked for a canary. Python 3.9 and up."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ..shared.bundle_messages import BundleLocation
from ..shared.canary_messages import Use
from .location import NOT_STARTED, launch
from .one_shot import OneShot

_SHUTDOWN_SECONDS = 3.0


def use(location: BundleLocation, request: Mapping[str, object], *, seconds: float, times: int = 1) -> Use:
    """Start a runner, await its handshake, have it execute a request so many times, and end it.

    A one-shot runner has no handshake, and a process for each request.

    Args:
        seconds: for all of it, apart from the end.
    """
    began = time.monotonic()
    made: Use = {
        "ready": {"result": None, "outside": ""},
        "answers": [],
        "end": {},
        "digest": location["digest"],
        "given": round(seconds, 1),
        "seconds": 0.0,
    }
    try:
        runner = launch(location)
    except NOT_STARTED as error:
        return {**made, "ready": {"unstarted": str(error), "cause": None, "last": [], "outside": ""}}
    try:
        if not isinstance(runner, OneShot):
            made["ready"] = runner.call("ready", {}, seconds)
        while "result" in [made["ready"], *made["answers"]][-1] and len(made["answers"]) < times:
            made["answers"].append(runner.call("execute", request, seconds - (time.monotonic() - began)))
        made["seconds"] = round(time.monotonic() - began, 3)
    finally:
        made["end"] = runner.close(seconds=_SHUTDOWN_SECONDS if has_answered(made) else 0)
    return made


def has_answered(made: Use) -> bool:
    """Return whether the runner answered what it was asked last."""
    return bool(made["answers"]) and "result" in made["answers"][-1]
