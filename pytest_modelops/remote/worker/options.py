"""Says which arguments `dask worker` of this environment does not understand.

Its command accepts options that it does not know: they become the scheduler's address, or arguments of a preload.

Run as `python -m modelops_remote.worker.options` with the workers' Python and variables. Stdin is a JSON list, the
arguments; stdout is a `WorkerOptions`. Python 3.9 and up.
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from ..shared.answering import answer_with

if TYPE_CHECKING:
    from ..shared.facts import WorkerOptions

_RENAMED = {
    "--bokeh": "--dashboard",
    "--no-bokeh": "--no-dashboard",
    "--bokeh-port": "--dashboard-address",
    "--nprocs": "--nworkers",
}
"""Options that Dask has renamed, in names that are not alike."""


def look_at(arguments: Sequence[str]) -> WorkerOptions:
    """Parse the arguments with Dask's own command; nothing is started."""
    cli: Any = importlib.import_module("distributed.cli.dask_worker")
    click, main = cli.click, cli.main
    found: WorkerOptions = {"dask": metadata.version("distributed"), "ignored": [], "nearest": {}, "error": ""}
    parser = main.make_parser(click.Context(main, info_name="dask worker", ignore_unknown_options=True))
    try:
        options, _, _ = parser.parse_args(["", *arguments])
    except click.UsageError as error:
        found["error"] = error.format_message()
        return found
    if options.get("nprocs") is not None:  # of Dask before 2022.10; newer ones have `--nworkers`
        found["error"] = "'--nprocs' has a key of its own: workers in [tool.modelops]"
        return found
    left = options.get("preload_argv")
    ignored = list(left) if isinstance(left, (list, tuple)) else []
    if ignored and not _has_command(click, options.get("preload") or ()):
        valid = [name for param in main.params for name in (*param.opts, *param.secondary_opts) if name[:1] == "-"]
        unknown = [argument.partition("=")[0] for argument in ignored if argument[:1] == "-"]
        found["ignored"] = ignored
        found["nearest"] = {name: near for name in unknown if (near := nearest(name, valid))}
    return found


def nearest(name: str, valid: Sequence[str]) -> str:
    """Return the option that was meant, as far as it can be known."""
    if (renamed := _RENAMED.get(name, "")) in valid:
        return renamed
    # Without the dashes, which would make everything alike.
    by_text = {option.lstrip("-"): option for option in valid}
    return next((by_text[text] for text in difflib.get_close_matches(name.lstrip("-"), by_text, n=1)), "")


def _has_command(click: Any, preloads: Iterable[str]) -> bool:
    """Return whether a preload takes arguments, because its `dask_setup` is a command of its own, or may take some."""
    from distributed import preloading

    for name in preloads:
        if preloading.is_webaddress(name):
            continue  # nor does Dask give it arguments
        try:
            module: Any = preloading._import_module(name)  # noqa: SLF001 - as Dask's own validation does
        except Exception:  # noqa: BLE001 - the worker fails at it, too, and says why
            return True
        setup = module.get("dask_setup") if isinstance(module, dict) else getattr(module, "dask_setup", None)
        if isinstance(setup, click.Command):
            return True
    return False


if __name__ == "__main__":
    answer_with(look_at)
    os._exit(0)  # a preload may have started threads
