"""What the connection to an engine depends on."""

from __future__ import annotations

import os
import threading

import pytest
import requests

from pytest_modelops.backends.docker.engine import read_proxies_once

URL = "http://engine:2375"


def test_a_session_is_used_in_threads_while_pytest_removes_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    session = requests.Session()
    read_proxies_once(session, URL)
    monkeypatch.setenv("HTTP_PROXY", "http://later:3128")
    over = threading.Event()

    def set_and_remove() -> None:
        while not over.is_set():
            os.environ["MODELOPS_RUNNING"] = "1"
            del os.environ["MODELOPS_RUNNING"]

    thread = threading.Thread(target=set_and_remove)
    thread.start()
    try:
        for _ in range(300):
            merged = session.merge_environment_settings(URL, {}, None, None, None)
    finally:
        over.set()
        thread.join()
    assert merged["proxies"]["http"] == "http://proxy:3128"
