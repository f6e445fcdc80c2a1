"""What is asked of a matrix run: settings, checks and deadlines, read from the command line and files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pytest

from pytest_modelops.checks import all_checks, attached, in_order, names_of
from pytest_modelops.checks.base import Check
from pytest_modelops.config.options import load
from pytest_modelops.config.setting import not_one_of
from pytest_modelops.config.settings import Settings
from pytest_modelops.errors import WrongInput
from pytest_modelops.session import module
from pytest_modelops.session.hooks import change
from pytest_modelops.session.rootdir import refuse_moved_rootdir


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
        """Return one line with the checks, and with the bundles and faults that there are of each."""
        every = [check for check in self.checks if not check.replaced]
        names = dict.fromkeys(check.name for check in every)
        of = {name: [check.object for check in every if check.name == name] for name in names}
        listed = []
        for name, found in of.items():
            listed += [name] * ("" in found)
            listed += [f"{name}[{', '.join(filter(None, found))}]"] * any(found)
        if len(every) == len(self.checks):
            return f"each runs: {', '.join(listed)}"
        upgrades = {label for check in self.checks if check.replaced for label in check.needs}
        last = ", ".join(label for label in (check.label for check in every) if label in upgrades)
        return (
            f"each runs: {', '.join(listed)}; rolling upgrades: the checks up to {last}, then rolling[…] for each state"
        )


def configure(config: pytest.Config) -> Configured:
    """Read what is asked of a run.

    Raises:
        WrongInput: a setting, or what a hook made of the checks, is not valid.
    """
    _refuse_every_worker_for_itself(config)
    refuse_moved_rootdir(config)
    settings = load(config)
    orders = () if settings.attach.is_asked_for else (o for one in settings.matrix.rolling for o in one.orders)
    faults, reuse = settings.aggregation.faults, settings.runner.reuses
    checks = all_checks(settings.bundles, settings.plugin, reuse=reuse, faults=faults, orders=orders)
    if settings.attach.is_asked_for:
        asked = attached.Asked(
            force=settings.attach.force,
            allow=settings.attach.allow,
            requirements=settings.environment.requirements,
            plugin=settings.plugin,
            kubernetes=settings.attach.kubernetes,
        )
        checks = attached.of_deployment(checks, asked)
    change(config, "pytest_modelops_checks", checks=checks)
    if settings.attach.is_asked_for and not settings.attach.force:
        checks = attached.behind_versions(checks)
    ordered = in_order([module.with_pytest_outcomes(check) for check in checks])
    check_names = names_of(ordered)
    for known in settings.known_broken:
        if known.check.partition("[")[0] not in check_names:
            raise WrongInput(f"{known.place}: {not_one_of(known.check, 'a check', check_names)}")
    return Configured(settings, ordered, settings.deadlines_of(check_names))


def _refuse_every_worker_for_itself(config: pytest.Config) -> None:
    if getattr(config.option, "dist", "no") == "each" and not hasattr(config, "workerinput"):
        raise WrongInput(
            "--dist each: it runs every test in every xdist worker, so each cell would be started several times; "
            "add --dist load to the command line, or use any other value of --dist"
        )
