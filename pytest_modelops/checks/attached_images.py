"""Which image each worker of a deployment runs, as Kubernetes says it: a tag does not tell, a digest does."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping

from pytest_modelops.checks.attached_looks import listed
from pytest_modelops.config.attach import KubernetesSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, TimedOut
from pytest_modelops.remote.shared.facts import ClusterFacts

_UNKNOWN = "unknown"
"""Of a worker that is in none of the pods."""


def of_workers(observed: ClusterFacts, settings: KubernetesSettings, deadline: Deadline) -> Mapping[str, str]:
    """Return the image of each worker, with its digest where Kubernetes knows it, by the worker's name.

    Raises:
        CheckFailed: `kubectl` is not there, or failed; the message quotes it.
        TimedOut: it did not end.
    """
    images = _images_of_pods(settings, deadline)
    return {
        facts["settings"]["name"]: images.get(address.rpartition("//")[2].rpartition(":")[0].strip("[]"), _UNKNOWN)
        for address, facts in observed["workers"].items()
    }


def differences(images: Mapping[str, str]) -> Iterator[str]:
    """Yield which workers run another image than most."""
    counts = Counter(image for image in images.values() if image != _UNKNOWN)
    if not counts:
        yield "no worker is in one of the pods that [tool.modelops.attach.kubernetes] selects"
        return
    [(most, _)] = counts.most_common(1)
    others: dict[str, list[str]] = {}
    for name, image in images.items():
        if image not in {most, _UNKNOWN}:
            others.setdefault(image, []).append(name)
    for image, names in others.items():
        yield f"{listed(names)}: not the image of most workers: {image} (most: {most})"


def _images_of_pods(settings: KubernetesSettings, deadline: Deadline) -> Mapping[str, str]:
    """Return the image of each pod by its address."""
    command = [
        "kubectl",
        *(("--context", settings.context) if settings.context else ()),
        *(("--namespace", settings.namespace) if settings.namespace else ()),
        *("get", "pods", "--selector", settings.selector, "--output", "json"),
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=deadline.remaining, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise CheckFailed(
            f"the images of the deployment's pods are not known: kubectl could not be run ({error.strerror}); install "
            "it, or remove [tool.modelops.attach.kubernetes]"
        ) from None
    except subprocess.TimeoutExpired:
        raise TimedOut(f"`{' '.join(command)}` did not end within {deadline.seconds:g} s") from None
    if done.returncode != 0:
        raise CheckFailed(f"`{' '.join(command)}` exited with code {done.returncode}: {done.stderr.strip()}")
    try:
        pods = json.loads(done.stdout)["items"]
    except ValueError as error:
        raise CheckFailed(f"`{' '.join(command)}` printed something else than JSON: {error}") from None
    found: dict[str, str] = {}
    for pod in pods:
        containers = pod.get("status", {}).get("containerStatuses", [])
        ours = next((one for one in containers if one["name"] == settings.container), None)
        if ours is None or not pod["status"].get("podIP"):
            continue
        image, _, digest = ours.get("imageID", "").rpartition("@")
        found[pod["status"]["podIP"]] = f"{ours['image']}@{digest}" if image else ours["image"]
    return found
