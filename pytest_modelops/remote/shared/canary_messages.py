"""What a canary answers, and what workers report about asking one. Standard library only, Python 3.9 and up."""

from __future__ import annotations

from typing import TypedDict

from .bundle_messages import InstallFailure, Outcome, RunnerEnd
from .facts import Interpreter


class _CanaryAnswer(TypedDict):
    """What a canary says about itself."""

    variant: str  # which copy of the bundle it is
    moment: int  # when it was executed, in nanoseconds since the epoch
    wire: str  # the file of the wire function's module
    modules: dict[str, list[str]]  # top-level module → its file, or a namespace package's directories; empty if absent


class CanaryAnswer(_CanaryAnswer, total=False):
    """All that a canary says."""

    runs: Interpreter  # the Python that executed it; absent where it cannot say


class Variant(TypedDict):
    """A canary that `venv-reuse` copied into the cell."""

    source: str  # directory of its files
    wheels: str  # directory of the wheels that it is installed from
    digest: str  # of its files, as of every bundle's


class Use(TypedDict):
    """One life of a runner: started, asked, ended."""

    ready: Outcome  # of the handshake
    answers: list[Outcome]  # of each `execute`; the last one may lack a result
    end: RunnerEnd  # how the runner ended; empty if it was not started
    digest: str  # that it was started for
    given: float  # seconds that it had
    seconds: float  # that it took until it had answered


class Tried(TypedDict, total=False):
    """What came of one scenario of reuse: `seconds`, and one of `untried`, `late`, `failed` and `uses`."""

    seconds: float  # how long it took
    untried: str  # why it does not apply here
    late: bool  # there was no time left for it
    failed: InstallFailure  # why it could not be prepared
    uses: list[Use]  # those to judge, in order
    # `second-use` alone:
    rewritten: list[str]  # installed files that were written again, some of them
    files: int  # how many files were looked at
    repeated: bool  # its answer was made at the moment of the first use's
    first_seconds: float  # how long the first use took
    install_seconds: float  # after how many of these the last package was installed; 0 without packages
    # `forced-fresh` alone:
    planted: bool  # the foreign file is still there


class ReuseReport(TypedDict):
    """What came of all scenarios of reuse on one worker."""

    scenarios: dict[str, Tried]  # by name, in the order in which they were tried
    version: str  # of the worker's Python
    logs: dict[str, bytes]  # stream → beginning and end of what the runners wrote


class CopyAnswer(TypedDict, total=False):
    """One answer of a copy: `moment` if its canary answered, else `checksums`."""

    moment: int  # when the canary was executed, in nanoseconds since the epoch
    checksums: dict[str, str]  # artifact → SHA-256


class FreshReport(TypedDict, total=False):
    """What came of asking a copy of a bundle: `untried`, or everything else."""

    untried: str  # why this runner or bundle cannot be asked
    answers: list[CopyAnswer]  # two of one process, then one of another
    runs: list[Interpreter]  # the Pythons that executed canaries
    own: Interpreter  # the worker's
    certain: bool  # the copy was imported, and from the bundle's directory: an answer that is not its own was stored
    others: dict[str, str]  # module of the bundle → file of the other module that is imported under its name
    from_source: list[str]  # installed modules that are imported from the bundle's directory instead
    beside: dict[str, str]  # module of the bundle → file beside the runner's script that comes first on the path
