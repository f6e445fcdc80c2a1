"""Images of a deployment's workers, from a program in the place of `kubectl`."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.checks import attached_images
from pytest_modelops.config.attach import KubernetesSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, TimedOut
from tests.unit.checks.test_attached import facts, observed, run_versions

SETTINGS = KubernetesSettings(namespace="dask")
IMAGE = "registry.example/app:1"


def pod(address: str, digest: str, container: str = "worker") -> dict[str, Any]:
    status = {"name": container, "image": IMAGE, "imageID": f"registry.example/app@sha256:{digest}"}
    sidecar = {"name": "proxy", "image": "proxy:1", "imageID": "proxy@sha256:0"}
    return {"status": {"podIP": address, "containerStatuses": [sidecar, status]}}


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a program that does this, and writes its arguments to a file; return that file."""

    def make(does: str) -> Path:
        program = tmp_path / "kubectl"
        program.write_text("#!/bin/sh\n" + f'echo "$@" > {tmp_path}/arguments\n' + textwrap.dedent(does))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        return tmp_path / "arguments"

    return make


def workers(*addresses: str) -> Any:
    found = observed(*(facts() for _ in addresses))
    found["workers"] = dict(zip(addresses, found["workers"].values(), strict=True))
    return found


def pods(tmp_path: Path, *found: dict[str, Any]) -> str:
    (tmp_path / "pods.json").write_text(json.dumps({"items": found}))
    return f"cat {tmp_path}/pods.json"


def test_workers_with_another_image_under_the_same_tag(tmp_path: Path, kubectl: Any) -> None:
    nothing: dict[str, Any] = {"status": {}}  # a pod that is not scheduled yet
    arguments = kubectl(
        pods(
            tmp_path, pod("10.0.0.1", "aa"), pod("10.0.0.2", "bb"), pod("10.0.0.3", "aa"), pod("fd00::1", "aa"), nothing
        )
    )
    there = workers(
        "tcp://10.0.0.1:40001", "tls://10.0.0.2:40002", "tcp://10.0.0.3:1", "tcp://[fd00::1]:2", "tcp://9.9.9.9:1"
    )
    images = attached_images.of_workers(there, dataclasses.replace(SETTINGS, context="prod"), Deadline(20))
    assert images == {
        **dict.fromkeys(("w0", "w2", "w3"), f"{IMAGE}@sha256:aa"),
        "w1": f"{IMAGE}@sha256:bb",
        "w4": "unknown",
    }
    assert list(attached_images.differences(images)) == [
        f"w1: not the image of most workers: {IMAGE}@sha256:bb (most: {IMAGE}@sha256:aa)"
    ]
    assert arguments.read_text().split() == [
        *("--context", "prod", "--namespace", "dask"),
        *("get", "pods", "--selector", "dask.org/component=worker", "--output", "json"),
    ]


def test_the_same_image_everywhere_is_no_difference(tmp_path: Path, kubectl: Any) -> None:
    kubectl(pods(tmp_path, pod("10.0.0.1", "aa"), pod("10.0.0.2", "aa")))
    images = attached_images.of_workers(workers("tcp://10.0.0.1:1", "tcp://10.0.0.2:1"), SETTINGS, Deadline(20))
    assert not list(attached_images.differences(images))


def test_versions_fails_for_it(tmp_path: Path, kubectl: Any) -> None:
    kubectl(pods(tmp_path, pod("10.0.0.1", "aa"), pod("10.0.0.2", "aa"), pod("10.0.0.3", "bb")))
    two, three = (workers(*(f"tcp://10.0.0.{n + 1}:1" for n in range(count))) for count in (2, 3))
    assert run_versions(two, kubernetes=SETTINGS) == {"images": dict.fromkeys(("w0", "w1"), f"{IMAGE}@sha256:aa")}
    with pytest.raises(CheckFailed, match="w2: not the image of most workers"):
        run_versions(three, kubernetes=SETTINGS)


def test_a_selector_or_a_container_that_finds_no_worker(tmp_path: Path, kubectl: Any) -> None:
    kubectl(pods(tmp_path, pod("10.0.0.1", "aa", container="dask")))
    images = attached_images.of_workers(workers("tcp://10.0.0.1:1"), SETTINGS, Deadline(20))
    [problem] = attached_images.differences(images)
    assert "no worker is in one of the pods" in problem


@pytest.mark.parametrize(
    ("does", "error", "said"),
    [
        ("echo 'pods is forbidden' >&2; exit 1", CheckFailed, "exited with code 1: pods is forbidden"),
        ("echo no resources", CheckFailed, "printed something else than JSON"),
        ("exec sleep 60", TimedOut, "did not end within 1 s"),
    ],
)
def test_a_kubectl_that_does_not_answer(kubectl: Any, does: str, error: type[Exception], said: str) -> None:
    kubectl(does)
    with pytest.raises(error, match=said):
        attached_images.of_workers(workers("tcp://10.0.0.1:1"), SETTINGS, Deadline(1 if error is TimedOut else 20))


def test_no_kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CheckFailed, match="kubectl could not be run"):
        attached_images.of_workers(workers("tcp://10.0.0.1:1"), SETTINGS, Deadline(20))
