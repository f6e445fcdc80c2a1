"""The parts, in the order in which they run and stand in the docs: title, and what is compared and how."""

from __future__ import annotations

from collections.abc import Mapping

PARTS: Mapping[str, tuple[str, str]] = {
    "one_cell": (
        "One warm cell",
        (
            "The cell from its first process to the proof that none is left, for each "
            "[`start`](reference.md#how-processes-are-started), beside a bare script that starts the same cluster with "
            "the same Python, does the same job and stops it."
        ),
    ),
    "several_cells": (
        "Several cells",
        (
            "The whole command `pytest --modelops-matrix`, with two Pythons and up to four releases of Dask, "
            "beside the bare script two at a time, and beside tox with tox-uv and an equivalent test "
            "(`tox run-parallel -p 2`). Cold means that environments are made, with the wheels in uv's cache; taken "
            "means that nothing has changed, with `--modelops-trust-last`."
        ),
    ),
    "container_cells": (
        "A cell in containers",
        (
            "One warm cell, the whole command, beside a pytest fixture that starts a network, a scheduler and two "
            "workers of the same image with testcontainers, and beside the cell in processes."
        ),
    ),
    "matrix_by_check": (
        "README's matrix by check",
        (
            "Seconds of each check, summed over the six cells, of which several run at once, in a first run with "
            "an empty cache and in warm runs; the ratio is the share of all checks."
        ),
    ),
    "memory": (
        "Memory",
        (
            "The proportional set size of all processes of one cell, every tenth of a second, beside that of the "
            "bare script; and the greatest resident size of pytest's own process."
        ),
    ),
    "many_cells": (
        "Plan and collection",
        (
            "`pytest --modelops-matrix --modelops-plan=json` and `--collect-only` for 1, 100 and 1,000 cells, "
            "with the index's answers in the cache, beside a pytest that collects one test."
        ),
    ),
    "hang_to_verdict": (
        "From a hang to its verdict",
        (
            "Each process is frozen in turn with SIGSTOP, a task holds the GIL, or a bundle's function never "
            "ends: seconds from the deadline to the error that says what hangs. A runner is awaited a little less than "
            "the deadline of its check, so there the verdict can come before it, as a negative number."
        ),
    ),
    "reports": (
        "Reports",
        "Writing each format, and opening the page in Chromium, for 1, 100 and 1,000 cells with 16 checks each.",
    ),
}
"""By the name of the module."""
