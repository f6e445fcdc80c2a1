"""Ryuk, testcontainers' container that removes what a dead pytest leaves, if its image can be pulled.

Our own sweep at the next start does the same; Ryuk does it at once, even if there is no next start.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import requests
import urllib3

from pytest_modelops.backends.docker.engine import Engine, ImageNotFound
from pytest_modelops.backends.docker.images import describe, pull
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import TimedOut
from pytest_modelops.storage.files import read_json, write_json

_PULL_SECONDS = 120.0
_ASK_AGAIN_AFTER = 24 * 3600.0
"""How long not to ask a registry again that could not be reached or did not have the image."""


def labels(engine: Engine, memory: Path) -> Mapping[str, str]:
    """Start Ryuk, and return the labels that it looks for; none if it is disabled or cannot be started.

    Args:
        memory: file that remembers which images could not be pulled, and when.
    """
    from testcontainers.core.config import testcontainers_config

    if testcontainers_config.ryuk_disabled or not _has_image(engine, testcontainers_config.ryuk_image, memory):
        return {}
    import docker
    from testcontainers.core.container import Reaper
    from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID

    try:
        Reaper.get_instance()
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError, RuntimeError, TimeoutError):
        Reaper.delete_instance()
        return {}
    return {LABEL_SESSION_ID: SESSION_ID}


def _has_image(engine: Engine, image: str, memory: Path) -> bool:
    """Return whether the engine has Ryuk's image, after trying to pull it."""
    try:
        describe(engine, image)
    except ImageNotFound:
        pass
    except requests.exceptions.RequestException:  # the engine fails; the next call that is needed reports it
        return False
    else:
        return True
    remembered = read_json(memory) or {}
    if time.time() - remembered.get(f"{engine.address} {image}", 0) < _ASK_AGAIN_AFTER:
        return False
    try:
        if not pull(engine, image, Deadline(_PULL_SECONDS)):
            return True
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, TimedOut):  # APIError is one of them
        pass
    write_json(memory, {**remembered, f"{engine.address} {image}": time.time()})
    return False
