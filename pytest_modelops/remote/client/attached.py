"""The agent of an attached cell: a client of a deployment that runs already.

It first asks, with what every Dask understands and without pickle, which versions run there. Functions go only to a
scheduler and to workers that have answered and whose Python is this one.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import operator
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..shared.facts import Answer, AttachContact, ClusterFacts, ProcessFacts, WorkerSettings
from ..worker import modelops_preload
from ..worker.plugins import error_text
from . import agent, reach
from .connection import Connection, Failure

OFFERED = ("connect", "workers", "facts", "close", "call_each", "aggregate")
"""The agent's methods that neither write to a deployment nor need anything of ours there."""
_ASK_SECONDS = 10.0
"""How long a scheduler may take to say what it is."""
_ALL_SECONDS = 5.0
"""How long all workers together may take to answer, before each is asked by itself."""
_SAY_NOTHING = (asyncio.CancelledError, asyncio.TimeoutError)
_TLS_KEYS = ("ca-file", "client.cert", "client.key")


class Attached(Connection):
    """A connection to a deployment, which decides what may be sent."""

    priority = -100

    def __init__(self, contact: AttachContact, seconds: float) -> None:
        self._contact = contact
        self._facts: ClusterFacts = {}
        self._reserved = 0
        super().__init__({}, seconds)

    def _connect(self, _: Mapping[str, str], seconds: float) -> None:
        try:
            self._client = self._connected_client(seconds)
        except Failure as failure:
            self._failure = failure
        except BaseException as error:  # noqa: BLE001 - `connect` raises it
            self._failure = Failure(error_text(error), traceback.format_exc())
        self._connected.set()

    def _connected_client(self, seconds: float) -> Any:
        address, cluster, security = self._found()
        scheduler = _scheduler_facts(address, security, min(seconds, _ASK_SECONDS))
        from distributed import Client

        try:
            return Client(
                address if cluster is None else cluster, timeout=seconds, set_as_default=False, name="modelops-agent"
            )
        except Exception as error:
            mine = modelops_preload.facts()
            raise Failure(
                f"the scheduler at {address} answers, but {_named(mine)} cannot connect to {_named(scheduler)}: "
                f"{error_text(error)}",
                traceback.format_exc(),
            ) from error

    def _found(self) -> tuple[str, Any, Any]:
        """Return the scheduler's address, the cluster if there is one, and the security of connections to it."""
        from distributed.security import Security

        contact = self._contact
        found: Any = contact.get("address")
        if "scheduler_file" in contact:
            found = json.loads(Path(contact["scheduler_file"]).read_text(encoding="utf-8"))["address"]
        elif "factory" in contact:
            found = _made(contact["factory"], contact["directory"])
        if isinstance(found, str):
            return found, None, Security()
        address = getattr(found, "scheduler_address", None)
        if not isinstance(address, str) or not address:
            raise Failure(f"{contact['factory']} returned {found!r}, which is neither an address nor a Dask cluster")
        return address, found, getattr(found, "security", None) or Security()

    # What is asked ---------------------------------------------------------------------------------------------------

    def facts(self, variables: list[str], seconds: float) -> ClusterFacts:  # noqa: ARG002 - nobody there knows them
        """Ask the scheduler and every worker for their versions, within `seconds` together."""
        end = time.monotonic() + seconds
        registered = self.ask_scheduler("identity", seconds=seconds)["workers"]
        scheduler = process_facts(self.ask_scheduler("versions", seconds=seconds))
        try:
            answers: dict[str, Answer] = {
                address: {"value": versions}
                for address, versions in self.ask_scheduler(
                    "broadcast",
                    seconds=min(_ALL_SECONDS, seconds / 2),
                    msg={"op": "versions"},
                    workers=list(registered),
                ).items()
            }
        except Exception:  # noqa: BLE001 - one of them does not answer, or has left
            answers = self.ask_each(registered, {"op": "versions"}, end - time.monotonic())
        workers = {
            address: {**_answered(answers[address]), "settings": _settings(worker)}
            for address, worker in registered.items()
        }
        self._facts = {"client": modelops_preload.facts(), "scheduler": scheduler, "workers": workers}  # type: ignore[typeddict-item]
        return self._facts

    def _ask_worker(self, address: str, message: Mapping[str, object], seconds: float) -> Any:
        return self.ask_scheduler("broadcast", seconds=seconds, msg=message, workers=[address])[address]

    # What may be sent ------------------------------------------------------------------------------------------------

    def reserve(self, tasks: int) -> None:
        if not self._contact["force"]:  # workers may have been replaced since
            self.facts([], _ASK_SECONDS)
        most = self._contact["tasks"]
        if self._reserved + tasks > most:
            raise Failure(
                f"{tasks} tasks were not sent to the deployment: this client has sent {self._reserved}, and `tasks` of "
                f"[tool.modelops.attach] allows {most}"
            )
        self._reserved += tasks

    def targets(self, worker: str | None) -> list[str] | None:
        if self._contact["force"]:
            return super().targets(worker)
        python = _minor(modelops_preload.facts())
        if _minor(self._facts.get("scheduler", {})) != python:
            raise Failure(f"nothing was sent: the scheduler is not known to run Python {python}, as this client does")
        same = sorted(address for address, facts in self._facts["workers"].items() if _minor(facts) == python)
        if not same or worker not in (None, *same):
            raise Failure(
                f"nothing was sent: {worker or 'no worker'} is {'not ' if worker else ''}known to run Python {python}, "
                "as this client does"
            )
        return same if worker is None else [worker]


def _made(factory: str, directory: str) -> Any:
    """Call a factory; its errors are the user's, with their traceback."""
    sys.path.append(directory)
    module, _, function = factory.partition(":")
    try:
        return operator.attrgetter(function)(importlib.import_module(module))()
    except Exception as error:
        raise Failure(f"factory {factory}: {error_text(error)}", traceback.format_exc()) from error


def _scheduler_facts(address: str, security: Any, seconds: float) -> ProcessFacts:
    """Ask the scheduler at an address what it runs; raises `Failure` that says why it does not answer."""
    direct = address.startswith(("tcp://", "tls://"))
    if direct and (problem := reach.obstacle(address)):
        raise Failure(f"{address}: {problem}")
    try:
        arguments = security.get_connection_args("client")
    except OSError as error:  # Python does not say which file it is
        raise Failure(f"{address}: the files of TLS cannot be read: {error}. {_tls_settings()}") from error
    if address.startswith("tls://") and arguments.get("ssl_context") is None:
        raise Failure(f"{address}: TLS needs a certificate authority, a certificate and a key. {_tls_settings()}")
    try:
        return process_facts(asyncio.run(_ask(address, arguments, seconds)))
    except Exception as error:
        causes = list(_causes(error))
        said = next((error_text(one) for one in reversed(causes) if not isinstance(one, _SAY_NOTHING)), "no answer")
        problem, trouble = "", " ".join(str(cause).lower() for cause in causes)
        if address.startswith("tls://") and ("certificate" in trouble or "alert" in trouble):
            problem = f"client and scheduler do not trust each other's certificates: {said}. {_tls_settings()}"
        elif direct:
            problem = reach.other_protocol(address)
        if problem:
            raise Failure(f"{address}: {problem}") from error
        raise Failure(
            f"{address}: something listens there, but no scheduler that {_named(modelops_preload.facts())} understands "
            f"answered within {seconds:g} s: {said}",
            traceback.format_exc(),
        ) from error


async def _ask(address: str, arguments: Mapping[str, Any], seconds: float) -> Any:
    from distributed import rpc

    async with rpc(address, timeout=seconds, connection_args=arguments) as scheduler:
        return await asyncio.wait_for(scheduler.versions(), seconds)


def _causes(error: BaseException | None) -> Any:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _tls_settings() -> str:
    names = ", ".join(f"distributed.comm.tls.{key}" for key in _TLS_KEYS)
    return f"Set Dask's own {names}, in its configuration or as DASK_DISTRIBUTED__COMM__TLS__… variables"


def process_facts(versions: Any) -> ProcessFacts:
    """Return what a process answered to `versions` as facts."""
    if not isinstance(versions, dict) or not versions.get("packages"):
        return {"error": f"it answered {versions!r} when asked for its versions"}
    packages = dict(versions["packages"])
    python = packages.pop("python", None) or versions["host"]["python"]
    return {"python": ".".join(str(python).split(".")[:3]), "packages": packages}


def _answered(answer: Answer) -> ProcessFacts:
    if "value" in answer:
        return process_facts(answer["value"])
    return {"silent": answer["silent"]} if "silent" in answer else {"error": answer["error"]}


def _settings(worker: Mapping[str, Any]) -> WorkerSettings:
    return {
        "threads": worker.get("nthreads"),
        "nanny": bool(worker.get("nanny")),
        "name": str(worker.get("name") or worker.get("id")),
        "resources": worker.get("resources") or {},
    }


def _minor(facts: ProcessFacts) -> str:
    """`3.12`; empty where it is not known."""
    return ".".join(facts.get("python", "").split(".")[:2])


def _named(facts: ProcessFacts) -> str:
    return f"Dask {facts.get('packages', {}).get('distributed')} on Python {facts.get('python')}"


def offered(attached: Attached) -> agent.Methods:
    """Return what pytest may call."""
    return {name: method for name, method in agent.methods(attached).items() if name in OFFERED}


if __name__ == "__main__":
    agent.main(Attached, offered)
