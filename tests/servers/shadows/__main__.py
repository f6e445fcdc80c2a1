"""Has a `config.py` beside it and puts the bundle last on the path, so that a bundle's `config.py` is never found."""

import argparse
import base64
import importlib
import json
import os
import sys


def read(stream):
    length = None
    while True:
        line = stream.readline()
        if not line:
            return None
        if not line.strip():
            return json.loads(stream.read(length))
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)


def main():
    parser = argparse.ArgumentParser()
    for flag in ("--bundle-path", "--venv-path", "--bundle-digest"):
        parser.add_argument(flag)
    given = parser.parse_args()
    sys.path.append(given.bundle_path)
    wire = importlib.import_module("wire").wire
    while (request := read(sys.stdin.buffer)) is not None:
        params = request.get("params") or {}
        if request["method"] == "ready":
            result = {
                "ready": True,
                "bundle_digest": given.bundle_digest,
                "python": sys.executable,
                "version": "%d.%d" % sys.version_info[:2],
                "pid": os.getpid(),
                "venv": given.venv_path,
            }
        elif request["method"] == "execute":
            outputs = wire(params["entrypoint"], params["params"], params["seed"])
            result = {name: base64.b64encode(content).decode() for name, content in outputs.items()}
        else:
            result = {"ok": True}
        body = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()
        sys.stdout.buffer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        sys.stdout.buffer.flush()
        if request["method"] == "shutdown":
            return


main()
