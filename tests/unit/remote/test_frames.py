"""What a runner writes to stdout, taken apart: every message is found, and every other byte is reported of."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_modelops.remote.shared.frames import MOST_OUTSIDE, Splitter
from tests.conftest import MUTATIONS

READY = {"jsonrpc": "2.0", "id": 1, "result": {"ready": True}}
OTHER = {"jsonrpc": "2.0", "id": 2, "result": "zwölf"}


def frame(message: object, header: bytes = b"Content-Length: %d\r\n\r\n") -> bytes:
    body = message if isinstance(message, bytes) else json.dumps(message, ensure_ascii=False).encode()
    return header % len(body) + body


def split(*chunks: bytes) -> tuple[list[dict[str, Any]], bytes, Splitter]:
    """Messages, what was outside, and the splitter, of a stream that came in these chunks and then ended."""
    splitter = Splitter()
    messages = [message for chunk in chunks for message in splitter.feed(chunk)]
    splitter.finish()
    return messages, bytes(splitter.outside), splitter


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: %d\r\n\r\n",
        b"Content-Length: %d\n\n",
        b"content-length:%d\r\n\r\n",
        b"CONTENT-Length: \t%d  \r\n\r\n",
        b"Content-Length: %d\r\nContent-Type: application/vscode-jsonrpc; charset=utf-8\r\n\r\n",
        b"Content-Type: json\nContent-Length: %d\n\n",
        b"content-TYPE: json\r\nContent-Length: %d\r\ncontent-type: json\r\n\r\n",
    ],
)
def test_a_frame_is_a_frame_wherever_it_is_cut(header: bytes) -> None:
    data = frame(READY, header) + frame(OTHER, header)
    assert split(data)[:2] == ([READY, OTHER], b"")
    for cut in range(len(data)):
        assert split(data[:cut], data[cut:])[:2] == ([READY, OTHER], b"")
    assert split(*(data[at : at + 1] for at in range(len(data))))[:2] == ([READY, OTHER], b"")


def test_a_message_is_given_as_soon_as_its_last_byte_is_there() -> None:
    splitter = Splitter()
    data = frame(READY)
    assert splitter.feed(data[:-1]) == []
    assert splitter.feed(data[-1:] + frame(OTHER)[:5]) == [READY]
    assert splitter.feed(frame(OTHER)[5:]) == [OTHER]


@pytest.mark.parametrize(
    "junk",
    [
        b"hello\n",
        b"Loading: model\n",
        b"Loading: model\r\n",
        b"Content-Length: many\n",
        b"Content-Length: -1\n",
        b"Content-Length:\r\n",
        b"\n",
        b"\xff\x00\n",
        b'{"jsonrpc": "2.0", "id": 1, "result": 1}\n',
    ],
)
def test_a_line_that_is_no_header_is_outside_wherever_it_stands(junk: bytes) -> None:
    messages, outside, splitter = split(junk + frame(READY) + junk + frame(OTHER) + junk)
    assert messages == [READY, OTHER]
    assert outside == 3 * junk
    assert splitter.outside_bytes == 3 * len(junk)
    assert splitter.broken == 0


@pytest.mark.parametrize(
    ("line", "unframed"),
    [
        (b'{"jsonrpc": "2.0", "id": null, "error": {"code": -32700}}', 1),
        (b'{"jsonrpc": "2.0", "method": "log"}', 1),
        (b' {"id": 0, "result": {}}\r', 1),
        (b'{"id": 0, "level": "info", "message": "result"}', 0),
        (b'{"result": 1}', 0),
        (b'{"jsonrpc": ', 0),
        (b'["jsonrpc"]', 0),
        (b"Loading: {jsonrpc}", 0),
    ],
)
def test_a_message_without_a_frame_is_counted(line: bytes, unframed: int) -> None:
    for end in (b"", b"\n"):
        splitter = Splitter()
        assert splitter.feed(line + end) == []
        assert splitter.unframed == unframed
    assert split(frame(json.loads(line) if unframed else READY))[2].unframed == 0, "in a frame it is none"


def test_what_was_written_without_a_newline_before_a_frame_does_not_hide_it() -> None:
    messages, outside, _ = split(b"12%" + frame(READY) + b"100%" + frame(OTHER) + b"done")
    assert messages == [READY, OTHER]
    assert outside == b"12%100%done"


def test_a_line_inside_a_header_is_outside_and_the_frame_is_a_frame() -> None:
    messages, outside, _ = split(frame(READY, b"Content-Length: %d\r\nLoading: model\r\n\r\n"))
    assert (messages, outside) == ([READY], b"Loading: model\r\n")


def test_of_two_lengths_the_second_counts_and_the_first_is_outside() -> None:
    messages, outside, _ = split(b"Content-Length: 7\n" + frame(READY) + frame(OTHER))
    assert (messages, outside) == ([READY, OTHER], b"Content-Length: 7\n")


def test_a_content_type_that_no_length_follows_is_outside() -> None:
    messages, outside, _ = split(b"Content-Type: text/html\n\n<p>\n" + frame(READY))
    assert (messages, outside) == ([READY], b"Content-Type: text/html\n\n<p>\n")


def test_an_echo_inside_a_body_breaks_it_and_what_follows_is_reported() -> None:
    body = json.dumps(READY).encode()
    data = b"Content-Length: %d\r\n\r\n" % len(body) + body[:10] + b"echo\n" + body[10:] + b"\n"
    messages, outside, splitter = split(data + frame(OTHER))
    assert messages == [OTHER]
    assert splitter.broken == 1
    assert outside == body[:10] + b"echo\n" + body[10:] + b"\n"


@pytest.mark.parametrize(
    "body",
    [
        b"ready",
        b"[1]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"",
        b"{",
        pytest.param(b"[" * 100_000, id="nested too deep"),
        pytest.param(b'{"id": ' + b"1" * 10_000 + b"}", id="a number too long"),
    ],
)
def test_a_body_that_is_no_json_object_is_broken_and_reported(body: bytes) -> None:
    messages, outside, splitter = split(frame(body) + frame(OTHER))
    assert messages == [OTHER]
    assert splitter.broken == 1
    assert (outside, splitter.outside_bytes) == (body[:MOST_OUTSIDE], len(body))


def test_a_length_that_no_frame_has_is_outside() -> None:
    line = b"Content-Length: " + b"9" * 5000 + b"\n"
    assert split(line + frame(READY))[:2] == ([READY], line)


@pytest.mark.parametrize(
    "end",
    [
        b"no newline",
        b"Content-Length: 100\r\n\r\n{",
        b"Content-Length: 100\r\n\r\n",
        b"Content-Length: 100\r\n",
        b"Content-Leng",
        b"Content-Type: json\r\n",
    ],
)
def test_what_the_end_of_the_stream_cuts_off_is_outside(end: bytes) -> None:
    messages, outside, _ = split(frame(READY) + end)
    assert (messages, outside) == ([READY], end)


def test_a_large_message_arrives() -> None:
    large = {"id": 1, "result": "x" * (16 << 20)}
    data = frame(large)
    chunks = [data[at : at + (1 << 16)] for at in range(0, len(data), 1 << 16)]
    messages, outside, _ = split(b"before\n", *chunks, b"after")
    assert messages == [large]
    assert outside == b"before\nafter"


def test_of_very_much_outside_the_beginning_is_kept_and_the_rest_is_counted() -> None:
    line = b"x" * 999 + b"\n"
    messages, outside, splitter = split(*[line] * 200, frame(READY))
    assert messages == [READY]
    assert outside == (line * 200)[:MOST_OUTSIDE]
    assert splitter.outside_bytes == 200_000


MESSAGES = st.dictionaries(st.text(), st.integers() | st.text() | st.none() | st.lists(st.text()))
# No header without a "c" in it.
JUNK = st.binary(max_size=30).map(lambda data: data.translate(None, b"cC\n") + b"\n")


@settings(max_examples=MUTATIONS)
@given(st.lists(MESSAGES | JUNK), st.lists(st.integers(min_value=0, max_value=400)))
def test_messages_and_junk_come_back_as_they_were_wherever_they_are_cut(
    pieces: list[dict[str, Any] | bytes], cuts: list[int]
) -> None:
    data = b"".join(piece if isinstance(piece, bytes) else frame(piece) for piece in pieces)
    bounds = [0, *sorted({min(cut, len(data)) for cut in cuts}), len(data)]
    messages, outside, splitter = split(*(data[start:end] for start, end in itertools.pairwise(bounds)))
    assert messages == [piece for piece in pieces if isinstance(piece, dict)]
    assert outside == b"".join(piece for piece in pieces if isinstance(piece, bytes))
    assert splitter.broken == 0


HEADERS = st.sampled_from(
    [b"Content-Length: %d\r\n\r\n", b"content-length:%d\n\n", b"Content-Type: json\r\nContent-Length: %d\r\n\r\n"]
)
FRAMES = st.builds(frame, MESSAGES, HEADERS)
PIECES = st.sampled_from(
    [b"", b"\n", b"\r\n\r\n", b"0", b"9", b"-", b":", b"}", b'"', b"\xff", b"Content-Length: 3\r\n\r\n", b"[" * 2000]
)
MUTATED = st.lists(st.tuples(st.integers(0, 1 << 12), st.integers(0, 12), PIECES), min_size=1, max_size=6)


def mutate(data: bytes, mutations: list[tuple[int, int, bytes]]) -> bytes:
    """Replace some bytes, which may be none, by others, at each of these places."""
    for position, length, piece in mutations:
        at = position % (len(data) + 1)
        data = data[:at] + piece + data[at + length :]
    return data


@pytest.mark.timeout(300)
@settings(max_examples=MUTATIONS)
@given(st.lists(FRAMES, max_size=5), MUTATED, st.lists(st.integers(0, 400), max_size=5))
def test_a_mutated_stream_is_taken_apart_the_same_wherever_it_is_cut(
    frames: list[bytes], mutations: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    data = mutate(b"".join(frames), mutations)
    messages, outside, splitter = split(data)
    bounds = [0, *sorted({min(cut, len(data)) for cut in cuts}), len(data)]
    again = split(*(data[start:end] for start, end in itertools.pairwise(bounds)))
    assert again[:2] == (messages, outside)
    assert again[2].outside_bytes == splitter.outside_bytes
    assert splitter.outside_bytes <= len(data)
    if not messages and not splitter.broken:
        assert splitter.outside_bytes == len(data)


@pytest.mark.timeout(300)
@settings(max_examples=MUTATIONS)
@given(st.lists(FRAMES, max_size=5), MUTATED)
def test_after_a_mutated_stream_a_frame_is_a_frame_again(
    frames: list[bytes], mutations: list[tuple[int, int, bytes]]
) -> None:
    data = mutate(b"".join(frames), mutations)
    _, _, splitter = split(data)
    assert splitter.feed(frame(READY)) == [READY]
