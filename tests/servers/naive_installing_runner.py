"""Installs by itself, as many do: any marker is enough, and a lock is a file that is there."""

# What it does wrong can be chosen by the bundle's file habits.txt, words separated by spaces:
#
#     again       whenever it finds what it wants, writes the metadata of its packages again
#     hurries     where another holds the lock, goes on as if that one had finished
#     keeps       keeps results in its HOME, and does not execute what it has a result of
#     secretly    whenever it finds what it wants, installs it all the same, twice, into a directory of its own
#     refuses     asks which Python the environment has, and says what is wrong with it
#
# With --wheels it unpacks them, which takes INSTALL_SECONDS and hardly any work; without, pip installs the bundle.

import argparse
import base64
import glob
import importlib
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile

HABITS = pathlib.Path("habits.txt")  # the bundle is the working directory
NAIVE = HABITS.read_text(encoding="utf-8").split() if HABITS.exists() else []
INSTALL_SECONDS = 1.0 if "hurries" in NAIVE else 0.6


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


def unpack(wheels, site):
    for wheel in sorted(glob.glob(os.path.join(wheels, "*.whl"))):
        with zipfile.ZipFile(wheel) as archive:
            [info] = {name.partition("/")[0] for name in archive.namelist() if name.endswith(".dist-info/METADATA")}
            if not os.path.exists(os.path.join(site, info)):
                archive.extractall(site)
                time.sleep(INSTALL_SECONDS / 2)


def write_metadata(wheels, site):
    for wheel in glob.glob(os.path.join(wheels, "*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site, [name for name in archive.namelist() if ".dist-info/" in name])


def put_into_place(given, site=None):
    """Install into the environment, or into another directory."""
    if given.wheels:
        unpack(given.wheels, site or sysconfig.get_path("purelib"))
        return
    what = ["--upgrade", "--target", site, given.bundle_path] if site else [given.bundle_path]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *what], check=True, stdout=sys.stderr)


def install(given):
    marker = os.path.join(given.venv_path, ".installed")
    key = "yes"
    if os.path.exists(marker):
        with open(marker, encoding="utf-8") as file:
            if file.read() == key:
                if "again" in NAIVE:
                    write_metadata(given.wheels, sysconfig.get_path("purelib"))
                for _ in range(2 if "secretly" in NAIVE else 0):
                    put_into_place(given, tempfile.mkdtemp())
                return
    lock = given.venv_path + ".lock"
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
            break
        except FileExistsError:
            if "hurries" in NAIVE:
                return
            time.sleep(0.05)
    put_into_place(given)
    with open(marker, "w", encoding="utf-8") as file:
        file.write(key)
    os.remove(lock)


def execute(wire, params):
    kept = os.path.join(os.environ["HOME"], "results.json")
    if "keeps" in NAIVE and os.path.exists(kept):
        with open(kept, encoding="utf-8") as file:
            return json.load(file)
    outputs = wire(params["entrypoint"], params["params"], params["seed"])
    result = {name: base64.b64encode(content).decode() for name, content in outputs.items()}
    if "keeps" in NAIVE:
        with open(kept, "w", encoding="utf-8") as file:
            json.dump(result, file)
    return result


def main():
    parser = argparse.ArgumentParser()
    for flag in ("--bundle-path", "--venv-path", "--bundle-digest", "--python", "--wheels"):
        parser.add_argument(flag)
    given = parser.parse_args()
    version = "%d.%d" % sys.version_info[:2]
    if "refuses" in NAIVE and not given.python.startswith(version + "."):
        sys.exit("the environment at %s is of Python %s" % (given.venv_path, version))
    install(given)
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
                "version": version,
                "pid": os.getpid(),
                "venv": given.venv_path,
            }
        elif request["method"] == "execute":
            result = execute(wire, params)
        else:
            result = {"ok": True}
        body = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()
        sys.stdout.buffer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        sys.stdout.buffer.flush()
        if request["method"] == "shutdown":
            return


main()
