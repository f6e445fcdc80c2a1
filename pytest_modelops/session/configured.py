"""What is asked of a matrix run: settings, checks and deadlines, read from the command line and files."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import pytest

from pytest_modelops.checks import BUNDLE_CHECKS, PLUGIN_CHECK, all_checks, in_order
from pytest_modelops.checks.base import Check
from pytest_modelops.config.options import OPTIONS, load
from pytest_modelops.config.settings import Settings
from pytest_modelops.errors import WrongInput
from pytest_modelops.session import module

DISTS = ("no", "load", "loadgroup")
"""Values of xdist's --dist that leave the distribution to us."""


@dataclasses.dataclass(frozen=True)
class Configured:
    """What is asked of a run.

    Attributes:
        checks: each after those that it needs.
        deadlines: seconds by check, only those that were set.
    """

    settings: Settings
    checks: Sequence[Check]
    deadlines: Mapping[str, float]

    def describe_checks(self) -> str:
        """Return one line with the checks, and with the bundles that each of them is for."""
        names = dict.fromkeys(check.name for check in self.checks)
        bundles = {name: [c.bundle.name for c in self.checks if c.name == name and c.bundle] for name in names}
        listed = [f"{name}[{', '.join(bundles[name])}]" if bundles[name] else name for name in names]
        return f"each runs: {', '.join(listed)}"


def configure(config: pytest.Config) -> Configured:
    """Read what is asked of a run.

    Raises:
        WrongInput: a setting, or what a hook made of the checks, is not valid.
    """
    _refuse_other_dists(config)
    _refuse_mistaken_rootdir(config)
    settings = load(config)
    checks = all_checks(settings.bundles, settings.plugin, reuse=settings.runner.reuses)
    config.hook.pytest_modelops_checks(checks=checks, config=config)
    ordered = in_order([module.with_pytest_outcomes(check) for check in checks])
    check_names = dict.fromkeys([*(check.name for check in ordered), *BUNDLE_CHECKS, PLUGIN_CHECK])
    return Configured(settings, ordered, settings.deadlines_of(check_names))


def _refuse_other_dists(config: pytest.Config) -> None:
    dist = getattr(config.option, "dist", "no")
    if dist not in DISTS and not hasattr(config, "workerinput"):
        raise WrongInput(
            f"--dist {dist}: --modelops-matrix keeps each cell in one xdist worker and this would split it; "
            f"use one of {', '.join(DISTS)}, or leave it out"
        )


def _refuse_mistaken_rootdir(config: pytest.Config) -> None:
    """Refuse a flag's path that pytest took for a directory of tests, and so for the project's directory.

    pytest looks for its configuration before it knows which flags take a value.
    """
    arguments = [str(argument) for argument in config.invocation_params.args]
    flags = {option.flag for option in OPTIONS if option.path}
    for flag, value in itertools.pairwise(arguments):
        path = (config.invocation_params.dir / value).resolve()
        if flag not in flags or not path.is_dir():
            continue
        if config.rootpath.is_relative_to(path) and not config.invocation_params.dir.is_relative_to(path):
            raise WrongInput(
                f"{flag} {value}: pytest takes {value} for a directory of tests and {config.rootpath} for the project; "
                f"write {flag}={value}"
            )
