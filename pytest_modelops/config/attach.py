"""`[tool.modelops.attach]`: a deployment that runs already, and what may be sent to it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TypedDict

from pytest_modelops.config.setting import Place, Type, Values, leaf, setting, table
from pytest_modelops.config.types import COUNT, PATH, SWITCH, is_dotted, text
from pytest_modelops.errors import WrongInput

_ADDRESS = r"(tcp|tls)://([^\[\]:/]+|\[[^\]]+\]):\d+"


class AttachPlanJson(TypedDict):
    """What `--modelops-plan=json` prints of a deployment: where it is, and how many tasks each client sends at most."""

    deployment: str
    aggregation_tasks: int
    tasks: int


def _address(value: object) -> str:
    found = text(value).strip()
    if not re.fullmatch(_ADDRESS, found):
        raise WrongInput(f"{found!r} is not the address of a scheduler, such as tcp://scheduler:8786 or tls://…")
    return found


def _factory(value: object) -> str:
    found = text(value)
    module, colon, function = found.partition(":")
    if not colon or not is_dotted(module) or not is_dotted(function):
        raise WrongInput(f"{found!r} is not a function; write module:function")
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttachSettings:
    """A deployment that runs already.

    Attributes:
        directory: of the configuration; `factory` is looked for there, too.
    """

    address: str = setting(
        leaf(_address, {"type": "string", "pattern": f"^{_ADDRESS}$"}),
        "The address of the scheduler: `tcp://HOST:PORT` or `tls://HOST:PORT`.",
        "",
        shown="",
        name="attach",
        flag_help="Check clients of a deployment that runs already, whose scheduler has this address: "
        "`tcp://HOST:PORT` or `tls://HOST:PORT`. No scheduler and no worker is started.",
        metavar="ADDRESS",
    )
    scheduler_file: Path | None = setting(
        PATH, "The file with the address that `dask scheduler --scheduler-file` has written."
    )
    factory: str = setting(
        leaf(_factory, {"type": "string", "pattern": r"^[\w.]+:[\w.]+$"}),
        "`module:function`, called in each client, that returns the address or a Dask `Cluster`. The module is in the "
        "client's environment or beside this file.",
        "",
        shown="",
    )
    tasks: int = setting(COUNT, "How many tasks one client sends at most.", 1000)
    force: bool = setting(
        SWITCH,
        "Send functions also to a scheduler and to workers whose Python is another one, which may crash them.",
        default=False,
        name="attach-force",
    )
    directory: Path = Path()

    @property
    def is_asked_for(self) -> bool:
        return bool(self.address or self.scheduler_file or self.factory)

    @property
    def deployment(self) -> str:
        """Where the deployment is, for people."""
        return self.address or str(self.scheduler_file or self.factory)

    def plan(self, aggregation_tasks: int) -> AttachPlanJson | None:
        """Return what would be sent; `None` without a deployment.

        Args:
            aggregation_tasks: how many tasks the check `aggregation` submits.
        """
        if not self.is_asked_for:
            return None
        return {"deployment": self.deployment, "aggregation_tasks": aggregation_tasks, "tasks": self.tasks}


def _finish(found: AttachSettings, _: Values, place: Place) -> AttachSettings:
    if place.strongest("attach"):
        found = dataclasses.replace(found, scheduler_file=None, factory="")
    given = {"address": found.address, "scheduler-file": found.scheduler_file, "factory": found.factory}
    named = [key for key, value in given.items() if value]
    if len(named) > 1:
        raise WrongInput(f"{place}: {' and '.join(named)} name a deployment each; leave one")
    if found.force and not named:
        raise WrongInput(f"{place}: force means nothing without a deployment; name one with --modelops-attach ADDRESS")
    return dataclasses.replace(found, directory=place.directory)


ATTACH: Type[AttachSettings] = table(AttachSettings, _finish, section=True)
