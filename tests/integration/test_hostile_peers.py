"""Every peer of tests/servers on a real cell: green, or red for its reason and in time.

In containers there are those whose verdict depends on how processes start, end and are found; what is read of a peer is
read by the same code. One run for each protocol and backend holds all peers: its runner is their directory, which
becomes the peer that a bundle names. Each test reads what the report says of its bundle.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.integration.conftest import AT_ONCE, BUNDLE_CHECKS, UNKNOWN, Reported, RunOnce

REPOSITORY = Path(__file__).parents[2]
SERVERS = REPOSITORY / "tests" / "servers"
DEADLINE = 3
"""Of `handshake` and `execute`, in seconds."""
READS_STDIN = (REPOSITORY / "fixtures" / "bundles" / "reads-stdin" / "wire.py").read_text("utf-8")
WIRE = "def wire(entrypoint, params, seed):\n    return {'reported.txt': b'reported'}\n"
READS_IN_TASK = READS_STDIN.replace('subprocess.run(["cat"], stdout=subprocess.PIPE, check=True).stdout', "b''", 1)
TAKES_A_BIT = READS_STDIN.replace('["cat"]', '["head", "-c", "5"]', 1)
TARGETS = "def loss(sim_returns, target_data):\n    return {'loss': 1.0}\n"
TEXT = 200_000 * "é"
"""Far more than a pipe holds."""


@dataclasses.dataclass(frozen=True)
class Peer:
    """What one does to its bundle.

    Attributes:
        check: where it breaks; empty for one that is in nobody's way.
        expected: of the message, in this order.
        hangs: whether it is timed out.
        file: of the peer, if the bundle is named otherwise.
        wire: the bundle's wire module.
        replicates: of each parameter set; most peers say that they aggregated one.
    """

    check_name: str = ""
    expected: tuple[str, ...] = ()
    hangs: bool = False
    file: str = ""
    wire: str = WIRE
    replicates: int = 1


GREEN = Peer()
SILENT = f"did not answer `ready` within the deadline of {DEADLINE} s, and still ran"
OUTSIDE = "stdout carried something else than JSON-RPC frames before the answer to `ready`: "
BESIDES = "stdout carried something else than the one JSON document that answers `ready`: "
JSON_RPC: Mapping[str, Peer] = {
    "answers_in_reverse": Peer(
        "execute", (f"did not answer `execute` within the deadline of {DEADLINE} s", "in read"), hangs=True
    ),
    "answers_out_of_order": GREEN,
    "asks_back": GREEN,
    "closes_stdout": Peer("handshake", ("its runner closed its stdout and still runs before its JSON-RPC",)),
    "echoes": Peer("handshake", ("its runner answered `ready` with None, not with ready: true",)),
    "exits_early": Peer(
        "handshake",
        (
            "its runner exited with code 3 before its JSON-RPC handshake. First cause: ModuleNotFoundError: ",
            "'scipy_that_is_not' (",
            "exits_early.py, line ",
            "and so it cannot start",
        ),
    ),
    "fails_after_shutdown": Peer(
        "handshake", ("its runner exited with code 3 after `shutdown`; it has to exit with code 0",)
    ),
    "garbled": Peer(
        "handshake", (f"{OUTSIDE}'not: json'", "answered `ready` with what is no JSON-RPC message: 'not: json'")
    ),
    "hangs_with_an_orphan": Peer("handshake", (SILENT, "hangs_with_an_orphan.py"), hangs=True),
    "ignores_shutdown": Peer("handshake", ("its runner did not end within ", "s after `shutdown`", "in read")),
    "leaves_a_child": Peer("handshake", ("when its runner had ended, this was left of it", "time.sleep(60)")),
    "lines": Peer(
        "handshake",
        ("its runner answered `ready` with JSON without a frame", "`Content-Length: N`", "-32700", "Parse error"),
    ),
    "loses_replicates": Peer(
        "bundle-aggregation", ("it says that it aggregated 1 replicates; it was given 3",), replicates=3
    ),
    "noisy_stderr": GREEN,
    "notification_first": GREEN,
    "names_another_s_process": Peer(
        "handshake",
        ("its answer to `ready` names pid ", "which is no descendant of its runner (pid ", "A stored answer"),
    ),
    "names_a_process_that_is_gone": Peer(
        "handshake",
        ("its answer to `ready` names pid ", "which does not exist; it is no process that its runner (pid "),
    ),
    "odd_frames": GREEN,
    "prints_between": Peer("handshake", (rf"{OUTSIDE}'Loading: ready\n'",)),
    "refuses": Peer("handshake", ("`ready` was answered with error -32603: not today", "data: {'why': 'it refuses'}")),
    "silent": Peer("handshake", (SILENT, "silent.py"), hangs=True),
    "slow_reader": Peer("handshake", (SILENT, "slow_reader.py"), hangs=True),
    "users_runner": GREEN,
    "users_runner-reads-stdin": Peer(
        "handshake", (SILENT, 'File "wire.py", line 5 in <module>'), True, "users_runner", READS_STDIN
    ),
    "users_runner-reads-stdin-in-task": Peer(
        "execute",
        (f"did not answer `execute` within the deadline of {DEADLINE} s", 'File "wire.py", line 9 in wire'),
        hangs=True,
        file="users_runner",
        wire=READS_IN_TASK,
    ),
    "users_runner-takes-a-bit": Peer(
        "handshake", (SILENT, 'users_runner.py", line', "in read"), True, "users_runner", TAKES_A_BIT
    ),
    "wrong_count": Peer("handshake", (OUTSIDE, "answered `ready` with what is no JSON-RPC message: ")),
    "wrong_digest": Peer("handshake", ("its runner answers for the bundle digest '0000", "and was started for ")),
    "wrong_id": Peer("handshake", (SILENT, "It sent an answer to nothing that was asked: ", '"id": 1001'), hangs=True),
}
ONE_SHOT: Mapping[str, Peer] = {
    "one_shot": Peer(replicates=3),
    "one_shot_answers_twice": Peer("handshake", (BESIDES, r"""'\n{"result": {"ready": true""")),
    "one_shot_broken_json": Peer("handshake", ("answered `ready` with '{", "not a JSON document: Expecting")),
    "one_shot_does_not_end": Peer(
        "handshake",
        (
            f"did not end after `ready` within the deadline of {DEADLINE} s, having printed '{{",
            "one_shot_does_not_end.py",
        ),
        hangs=True,
    ),
    "one_shot_exits_3": Peer(
        "handshake",
        ("its runner exited with code 3 during `ready`, having printed '{", "First cause: OSError: no space left."),
    ),
    "one_shot_is_killed": Peer(
        "handshake",
        ("its runner was killed by SIGKILL during `ready`, having printed nothing to stdout.", "to stderr."),
    ),
    "one_shot_is_warm": Peer(
        "handshake", ("both of its answers to `ready` came from process 1: it is no one-shot runner",)
    ),
    "one_shot_leaves_a_server": Peer(
        "handshake", ("when its runner had ended, this was left of it", "time.sleep(600)")
    ),
    "one_shot_names_a_process_that_is_gone": Peer(
        "handshake",
        ("its answer to `ready` names pid ", "which does not exist; it is no process that its runner (pid "),
    ),
    "one_shot_no_answer": Peer(
        "handshake", ('answered `ready` with \'{"ready"', 'a document with neither a "result" nor an "error", or')
    ),
    "one_shot_prints_after": Peer("handshake", (rf"{BESIDES}' done\n'",)),
    "one_shot_prints_before": Peer("handshake", (rf"{BESIDES}'loading the model\n'",)),
    "one_shot_says_nothing": Peer(
        "handshake", ("its runner exited with code 0 during `ready`, having printed nothing to stdout.",)
    ),
    "users_runner": Peer("handshake", ("its runner exited with code 0 during `ready`, having printed nothing",)),
}
PEERS = {"json-rpc": JSON_RPC, "one-shot": ONE_SHOT}
IN_CONTAINERS = {
    "asks_back",
    "closes_stdout",
    "exits_early",
    "fails_after_shutdown",
    "hangs_with_an_orphan",
    "ignores_shutdown",
    "leaves_a_child",
    "names_a_process_that_is_gone",
    "names_another_s_process",
    "odd_frames",
    "users_runner",
    "users_runner-reads-stdin-in-task",
    "one_shot",
    "one_shot_does_not_end",
    "one_shot_exits_3",
    "one_shot_is_killed",
    "one_shot_is_warm",
    "one_shot_leaves_a_server",
    "one_shot_names_a_process_that_is_gone",
}
"""Peers whose verdict takes the kernel's word: what runs, how it ended and what is left; and some that are green."""
CAUSES: Mapping[str, str] = {
    "exits_early": "import-error-in-runner",
    "lines": "runner-without-frames",
    "users_runner-reads-stdin": "import-does-not-end",
    **dict.fromkeys(("garbled", "prints_between", "wrong_count"), "prints-to-stdout"),
    **dict.fromkeys(("one_shot_answers_twice", "one_shot_prints_after", "one_shot_prints_before"), "prints-to-stdout"),
}
CELLS = {
    "process": "",  # this Python and its Dask
    "docker": '[tool.modelops.matrix]\npython = ["3.12"]\ndask = ["2024.10.0"]\n',
}


def peers_of(protocol: str, backend: str) -> Mapping[str, Peer]:
    everyone = PEERS[protocol].items()
    return {name: peer for name, peer in everyone if backend == "process" or name in IN_CONTAINERS}


def configuration(directory: Path, *, protocol: str, backend: str) -> str:
    """A bundle for each peer of a protocol, and one cell of one worker."""
    lines = []
    for name, peer in peers_of(protocol, backend).items():
        bundle = directory / name
        bundle.mkdir()
        files = {"peer.txt": f"{peer.file or name}.py\n", "wire.py": peer.wire, "targets.py": TARGETS}
        for file, text in files.items():
            (bundle / file).write_text(text, encoding="utf-8")
        params = f'params = {{ text = "{TEXT}" }}, ' if name == "odd_frames" else ""
        job = f"{{ params = 1, replicates = {peer.replicates} }}"
        keys = f'entrypoint = "wire/run", {params}target = "targets:loss", aggregation = {job}'
        lines.append(f'  {{ path = "{bundle}", {keys} }},')
    return "\n".join(
        [
            *("[tool.modelops]", "workers = 1", 'start = "fork-workers"', "bundles = [", *lines, "]", CELLS[backend]),
            *("[tool.modelops.runner]", f'path = "{SERVERS}"', f'protocol = "{protocol}"'),
            *("[tool.modelops.aggregation]", "params = 3", "replicates = 3"),
            *("[tool.modelops.deadlines]", f"handshake = {DEADLINE}", f"execute = {DEADLINE}", ""),
        ]
    )


@pytest.fixture(scope="session")
def reported(run_once: RunOnce, request: pytest.FixtureRequest) -> Callable[[str, str], Reported]:
    """What the run with a protocol's peers said on a backend."""

    def of(backend: str, protocol: str) -> Reported:
        engine = request.getfixturevalue("engine") if backend == "docker" else None
        configure = functools.partial(configuration, protocol=protocol, backend=backend)
        return run_once(f"peers-{protocol}-{backend}", configure, engine=engine)

    return of


@pytest.mark.parametrize(
    ("backend", "protocol", "name"),
    [(backend, protocol, name) for backend in CELLS for protocol in PEERS for name in peers_of(protocol, backend)],
)
def test_a_peer(reported: Callable[[str, str], Reported], backend: str, protocol: str, name: str) -> None:
    peer = PEERS[protocol][name]
    if not peer.check_name:
        reported(backend, protocol).passed(name, *BUNDLE_CHECKS)
        return
    status, within = ("timed-out", DEADLINE + 2) if peer.hangs else ("failed", AT_ONCE)
    cause = CAUSES.get(name, UNKNOWN)
    reported(backend, protocol).broke(name, peer.check_name, status, within=within, cause=cause).says(*peer.expected)


@pytest.mark.parametrize("backend", CELLS)
def test_large_params_and_answers_pass_in_pieces_with_odd_headers(
    reported: Callable[[str, str], Reported], backend: str
) -> None:
    [size] = reported(backend, "json-rpc").checks["odd_frames", "execute"].data["artifacts"].values()
    assert size > 6 * len(TEXT), "as JSON writes it"


def test_every_peer_has_its_test() -> None:
    tested = {peer.file or name for peers in PEERS.values() for name, peer in peers.items()}
    elsewhere = {
        "answers_anything": "test_answers_of_others.py",
        "careful_installing_runner": "test_reuse_of_environments.py",
        "keeping_runner": "test_reuse_of_environments.py",
        "keeps_results": "test_other_code_and_kept_answers.py",
        "naive_installing_runner": "test_reuse_of_environments.py",
    }
    for name, file in elsewhere.items():
        assert name in (Path(__file__).parent / file).read_text(encoding="utf-8")
    assert tested | elsewhere.keys() == {path.stem for path in SERVERS.glob("*.py")} - {"__main__", "answering"}
