"""The agent: holds the cell's `distributed.Client` and answers pytest over JSON-RPC on stdin and stdout.

A long file, since it is the list of what may be asked: one method a request, and what they share.

Run as `python -m modelops_remote.client.agent '{"scheduler_file": …}' SECONDS`, with the client's own Python.
Each request is
answered in a thread of its own, so that one which hangs blocks no other. When stdin ends, pytest is gone and the agent
leaves at once, whatever it is doing. Anything printed goes to stderr; stdout carries frames alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..runner import inspection
from ..shared import jsonrpc, plain
from ..worker import modelops_preload, plugins
from ..worker.bundles import Bundles

_POLL_SECONDS = 0.01
_LOOK_AROUND_SECONDS = 0.5
"""How often the scheduler is asked who is still there, while tasks are awaited."""
_RUNNER_GRACE_SECONDS = 1.0
"""How much later than its runner's time is over the word of it is there, stacks included."""
_LAST_SECONDS = 0.4
"""How long the scheduler has to say where tasks are, when their time is over."""


class Failure(Exception):
    """A request failed, in words for people; `traceback` is the cell's own."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


def define(module: Mapping[str, str]) -> Any:
    """The function of a shipped module, `{"source": …, "name": …}`.

    Its namespace has a name that no module has, so cloudpickle sends it by value, as it does with the functions of
    a job's script.
    """
    namespace: dict[str, Any] = {"__name__": "__modelops__"}
    try:
        exec(compile(module["source"], f"<{module['name']}>", "exec"), namespace)  # noqa: S102 - what it is for
    except Exception as error:
        raise Failure(
            f"{module['name']} could not be defined in the client's Python: {type(error).__name__}: {error}",
            traceback.format_exc(),
        ) from error
    return namespace[module["name"]]


def in_words(error: BaseException) -> str:
    """`Type: text`, with the first line of text only once."""
    return f"{type(error).__name__}: {error}"


class Agent:
    """The methods that pytest may call; each takes and returns plain data."""

    def __init__(self, contact: Mapping[str, str], seconds: float) -> None:
        self._client: Any = None
        self._bundles = Bundles("agent")
        self._installed = self._plugin = ""
        self._late: dict[str, str] = {}  # key → worker of each task that was not done when its time was over
        self._connected = threading.Event()
        self._error: BaseException | None = None
        self._trace = ""
        # The import takes longest of all, so it begins while scheduler and workers start too.
        threading.Thread(target=self._connect, args=(contact, seconds), daemon=True).start()

    def _connect(self, contact: Mapping[str, str], seconds: float) -> None:
        try:
            from distributed import Client

            self._client = Client(**contact, timeout=seconds, set_as_default=False, name="modelops-agent")
        except BaseException as error:  # noqa: BLE001 - reported to whoever asks, in `connect`
            self._error, self._trace = error, traceback.format_exc()
        self._connected.set()

    @property
    def client(self) -> Any:
        """The connected client."""
        if self._client is None:
            raise Failure("the client is not connected" + (f": {in_words(self._error)}" if self._error else ""))
        return self._client

    def _scheduler(self, operation: str, *, seconds: float = 10.0, **arguments: Any) -> Any:
        """Ask the scheduler over Dask's own connection; plain data both ways."""

        async def ask() -> Any:
            return await getattr(self.client.scheduler, operation)(**arguments)

        try:
            return self.client.sync(ask, callback_timeout=seconds)
        except asyncio.TimeoutError as error:  # another class than TimeoutError before Python 3.11
            raise TimeoutError(f"the scheduler did not answer {operation!r} within {seconds:.0f} s") from error

    def _broadcast(self, message: Mapping[str, Any], workers: list[str], *, seconds: float, nanny: bool = False) -> Any:
        """Ask workers, or their nannies, through the scheduler; answers by worker, of which one may be an exception."""
        return self._scheduler(
            "broadcast", seconds=seconds, msg=message, workers=workers, nanny=nanny, on_error="return"
        )

    def connect(self, seconds: float) -> dict[str, Any]:
        """Wait until the client is connected."""
        if not self._connected.wait(seconds):
            return {"connected": False}
        if self._error is not None:
            raise Failure(in_words(self._error), self._trace) from self._error
        return {"connected": True, "scheduler": self.client.scheduler.address}

    def workers(self, seconds: float = 10.0) -> dict[str, Any]:
        """Address → name and resources of every worker that is registered."""
        reply = self._scheduler("identity", seconds=seconds)["workers"]
        return {
            address: {"name": str(worker.get("name") or worker.get("id")), "resources": worker.get("resources", {})}
            for address, worker in reply.items()
        }

    def nannies_watch(self, workers: list[str], seconds: float) -> bool:
        """Whether the nannies of these registered workers have noticed that they run.

        A nanny answers nobody before it has started, and that is when it has noticed.
        """
        try:
            self._broadcast({"op": "identity"}, workers, seconds=seconds, nanny=True)
        except (TimeoutError, KeyError):  # the latter where a worker has left in the meantime
            return False
        return True

    def facts(self, variables: list[str], seconds: float) -> dict[str, Any]:
        """What every process says of itself, as `{"client": …, "scheduler": …, "workers": {address: …}}`.

        A process that says nothing has `{"silent": why}`, one that fails to `{"error": why}`. All are asked at once;
        `seconds` is for all of them.
        """
        answers: dict[str, Any] = {}

        def ask(name: str) -> None:
            try:
                if name == "scheduler":
                    answers[name] = self._scheduler("modelops_facts", seconds=seconds)
                else:
                    answers[name] = self._worker_facts(name, variables, seconds)
            except TimeoutError:
                answers[name] = {"silent": f"no answer within {seconds:.0f} s"}
            except Exception as error:  # noqa: BLE001 - it is the answer
                answers[name] = {"error": in_words(error)}

        in_threads(ask, ["scheduler", *self.workers(seconds)])
        scheduler = answers.pop("scheduler")
        return {"client": modelops_preload.facts(), "scheduler": scheduler, "workers": answers}

    def _worker_facts(self, address: str, variables: list[str], seconds: float) -> Any:
        message = {"op": "modelops_facts", "variables": variables}
        answer = self._broadcast(message, [address], seconds=seconds)[address]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def call_each(
        self, module: dict[str, str], args: list[Any], workers: list[str | None], seconds: float
    ) -> dict[str, Any]:
        """Run a function on each of these workers, all at once; `None` is any of them.

        Returns, by address, `None` as text: `{"value": …}`, `{"error": …, "traceback": …}`, `{"gone": …}` or
        `{"pending": …}`.
        """
        function = define(module)
        arguments = [plain.unpack(value) for value in args]
        submitted = {
            str(address): self.client.submit(
                function, *arguments, pure=False, **({"workers": [address]} if address else {})
            )
            for address in workers
        }
        outcomes, _ = self._settle(submitted, pinned={str(a): a for a in workers if a}, seconds=seconds)
        return outcomes

    def _settle(
        self, futures: Mapping[str, Any], *, pinned: Mapping[str, str], seconds: float
    ) -> tuple[dict[str, dict[str, Any]], Mapping[str, Any] | None]:
        """Wait until each future is done, its worker is gone, or the time is over.

        Returns:
            Outcomes, as in `call_each`; and keys by worker of what is still processing, `None` if the scheduler does
            not answer.
        """
        end = time.monotonic() + seconds
        look_around = time.monotonic() + _LOOK_AROUND_SECONDS
        gone: dict[str, str] = {}
        while any(future.status == "pending" for name, future in futures.items() if name not in gone):
            if time.monotonic() > end:
                break
            if time.monotonic() > look_around:
                # A task that is bound to a worker which died waits for ever, and Dask says nothing.
                with contextlib.suppress(TimeoutError):  # the scheduler may be busy; it has until the end
                    present = self.workers(max(0.0, end - time.monotonic()))
                    gone.update(
                        {n: a for n, a in pinned.items() if a not in present and futures[n].status == "pending"}
                    )
                look_around = time.monotonic() + _LOOK_AROUND_SECONDS
            time.sleep(_POLL_SECONDS)
        pending = any(future.status == "pending" for name, future in futures.items() if name not in gone)
        processing = self._processing() if pending else {}
        ours = {str(key) for key, state in list(self.client.futures.items()) if state.status == "pending"}
        for worker, keys in (processing or {}).items():
            self._late |= {str(key): worker for key in keys if str(key) in ours}
        outcomes = {
            name: {"gone": f"{gone[name]} left the cluster while the task was on it"}
            if name in gone
            else self._outcome(future, processing, max(1.0, end - time.monotonic()))
            for name, future in futures.items()
        }
        return outcomes, processing

    def _outcome(self, future: Any, processing: Mapping[str, Any] | None, seconds: float) -> dict[str, Any]:
        if future.status == "pending" or processing is None:  # without a scheduler no result can be had
            return {"pending": where(future.key, processing)}
        try:
            if future.status == "error":
                # With the worker's own traceback, instead of one through the client that asks.
                error, trace = future.exception(timeout=10), future.traceback(timeout=10)
            else:
                result = future.result(timeout=seconds)
                try:
                    return {"value": plain.pack(result, "what it returned")}
                except TypeError as refusal:
                    return {"error": str(refusal), "traceback": ""}
        except (TimeoutError, asyncio.TimeoutError):
            return {"pending": "done, but what it returned had not arrived by then"}
        except Exception as failure:  # noqa: BLE001 - a result that cannot come back is an outcome too
            error, trace = failure, failure.__traceback__
        return {"error": in_words(error), "traceback": "".join(traceback.format_exception(type(error), error, trace))}

    def stuck(self, seconds: float) -> list[str]:
        """Addresses of the workers that are still on a task whose time was over, or do not say what they are on."""
        late, self._late = self._late, {}
        present = [address for address in self.workers(seconds) if address in late.values()]
        answers = self._ask_each(present, {"op": "modelops_running"}, seconds)
        return [address for address, answer in answers.items() if late.keys() & set(answer.get("value", late.keys()))]

    def _processing(self) -> Mapping[str, Any] | None:
        """Keys of the tasks that each worker has, as the scheduler says; `None` if it is silent."""
        try:
            reply: Mapping[str, Any] = self._scheduler("processing", seconds=_LAST_SECONDS)
        except TimeoutError:
            return None
        return reply

    def aggregate(
        self, modules: dict[str, dict[str, str]], params: int, replicates: int, run: str, seconds: float
    ) -> dict[str, Any]:
        """Fan `params` × `replicates` tasks in to `params` aggregates, as futures, the way a job submits them.

        `modules` holds `simulate(param, replicate)`, `aggregate(param, replicates)` and `read_back(path)`. Each
        aggregate is written by the worker that ran it and read back there.

        Returns: `{"results": {param: outcome}, "tasks": n, "seconds": s, "simulated": n, "failed": {key: words},
        "processing": {address: n} | None}`, outcomes as in `call_each`; `simulated` counts the replicates that were
        done, `failed` has the first few that were not, `processing` is `None` when the scheduler did not answer.
        """
        end = time.monotonic() + seconds
        simulate, aggregate, read_back = (define(modules[name]) for name in ("simulate", "aggregate", "read_back"))
        has_resource = any(worker["resources"].get("aggregation") for worker in self.workers(seconds).values())
        extra = {"resources": {"aggregation": 1}} if has_resource else {}
        tasks = params * replicates + params
        numbers = itertools.count()

        def submit(function: Any, *args: Any, **options: Any) -> Any:
            number = next(numbers)
            if time.monotonic() > end:
                raise TimeoutError(f"{number} of {tasks} tasks were submitted until then")
            return self.client.submit(function, *args, pure=False, **options)

        began = time.monotonic()
        replicas = {
            param: [submit(simulate, param, i, key=f"sim-{run}-{param}-{i}") for i in range(replicates)]
            for param in range(params)
        }
        aggregates = {
            str(param): submit(aggregate, param, sims, key=f"agg-{run}-{param}", **extra)
            for param, sims in replicas.items()
        }
        outcomes, processing = self._settle(aggregates, pinned={}, seconds=end - time.monotonic())
        took = time.monotonic() - began
        done = {param: plain.unpack(outcome["value"]) for param, outcome in outcomes.items() if "value" in outcome}
        if len(done) == params:
            reading = {
                param: self.client.submit(read_back, reply["path"], pure=False, workers=[reply["worker"]])
                for param, reply in done.items()
            }
            pinned = {param: reply["worker"] for param, reply in done.items()}
            outcomes, processing = self._settle(reading, pinned=pinned, seconds=end - time.monotonic())
        errors = [future for sims in replicas.values() for future in sims if future.status == "error"]
        return {
            "results": outcomes,
            "tasks": tasks,
            "seconds": took,
            "simulated": sum(future.status == "finished" for sims in replicas.values() for future in sims),
            "failed": {future.key: in_words(future.exception(timeout=10)) for future in errors[:5]},
            "processing": processing and {worker: len(keys) for worker, keys in processing.items()},
        }

    def ask_workers(
        self, operation: str, arguments: dict[str, Any], workers: list[str], seconds: float
    ) -> dict[str, Any]:
        """Have these workers do something with a bundle (see `bundles.py`), all at once and not as tasks.

        Returns, by address: `{"value": packed}`, `{"error": words}` or `{"silent": why}`.
        """
        message = {"op": "modelops_bundles", "operation": operation, "arguments": arguments}
        answers = self._ask_each(workers, message, seconds)
        for answer in answers.values():
            if "value" in answer and "raised" in answer["value"]:
                answer.update(error=answer.pop("value")["raised"])
            elif "value" in answer:
                answer.update(value=plain.pack(answer["value"]["value"]))
        return answers

    def _ask_each(self, workers: list[str], message: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send a message to each of these workers, all at once; by address `value`, `error` or `silent`."""
        answers: dict[str, Any] = {}

        def ask(address: str) -> None:
            try:
                reply = self._broadcast(message, [address], seconds=seconds)[address]
                answers[address] = {"error": in_words(reply)} if isinstance(reply, BaseException) else {"value": reply}
            except TimeoutError:
                answers[address] = {"silent": f"no answer within {seconds:.0f} s"}
            except Exception as error:  # noqa: BLE001 - it is the answer
                answers[address] = {"error": in_words(error)}

        in_threads(ask, workers)
        return answers

    def register_plugin(self, path: str, arguments: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Make a worker plugin in this Python, as a job's client does, and register it.

        Args:
            path: `module:Class`.
            arguments: packed, by keyword.

        Returns: what was looked up while it was made (see `plugins.Reads`), `"missing"`: those variables of it that are
        not set, and `{"unmade": words, "traceback": …, "module": a missing module's name}`; or `{"name": …, "gone":
        addresses of workers that left meanwhile}` and, where registering raised, `{"error": words, "traceback": …}`.
        What became of it on the workers, they tell themselves (see `probe`).
        """
        end = time.monotonic() + seconds
        reply: dict[str, Any] = {}
        with plugins.reads() as noted:
            try:
                given = {name: plain.unpack(value) for name, value in arguments.items()}
                plugin = plugins.make(path, given)
            except BaseException as error:  # noqa: BLE001 - also a SystemExit of a module is an answer
                reply |= {"unmade": plugins.in_words(error), "traceback": traceback.format_exc()}
                reply |= {"module": error.name} if isinstance(error, ModuleNotFoundError) else {}
        reply |= noted.facts()
        reply["missing"] = [name for name in reply["read"] if name not in os.environ]
        if "unmade" in reply:
            return reply
        reply["name"] = str(getattr(plugin, "name", None) or path)
        before = self.workers(seconds)

        def register() -> None:
            try:
                plugins.register(self.client, plugin, reply["name"])
            except BaseException as error:  # noqa: BLE001 - it is the answer
                reply.update(error=plugins.in_words(error), traceback=traceback.format_exc())

        registering = threading.Thread(target=register, daemon=True)
        registering.start()
        while registering.is_alive():
            registering.join(_LOOK_AROUND_SECONDS)
            if not registering.is_alive():
                break
            if time.monotonic() > end:
                raise TimeoutError(
                    f"`register_plugin` did not return within {seconds:.0f} s: the plugin's setup has not ended on "
                    "every worker"
                )
            if gone := self._gone(before, end):
                return {**reply, "gone": gone}
        return {**reply, "gone": self._gone(before, end) if "error" in reply else []}

    def _gone(self, before: Iterable[str], end: float) -> list[str]:
        """Which of these workers are not registered any more; none when the scheduler does not say."""
        with contextlib.suppress(TimeoutError):
            return sorted(set(before) - set(self.workers(max(0.1, end - time.monotonic()))))
        return []

    def probe(
        self, plugin: str, paths: list[str], variables: list[str], workers: list[str], seconds: float
    ) -> dict[str, Any]:
        """What these workers have at dotted paths, and what became of a plugin there (see `plugins.serve`).

        Returns, by address: `{"value": …}`, `{"error": words}` or `{"silent": why}`.
        """
        message = {"op": "modelops_probe", "plugin": plugin, "paths": paths, "variables": variables}
        return self._ask_each(workers, message, seconds)

    def install_bundle(
        self, name: str, arguments: dict[str, Any], here: dict[str, Any], seconds: float
    ) -> dict[str, Any]:
        """Install a bundle in every worker, by a worker plugin, and in this process, in place of any other one.

        Args:
            name: the plugin's.
            arguments, here: of `Bundles.install_in_process`, on workers and here.
            seconds: for all of it.

        Returns:
            `{}`, or `{"error": why registering the plugin failed}`. See `inspect_process`.
        """
        from ..worker import installer_plugin

        self.uninstall_bundle(seconds)
        reply: dict[str, Any] = {}
        self._plugin, self._installed = name, here["location"]["name"]
        plugin = installer_plugin.InstallBundle(name, arguments)

        def register() -> None:
            try:
                plugins.register(self.client, plugin, name)
            except BaseException as error:  # noqa: BLE001 - it is the answer
                reply["error"] = in_words(error)

        registering = threading.Thread(target=register, daemon=True)
        registering.start()
        began = time.monotonic()
        self._bundles.install_in_process(**here)
        registering.join(max(0.0, seconds - (time.monotonic() - began)))
        if registering.is_alive():
            raise TimeoutError(f"`register_plugin` did not return within {seconds:.0f} s")
        return reply

    def uninstall_bundle(self, seconds: float) -> dict[str, Any]:
        """Uninstall the bundle that was installed last; returns `{}`, or `{"error": why that failed}`."""
        installed, self._installed = self._installed, ""
        plugin, self._plugin = self._plugin, ""
        reply: dict[str, Any] = {}
        if installed:
            self._bundles.uninstall(installed)
        if plugin:
            try:
                self._scheduler("unregister_worker_plugin", seconds=seconds, name=plugin)
            except Exception as error:  # noqa: BLE001 - it is the answer
                reply["error"] = in_words(error)
        return reply

    def look_at_source(self, source: str, files: dict[str, str]) -> dict[str, Any]:
        """What the client has of a bundle that it never imports: `{"missing": [module]}` (see `look.missing_in`)."""
        return {"missing": inspection.missing_in(source, files)}

    def inspect_process(self, **arguments: Any) -> Any:
        """What this process has of a bundle (see `Bundles.inspect_process`)."""
        return plain.pack(self._bundles.inspect_process(**arguments))

    def run_bundle(
        self,
        *,
        modules: dict[str, dict[str, str]],
        location: dict[str, Any],
        entrypoint: str,
        sets: list[list[dict[str, Any]]],
        targets: list[str],
        target_data: dict[str, Any],
        run: str,
        seconds: float,
    ) -> dict[str, Any]:
        """Run a bundle in the graph the way a job submits it: replicates, and targets that depend on them.

        Args:
            modules: `replicate`, `aggregate` and `summarize` (see `checks/bundle_tasks.py`).
            sets: for each parameter set its replicates, `{"params", "seed", "worker": address or None}`.
            seconds: for the runners; what comes back may take a moment longer.

        Returns: `{"replicates": {"0-1": outcome}, "aggregates": {"0-<target>": outcome}, "seconds": s}`, outcomes as in
        `call_each`; the value of a replicate's is its summary.
        """
        replicate, aggregate, summarize = (define(modules[n]) for n in ("replicate", "aggregate", "summarize"))
        end = time.time() + seconds
        until = time.monotonic() + seconds + _RUNNER_GRACE_SECONDS
        present = self.workers(seconds)
        has_resource = any(worker["resources"].get("aggregation") for worker in present.values())
        extra = {"resources": {"aggregation": 1}} if has_resource else {}
        began = time.monotonic()
        submit, simulated, aggregated, pinned = self.client.submit, {}, {}, {}
        for number, replicates in enumerate(sets):
            for index, one in enumerate(replicates):
                name, task_id = f"{number}-{index}", f"sim-{run}-{number}-{index}"
                where: dict[str, Any] = {"workers": [one["worker"]]} if one["worker"] else {}
                simulated[name] = submit(
                    *(replicate, location, task_id, entrypoint, one["params"], one["seed"], end),
                    **{"key": task_id, "pure": False, **where},
                )
                if one["worker"]:
                    pinned[name] = one["worker"]
            of_set = [simulated[f"{number}-{index}"] for index in range(len(replicates))]
            for target in targets:
                aggregated[f"{number}-{target}"] = submit(
                    *(aggregate, location, of_set, target, target_data, end),
                    **{"key": f"agg-{run}-{number}-{target}", "pure": False, **extra},
                )
        summaries = {name: submit(summarize, future, pure=False) for name, future in simulated.items()}
        aggregates, _ = self._settle(aggregated, pinned={}, seconds=until - time.monotonic())
        reply, _ = self._settle(summaries, pinned=pinned, seconds=until - time.monotonic())
        return {"replicates": reply, "aggregates": aggregates, "seconds": time.monotonic() - began}

    def close(self) -> bool:
        """Close the client, so that the scheduler forgets it before it is reported to end."""
        if self._client is not None:
            self._client.close(timeout=1)
        return True


def where(key: str, processing: Mapping[str, Any] | None) -> str:
    """Where a task is that is not done, from what the scheduler says of those that workers have."""
    if processing is None:
        return "unaccounted for, because the scheduler does not answer"
    for worker, keys in processing.items():
        if key in keys:
            others = [str(other) for other in keys if other != key]
            besides = f", which also has {', '.join(others[:3])} to do" if others else ""
            return f"processing on {worker}{besides}"
    return "not assigned to any worker"


def in_threads(function: Callable[[str], None], names: Iterable[str]) -> None:
    """Call the function for each name, all at once, and wait."""
    threads = [threading.Thread(target=function, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def serve(agent: Agent, requests: Any, writer: jsonrpc.Writer) -> None:
    """Answer until stdin ends."""

    def answer(message: dict[str, Any]) -> None:
        method = getattr(agent, message["method"], None)
        if method is None or message["method"].startswith("_"):
            code, text = jsonrpc.METHOD_NOT_FOUND, f"no method {message['method']!r}"
            writer.send({"id": message["id"], "error": {"code": code, "message": text}})
            return
        try:
            result = method(**message["params"])
        except BaseException as error:  # noqa: BLE001 - every request gets an answer
            code = jsonrpc.TIMED_OUT if isinstance(error, TimeoutError) else jsonrpc.SERVER_ERROR
            plainly = isinstance(error, Failure | TimeoutError)
            text = str(error) if plainly else in_words(error)
            trace = error.trace if isinstance(error, Failure) else traceback.format_exc()
            error_object = {"code": code, "message": text, "data": {"traceback": trace}}
            writer.send({"id": message["id"], "error": error_object})
        else:
            writer.send({"id": message["id"], "result": result})

    while (message := jsonrpc.read_message(requests)) is not None:
        threading.Thread(target=answer, args=(message,), daemon=True).start()


def main() -> None:
    """Keep the real stdout for frames, give everything else stderr, and serve."""
    frames = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    agent = Agent(json.loads(sys.argv[1]), float(sys.argv[2]))
    serve(agent, sys.stdin.buffer, jsonrpc.Writer(frames))
    os._exit(0)  # threads may hang in Dask; nobody is left to wait for them


if __name__ == "__main__":
    main()
