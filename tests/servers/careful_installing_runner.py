"""Installs by itself, from the directory of wheels that it is given, and believes nothing that it has not looked at."""

import argparse
import base64
import contextlib
import csv
import fcntl
import glob
import importlib
import importlib.metadata
import json
import os
import shutil
import sys
import sysconfig
import time
import zipfile

SITE = sysconfig.get_path("purelib")
INSTALL_SECONDS = 0.4
"""In which it can be interrupted."""


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


def is_whole():
    """Whether every file is there that a package says it has."""
    for record in glob.glob(os.path.join(SITE, "*.dist-info", "RECORD")):
        with open(record, encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                if row and not row[0].endswith(".pyc") and not os.path.exists(os.path.join(SITE, row[0])):
                    return False
    return True


def prepare(given):
    version = "%d.%d.%d" % sys.version_info[:3]
    if version != given.python:
        sys.exit("the environment at %s is of Python %s, not of %s" % (given.venv_path, version, given.python))
    marker, key = os.path.join(given.venv_path, "made-for.txt"), given.bundle_digest
    fresh = os.environ.get("CAREFUL_FRESH") == "yes"
    with open(given.venv_path + ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the system frees it, however its holder ends
        with contextlib.suppress(OSError), open(marker, encoding="utf-8") as file:
            if file.read() == key and is_whole() and not fresh:
                return
        with contextlib.suppress(OSError):
            os.remove(marker)
        for name in os.listdir(SITE):
            path = os.path.join(SITE, name)
            if not name.startswith("pip"):
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
        for wheel in glob.glob(os.path.join(given.wheels, "*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(SITE)
            time.sleep(INSTALL_SECONDS / 2)
        with open(marker + ".new", "w", encoding="utf-8") as file:
            file.write(key)
        os.replace(marker + ".new", marker)


def main():
    parser = argparse.ArgumentParser()
    for flag in ("--bundle-path", "--venv-path", "--bundle-digest", "--python", "--wheels"):
        parser.add_argument(flag)
    given = parser.parse_args()
    prepare(given)
    importlib.invalidate_caches()
    [entry] = importlib.metadata.entry_points(group="modelops.wire")
    wire = entry.load()
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
