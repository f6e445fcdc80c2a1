"""A runner as a user may have written one: its own framing, one file, and it says who it is on stderr."""

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
    sys.path[0] = given.bundle_path
    wire = importlib.import_module("wire").wire
    sys.stderr.write("this is the user's own runner\n")
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
        elif request["method"] == "aggregate":
            module, _, name = params["target_entrypoint"].partition(":")
            target = getattr(importlib.import_module(module), name)
            reported = target(params["sim_returns"], params["target_data"])
            result = {"n_replicates": len(params["sim_returns"]), "diagnostics": {}, "outputs": {}, **reported}
        else:
            result = {"ok": True}
        body = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()
        sys.stdout.buffer.write(b"content-length: %d\n\n" % len(body) + body)
        sys.stdout.buffer.flush()
        if request["method"] == "shutdown":
            return


main()
