"""Measure everything in one run, print tables, and write docs/benchmarks.md with its plots.

    python -m benchmarks [--rounds 5] [--only NAME …] [--tox PATH] [--docs docs/benchmarks]

Each part runs in a process of its own, so that what it imports is in no other part's memory, and the page is written
after each. A part that cannot be measured here is skipped, with the reason; figures that it had are kept.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time

from benchmarks.measuring import REPOSITORY, SKIPPED, parser, started
from benchmarks.parts import PARTS


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], metavar="NAME", help=", ".join(PARTS))
    options.set_defaults(docs=REPOSITORY / "docs" / "benchmarks")
    arguments = options.parse_args()
    if importlib.util.find_spec("matplotlib") is None:
        options.error("the plots need matplotlib: pip install -e '.[bench]'")
    docs = arguments.docs.resolve()
    python, environ = [sys.executable, "-m"], {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    forwarded = {"rounds": arguments.rounds, "image": arguments.image, "docs": docs}
    forwarded |= {name: value for name in ("tox", "beside") if (value := getattr(arguments, name))}
    broken, began = [], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="modelops-benchmark-") as temporary:
        forwarded["cache"] = arguments.cache or temporary
        for name in arguments.only:
            print(f"\n== {PARTS[name][0]} ({name}), after {time.monotonic() - began:.0f} s", flush=True)
            command = [*python, f"benchmarks.{name}", *(f"--{key}={value}" for key, value in forwarded.items())]
            with started(command, REPOSITORY, env=environ) as process:
                code = process.wait()
            if code == 0:
                subprocess.run([*python, "benchmarks.page", str(docs)], cwd=REPOSITORY, env=environ, check=True)
            elif code != SKIPPED:
                broken.append(name)
    print(f"\n{time.monotonic() - began:.0f} s; {docs.with_suffix('.md')}")
    if broken:
        print(f"without figures, since they failed: {', '.join(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
