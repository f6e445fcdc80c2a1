"""`bundle-install[bundle]`: the bundle installs on every worker, and every module of it is found there."""

from __future__ import annotations

import functools

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import bundle_in_workers, bundle_isolated
from pytest_modelops.checks.base import Check, label


def check(bundle: Bundle) -> Check:
    return Check(
        name="bundle-install",
        bundle=bundle,
        run=functools.partial(bundle_in_workers.run if bundle.in_workers else bundle_isolated.run, bundle),
        needs=("start",),
        after=(label("preflight", bundle),),
        seconds=180,
        summary="the bundle installs on every worker, and every module of it is found",
    )
