"""`[tool.modelops.attach]`: a deployment that runs already, and what may be sent to it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from pytest_modelops.config.setting import Place, Type, Values, leaf, many, setting, table
from pytest_modelops.config.types import COUNT, IMPORT_PATH, PATH, SECONDS, SWITCH, TEXT, choice, import_path, text
from pytest_modelops.errors import WrongInput

if TYPE_CHECKING:
    from pytest_modelops.remote.shared.facts import Gateway

_ADDRESS = r"(tcp|tls)://([^\[\]:/]+|\[[^\]]+\]):\d+"


INSTALL, SCALE = ALLOW = ("install", "scale")
"""What a client may be allowed to change in a deployment."""
_UNITS = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE = rf"\d+(\.\d+)? ?({'|'.join(_UNITS)})"


class AttachPlanJson(TypedDict):
    """What `--modelops-plan=json` prints of a deployment: where it is, and what each client sends at most.

    Attributes:
        seconds: how long it sends.
        allow: what may be changed there.
    """

    deployment: str
    aggregation_tasks: int
    tasks: int
    bytes: int
    seconds: float
    allow: list[str]


def _address(value: object) -> str:
    found = text(value).strip()
    if not re.fullmatch(_ADDRESS, found):
        raise WrongInput(f"{found!r} is not the address of a scheduler, such as tcp://scheduler:8786 or tls://…")
    return found


def _size(value: object) -> int:
    found = text(value).strip()
    if not (match := re.fullmatch(_SIZE, found)):
        raise WrongInput(f'{found!r} is not a size; write one such as "10MB", in {", ".join(_UNITS)}')
    return round(float(found.removesuffix(match[2])) * _UNITS[match[2]])


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """A cluster of a Dask gateway."""

    address: str = setting(
        TEXT, "The address of the gateway's server. Default: `gateway.address` of Dask's configuration.", "", shown=""
    )
    auth: str = setting(
        TEXT,
        "How the client authenticates: `basic`, `kerberos`, `jupyterhub` or a class, `module.Class`. Default: "
        "`gateway.auth.type`. Passwords and other arguments are `gateway.auth.kwargs`, such as the variable "
        "`DASK_GATEWAY__AUTH__KWARGS__PASSWORD`.",
        "",
        shown="",
    )
    cluster: str = setting(
        TEXT, "The name of a cluster that runs. Default: the only one that this user has.", "", shown=""
    )

    def contact(self) -> Gateway:
        return {"address": self.address, "auth": self.auth, "cluster": self.cluster}

    def __str__(self) -> str:
        cluster = f"the cluster {self.cluster}" if self.cluster else "the only cluster"
        return f"{cluster} of the gateway {self.address}".rstrip()


@dataclasses.dataclass(frozen=True, kw_only=True)
class KubernetesSettings:
    """The pods in which the workers of a deployment run."""

    selector: str = setting(TEXT, "The label selector of the workers' pods.", "dask.org/component=worker")
    namespace: str = setting(TEXT, "Their namespace. Default: that of `kubectl`.", "", shown="")
    context: str = setting(TEXT, "The context of `kubectl`. Default: its current one.", "", shown="")
    container: str = setting(TEXT, "The name of the container in each pod that runs the worker.", "worker")


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
        leaf(import_path("is not a function; write module:function"), IMPORT_PATH),
        "`module:function`, called in each client, that returns the address or a Dask `Cluster`. The module is in the "
        "client's environment or beside this file.",
        "",
        shown="",
    )
    gateway: GatewaySettings | None = setting(
        table(GatewaySettings, lambda found, values, _: found if values else None, section=True),
        "A cluster of a Dask gateway that runs. dask-gateway has to be in the client's environment.",
    )
    kubernetes: KubernetesSettings | None = setting(
        table(KubernetesSettings, lambda found, values, _: found if values else None, section=True),
        "Where `kubectl` finds the workers' pods: `versions` then also compares the images of workers.",
    )
    allow: tuple[str, ...] = setting(
        many(choice("something to allow", ALLOW)),
        "What a client may change: `install` copies bundles to the workers, where they are installed and run in a "
        "directory that is removed afterwards; `scale` scales the cluster of `factory` or `gateway` up by one worker, "
        "for `runtime`, and down again.",
        (),
    )
    tasks: int = setting(COUNT, "How many tasks one client sends at most.", 1000)
    bytes: int = setting(
        leaf(_size, {"type": "string", "pattern": f"^{_SIZE}$"}),
        "How much one client sends in tasks at most: functions, arguments and bundles, for each worker that gets them.",
        10**7,
        shown='"10MB"',
    )
    seconds: float = setting(SECONDS, "How long one client sends tasks, from its start.", 900.0)
    force: bool = setting(
        SWITCH,
        "Send functions also to a scheduler and to workers whose Python is another one, which may crash them.",
        default=False,
        name="attach-force",
    )
    directory: Path = Path()

    @property
    def is_asked_for(self) -> bool:
        return bool(self.address or self.scheduler_file or self.factory or self.gateway)

    @property
    def deployment(self) -> str:
        """Where the deployment is, for people."""
        return self.address or str(self.scheduler_file or self.factory or self.gateway)

    def plan(self, aggregation_tasks: int) -> AttachPlanJson | None:
        """Return what would be sent; `None` without a deployment.

        Args:
            aggregation_tasks: how many tasks the check `aggregation` submits.
        """
        if not self.is_asked_for:
            return None
        return {
            "deployment": self.deployment,
            "aggregation_tasks": aggregation_tasks,
            "tasks": self.tasks,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "allow": [*self.allow],
        }


def _finish(found: AttachSettings, values: Values, place: Place) -> AttachSettings:
    if "gateway" in values and found.gateway is None:
        raise WrongInput(f"{place.section('gateway')}: nothing is set; set address, or cluster, or leave it out")
    if "kubernetes" in values and found.kubernetes is None:
        raise WrongInput(f"{place.section('kubernetes')}: nothing is set; set namespace, or selector, or leave it out")
    if place.strongest("attach"):
        found = dataclasses.replace(found, scheduler_file=None, factory="", gateway=None)
    given = {
        "address": found.address,
        "scheduler-file": found.scheduler_file,
        "factory": found.factory,
        "gateway": found.gateway,
    }
    named = [key for key, value in given.items() if value]
    if len(named) > 1:
        raise WrongInput(f"{place}: {' and '.join(named)} name a deployment each; leave one")
    if found.force and not named:
        raise WrongInput(f"{place}: force means nothing without a deployment; name one with --modelops-attach ADDRESS")
    if SCALE in found.allow and named and not (found.factory or found.gateway):
        raise WrongInput(
            f"{place}: allow = [{SCALE!r}]: a deployment cannot be scaled by the address of its scheduler; name a "
            "factory that returns a Dask cluster, or a gateway"
        )
    return dataclasses.replace(found, directory=place.directory)


ATTACH: Type[AttachSettings] = table(AttachSettings, _finish, section=True)
