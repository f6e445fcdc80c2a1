"""Frames and messages between pytest and the agent."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_modelops.remote.shared import jsonrpc
from tests.conftest import MUTATIONS
from tests.unit.remote.test_frames import FRAMES, MUTATED, mutate

MESSAGES = st.dictionaries(st.text(), st.integers() | st.text() | st.none() | st.lists(st.text()))


def frame(body: bytes, header: bytes = b"Content-Length: %d\r\n\r\n") -> bytes:
    return header % len(body) + body


@given(st.lists(MESSAGES))
def test_what_is_written_is_read(messages: list[Any]) -> None:
    stream = io.BytesIO()
    writer = jsonrpc.Writer(stream)
    for message in messages:
        writer.send(message)
    stream.seek(0)
    for message in messages:
        assert jsonrpc.read_message(stream) == {"jsonrpc": "2.0", **message}
    assert jsonrpc.read_message(stream) is None


@pytest.mark.parametrize(
    "header",
    [b"Content-Length: %d\n\n", b"content-length:%d\r\n\r\n", b"Content-Type: json\r\nCONTENT-LENGTH: %d\r\n\r\n"],
    ids=["line feeds alone", "lower case", "another header before it"],
)
def test_headers_may_be_written_in_other_ways(header: bytes) -> None:
    assert jsonrpc.read_message(io.BytesIO(frame(b"{}", header))) == {}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"hello\r\n\r\n", "not a header: b'hello"),
        (b"Content-Length: many\r\n\r\n", "not a header"),
        (b"Content-Length: 10\r\n", "ended inside a header"),
        (b"Content-Length: 10\r\n\r\n{}", "after 2 of 10 bytes"),
        (b"Content-Length: " + b"9" * 18 + b"\r\n\r\n{}", "not a header"),
        (frame(b"{"), "not a JSON-RPC message"),
        pytest.param(frame(b"[" * 100_000), "not a JSON-RPC message", id="nested too deep"),
        (b"Colon: but no length\r\n\r\n", "without Content-Length"),
        (frame(b"[1]"), "not a JSON-RPC message"),
    ],
)
def test_what_is_no_frame_is_quoted(data: bytes, text: str) -> None:
    with pytest.raises(jsonrpc.BrokenFrame, match=text):
        jsonrpc.read_message(io.BytesIO(data))


@given(st.binary())
def test_garbage_never_passes_for_a_message(data: bytes) -> None:
    try:
        message = jsonrpc.read_message(io.BytesIO(data))
    except (jsonrpc.BrokenFrame, json.JSONDecodeError, UnicodeDecodeError):
        return
    assert message is None or b"ontent-" in data


@pytest.mark.timeout(300)
@settings(max_examples=MUTATIONS)
@given(st.lists(FRAMES, max_size=5), MUTATED)
def test_a_mutated_stream_is_read_to_its_end_or_broken(
    frames: list[bytes], mutations: list[tuple[int, int, bytes]]
) -> None:
    stream = io.BytesIO(mutate(b"".join(frames), mutations))
    try:
        while (message := jsonrpc.read_message(stream)) is not None:
            assert isinstance(message, dict)
    except jsonrpc.BrokenFrame as error:
        assert str(error)  # noqa: PT017 - every other error is a failure
