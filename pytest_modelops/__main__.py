"""`python -m pytest_modelops`: `prune` containers, `merge` reports, `lock` or `bisect` a cell, print a `schema`."""

from __future__ import annotations

import argparse
import sys

from pytest_modelops.errors import ModelopsError

_REPORT_HELP = "a JSON report, or a directory with one; by default the last run here of this configuration"


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pytest_modelops", description="Tools around pytest --modelops-matrix."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (_add_prune, _add_schema, _add_merge, _add_lock, _add_bisect):
        add(commands)
    options = parser.parse_args(arguments)
    try:
        code: int = options.run(options)
    except (ModelopsError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - this is a program
        return 2
    return code


def _add_prune(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    prune = commands.add_parser(
        "prune",
        help="remove cells that were left up, and what dead runs left, from the container engine",
        description="Remove containers, networks and volumes of runs that are over: of cells that were left up, and of "
        "runs that were killed. Touches nothing of a run that goes on or of another machine.",
    )
    prune.add_argument("--images", action="store_true", help="also the images that were built for cells")
    prune.set_defaults(run=_prune)


def _prune(options: argparse.Namespace) -> int:
    from pytest_modelops.backends.registry import prune_engine

    try:
        removed = prune_engine(images=options.images)
    except ModelopsError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    for thing in removed.things:
        print(f"removed {thing}")  # noqa: T201
    for thing in removed.left:
        print(f"could not remove {thing}", file=sys.stderr)  # noqa: T201
    if not removed.things and not removed.left:
        print("nothing to remove")  # noqa: T201
    return 1 if removed.left else 0


def _add_schema(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    schemas = commands.add_parser("schema", help="print the JSON Schema of [tool.modelops], for editors")
    schemas.add_argument("--report", action="store_true", help="that of the JSON report instead")
    schemas.set_defaults(run=_schema)


def _schema(options: argparse.Namespace) -> int:
    import json

    from pytest_modelops.config.reference import schema
    from pytest_modelops.report.schema import schema as report_schema

    shown = report_schema() if options.report else schema()
    print(json.dumps(shown, indent=2, ensure_ascii=False))  # noqa: T201
    return 0


def _add_merge(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    merge = commands.add_parser(
        "merge",
        help="make one report of those of several machines",
        description="Make one report of those of several machines. A planned cell that no report has is missing. Exits "
        "1 unless all cells passed.",
    )
    merge.add_argument("reports", nargs="+", metavar="REPORT", help="a JSON report, or a directory with reports")
    merge.add_argument(
        "-o", "--output", action="append", default=[], metavar="PATH", help="as --modelops-report; repeatable"
    )
    merge.add_argument("--baseline", metavar="PATH", help="compare with an earlier report")
    merge.add_argument("--fail-on", choices=("broken", "new"), default="broken", help="as --modelops-fail-on")
    merge.set_defaults(run=_merge)


def _merge(options: argparse.Namespace) -> int:
    from pathlib import Path

    from pytest_modelops.session.merging import merged

    baseline = Path(options.baseline) if options.baseline else None
    if options.fail_on == "new" and baseline is None:
        print("--fail-on new needs --baseline", file=sys.stderr)  # noqa: T201
        return 2
    verdict, fine = merged(
        [Path(one) for one in options.reports], options.output, baseline=baseline, new_only=options.fail_on == "new"
    )
    print(verdict)  # noqa: T201
    return 0 if fine else 1


def _add_lock(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    lock = commands.add_parser(
        "lock",
        help="write what a green cell was checked with, as a file to install from",
        description="Write the packages that a green cell was checked with, each with its hashes. Nothing is resolved "
        "again.",
    )
    lock.add_argument("cell", metavar="CELL", help="id of the cell, such as py3.12-dask2024.10.0")
    lock.add_argument("report", nargs="?", metavar="REPORT", help=_REPORT_HELP)
    lock.add_argument(
        "-o", "--output", required=True, metavar="PATH", help="pylock.toml (PEP 751), or a requirements file (.txt)"
    )
    lock.add_argument("--role", choices=("client", "scheduler", "worker"), help="whose, if the roles' versions differ")
    lock.set_defaults(run=_lock)


def _lock(options: argparse.Namespace) -> int:
    from pathlib import Path

    from pytest_modelops.session.locking import write_lock

    report = Path(options.report) if options.report else None
    first, *notes = write_lock(options.cell, Path(options.output), report=report, role=options.role)
    print(first)  # noqa: T201
    for note in notes:
        print(note, file=sys.stderr)  # noqa: T201
    return 0


def _add_bisect(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    bisect = commands.add_parser(
        "bisect",
        help="find the change between two cells that breaks one of them",
        description="Run cells between a red and a green one until the change of Python, Dask or packages that breaks "
        "the red one is known. Exits 0 with a verdict, 1 without one, 2 for wrong input.",
    )
    bisect.add_argument("red", metavar="RED", help="id of the broken cell, such as py3.13-dask2024.10.0")
    bisect.add_argument(
        "green",
        nargs="?",
        metavar="GREEN",
        help="id of a cell that passed; by default the one whose versions are nearest",
    )
    bisect.add_argument("--report", metavar="PATH", help=_REPORT_HELP)
    bisect.add_argument("--baseline", metavar="PATH", help="an earlier report, which has the green cell")
    bisect.set_defaults(run=_bisect)


def _bisect(options: argparse.Namespace) -> int:
    from pathlib import Path

    from pytest_modelops.session.bisecting import bisect

    report, baseline = (Path(path) if path else None for path in (options.report, options.baseline))
    try:
        found = bisect(
            options.red,
            options.green,
            report=report,
            baseline=baseline,
            say=lambda line: print(line, flush=True),  # noqa: T201
        )
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201
        return 130
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
