"""Writes frames byte by byte, several at once, with LF and headers in odd case; echoes large params."""

import base64
import json
import sys
from typing import Any

from answering import requests, result

HEADERS = (
    b"content-LENGTH:%d\n\n",
    b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nCONTENT-length: \t%d \r\n\r\n",
    b"Content-Length: %d\ncontent-type: json\n\n",
)


def send(number: int, message: dict[str, Any]) -> None:
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    frame = HEADERS[number % len(HEADERS)] % len(body) + body
    for at in range(60):
        sys.stdout.buffer.write(frame[at : at + 1])
        sys.stdout.buffer.flush()
    sys.stdout.buffer.write(frame[60:])
    sys.stdout.buffer.flush()


for number, request in enumerate(requests()):
    answer = result(request["method"])
    if request["method"] == "execute":
        params = request["params"]
        answer = params
        if "entrypoint" in params:
            answer = {"echo.json": base64.b64encode(json.dumps(params["params"]).encode()).decode()}
    send(number, {"id": request["id"], "result": answer})
