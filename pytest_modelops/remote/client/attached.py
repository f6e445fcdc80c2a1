"""The agent of an attached cell: a client of a deployment that runs already.

It first asks, with what every Dask understands and without pickle, which versions run there. Functions go only to a
scheduler and to workers that have answered and whose Python is this one.
"""

from __future__ import annotations

import asyncio
import functools
import time
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..runner import inspection
from ..shared.facts import Answer, AttachContact, ClusterFacts, LookQuestion, ProcessFacts, WorkerSettings
from ..worker import look as looking
from ..worker import modelops_preload
from ..worker.plugins import error_text, origins
from . import agent, finding, reach
from .bundles import ClientBundles
from .connection import Call, Connection, Failure, facts_of
from .delivery import Delivery, request
from .jobs import Jobs
from .limits import Limits
from .scaling import Scaling
from .tasks import Tasks

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
        self._cluster: Any = None
        self._facts: ClusterFacts = {}
        self._idle: set[str] = set()
        """Addresses of the workers that had nothing to do when tasks were sent last."""
        self._limits = Limits(contact)
        self._scaling = Scaling(self)
        self.delivery: Delivery | None = None
        super().__init__(contact, seconds)

    def _connected_client(self, contact: AttachContact, seconds: float) -> Any:
        address, self._cluster, security = finding.found(contact)
        scheduler = _scheduler_facts(address, security, min(seconds, _ASK_SECONDS))
        from distributed import Client

        try:
            where = address if self._cluster is None else self._cluster
            return Client(where, timeout=seconds, set_as_default=False, name="modelops-agent")
        except Exception as error:
            mine = modelops_preload.facts()
            raise Failure(
                f"the scheduler at {address} answers, but {_named(mine)} cannot connect to {_named(scheduler)}: "
                f"{error_text(error)}. Use a client with the deployment's Dask, or upgrade the deployment first",
                traceback.format_exc(),
            ) from error

    @property
    def files(self) -> str:
        """Directory of what may be copied to workers."""
        return self._contact["files"]

    # What is asked ---------------------------------------------------------------------------------------------------

    def facts(self, variables: list[str], seconds: float) -> ClusterFacts:  # noqa: ARG002 - nobody there knows them
        """Ask the scheduler and every worker for their versions, within `seconds` together."""
        registered = self.ask_scheduler("identity", seconds=seconds)["workers"]
        scheduler = process_facts(self.ask_scheduler("versions", seconds=seconds))
        answers = self._ask_at_once(registered, {"op": "versions"}, seconds)
        workers = {
            address: {**facts_of(answers[address], process_facts), "settings": _settings(worker)}
            for address, worker in registered.items()
        }
        self._facts = {"client": modelops_preload.facts(), "scheduler": scheduler, "workers": workers}  # type: ignore[typeddict-item]
        return self._facts

    def _ask_at_once(self, workers: Iterable[str], message: Mapping[str, object], seconds: float) -> dict[str, Answer]:
        """Send these workers one message through the scheduler; each its own if one of them does not answer."""
        end, soon = time.monotonic() + seconds, min(_ALL_SECONDS, seconds / 2)
        try:
            answers = self.ask_scheduler("broadcast", seconds=soon, msg=message, workers=list(workers))
        except Exception:  # noqa: BLE001 - one of them does not answer, or has left
            return self.ask_each(workers, message, end - time.monotonic())
        return {address: {"value": answer} for address, answer in answers.items()}

    # What may be sent ------------------------------------------------------------------------------------------------

    def reserve(self, *calls: Call) -> None:
        if not self._contact["force"]:  # workers may have been replaced since
            self.facts([], _ASK_SECONDS)
        self._limits.reserve(calls)
        self._idle = self._idle_workers()

    def _idle_workers(self) -> set[str]:
        processing = self.ask_scheduler("processing", seconds=_ASK_SECONDS)
        return {address for address, keys in processing.items() if not keys}

    def targets(self, worker: str | None, resources: Mapping[str, int] | None = None) -> list[str] | None:
        may = self._may_get_functions(worker)
        if may is None or worker is not None:
            return may
        for name, amount in (resources or {}).items():
            may = [one for one in may if self._facts["workers"][one]["settings"]["resources"].get(name, 0) >= amount]
        if not may:  # Dask takes an empty list for all workers
            raise Failure(f"nothing was sent: no worker with this client's Python has the resources {resources}")
        return [one for one in may if one in self._idle] or may

    def in_turn(self, workers: list[str | None]) -> list[list[str | None]]:
        idle = [one for one in workers if one is None or one in self._idle]
        return [group for group in (idle, [one for one in workers if one not in idle]) if group]

    def same_python(self) -> list[str]:
        """Return the addresses of the workers that run this Python, as they said last."""
        python = _minor(modelops_preload.facts())
        return sorted(address for address, facts in self._facts["workers"].items() if _minor(facts) == python)

    def _may_get_functions(self, worker: str | None) -> list[str] | None:
        """Return which workers may get a function that is for this one, or for any; `None` for all."""
        if self._contact["force"]:
            return super().targets(worker)
        python = _minor(modelops_preload.facts())
        if _minor(self._facts.get("scheduler", {})) != python:
            raise Failure(f"nothing was sent: the scheduler is not known to run Python {python}, as this client does")
        same = self.same_python()
        if not same or worker not in (None, *same):
            raise Failure(
                f"nothing was sent: {worker or 'no worker'} is {'not ' if worker else ''}known to run Python {python}, "
                "as this client does"
            )
        return same if worker is None else [worker]

    def look(self, question: LookQuestion, seconds: float) -> dict[str, Answer]:
        """Ask each worker with this Python what it has, all at once; returns a `WorkerLook` by address.

        What a worker's Dask tells by itself are the versions of the packages that Dask needs. The rest takes a
        function. It runs beside tasks and is none.
        """
        answers = self._ask_at_once(self.same_python(), request(looking.look, question), seconds)
        return {address: _result(answer) for address, answer in answers.items()}

    def scale(self, up: bool, seconds: float) -> Any:
        """See `Scaling`."""
        return (self._scaling.scale_up if up else self._scaling.scale_down)(self._cluster, seconds)

    def close(self) -> Any:
        """Have the workers remove what was copied to them; returns what is left there, for people."""
        left = self.delivery.withdraw() if self._client is not None and self.delivery is not None else []
        super().close()
        return left


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
        problem, tls = "", address.startswith("tls://")
        if tls and not _is_distrust(said) and (refused := reach.refusal(address, arguments["ssl_context"])):
            said = refused
        if tls and _is_distrust(said, *map(str, causes)):
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


def _is_distrust(*said: str) -> bool:
    return any(word in one.lower() for one in said for word in ("certificate", "alert"))


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


def _result(answer: Answer) -> Answer:
    """Return what the function that a worker was sent returned, without Dask's envelope."""
    if "value" not in answer or answer["value"].get("status") == "OK":
        return {"value": answer["value"]["result"]} if "value" in answer else answer
    return {"error": str(answer["value"].get("exception_text") or answer["value"].get("text"))}


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


def methods(connection: Attached) -> agent.Methods:
    """Return what pytest may call. Only `deliver` and what needs it write to a deployment, and `scale` changes it."""
    tasks = Tasks(connection)
    jobs, bundles = Jobs(tasks), ClientBundles(connection)
    delivery = connection.delivery = Delivery(connection, tasks, connection.files)
    return {
        "connect": connection.connect,
        "workers": connection.workers,
        "facts": connection.facts,
        "look": connection.look,
        "origins": origins,
        "close": connection.close,
        "scale": connection.scale,
        "call_each": tasks.call_each,
        "aggregate": jobs.aggregate,
        "places": delivery.places,
        "served": lambda: delivery.served,
        "deliver": delivery.deliver,
        "ask_workers": functools.partial(bundles.ask_workers, served=delivery.served),
        "run_bundle": jobs.run_bundle,
        "look_at_source": lambda source, files: {
            "missing": inspection.missing_in(str(Path(connection.files, source)), files)
        },
    }


if __name__ == "__main__":
    agent.main(Attached, methods)
