"""`python -m pytest_modelops`: `prune` the container engine, print the `schema` of `[tool.modelops]`."""

from __future__ import annotations

import argparse
import sys

from pytest_modelops.errors import ModelopsError


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pytest_modelops", description="Tools around pytest --modelops-matrix."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    prune = commands.add_parser(
        "prune",
        help="remove cells that were left up, and what dead runs left, from the container engine",
        description="Remove containers, networks and volumes of runs that are over: of cells that were left up, and of "
        "runs that were killed. Touches nothing of a run that goes on or of another machine.",
    )
    prune.add_argument("--images", action="store_true", help="also the images that were built for cells")
    commands.add_parser("schema", help="print the JSON Schema of [tool.modelops], for editors")
    options = parser.parse_args(arguments)
    if options.command == "schema":
        import json

        from pytest_modelops.config.reference import schema

        print(json.dumps(schema(), indent=2, ensure_ascii=False))  # noqa: T201
        return 0
    from pytest_modelops.backends.registry import prune_engine

    try:
        removed = prune_engine(images=options.images)
    except ModelopsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - this is a program
        return 1
    for thing in removed.things:
        print(f"removed {thing}")  # noqa: T201
    for thing in removed.left:
        print(f"could not remove {thing}", file=sys.stderr)  # noqa: T201
    if not removed.things and not removed.left:
        print("nothing to remove")  # noqa: T201
    return 1 if removed.left else 0


if __name__ == "__main__":
    sys.exit(main())
