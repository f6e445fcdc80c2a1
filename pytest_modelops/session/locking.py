"""`python -m pytest_modelops lock`: what a green cell was checked with, as a file to install from."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from packaging.version import Version

from pytest_modelops.config.settings import Settings
from pytest_modelops.config.variables import HIDDEN
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.commands import Commands
from pytest_modelops.environments.index import configured_index
from pytest_modelops.environments.lockfile import of_this_machine, pylock, unhashed
from pytest_modelops.environments.uv import Uv
from pytest_modelops.errors import WrongInput
from pytest_modelops.report.files import write_text
from pytest_modelops.report.model import CellReport, EnvironmentReport, RunReport, Status
from pytest_modelops.session.reported import cell_of, reported, settings_here

_SECONDS = 300.0
"""For uv to ask the index where the files are."""
_PYLOCK = re.compile(r"pylock(\.[^.]+)?\.toml")
"""Source: https://packaging.python.org/en/latest/specifications/pylock-toml/#file-name."""


def write_lock(cell_id: str, output: Path, *, report: Path | None, role: str | None) -> Sequence[str]:
    """Write the lock of a cell that passed; return lines about it for people.

    Args:
        output: `pylock.toml`, `pylock.NAME.toml`, or a requirements file, which ends in `.txt`.
        report: JSON or a directory of reports; `None` for the last run here of the configuration.
        role: `client`, `scheduler` or `worker`; `None` if all have the same lock.

    Raises:
        WrongInput: there is no such cell, it is not green, or its lock is not known.
        CheckFailed, TimedOut: the index does not have its files any more, or did not answer.
        OSError: the file cannot be written.
    """
    as_pylock = _PYLOCK.fullmatch(output.name) is not None
    if not as_pylock and output.suffix != ".txt":
        raise WrongInput(f"-o {output}: write pylock.toml, pylock.NAME.toml or a file that ends in .txt")
    settings = settings_here()
    run, source = reported(settings, report, "lock CELL REPORT")
    cell = _green(run, cell_id, source)
    environment = _environment(cell, role)
    requirements = environment["requirements"].replace("file://~/", f"{Path.home().as_uri()}/")
    _refuse_unusable(cell_id, requirements)
    python = Version(environment["python"])
    origin = {"cell": cell_id, "roles": ", ".join(environment["roles"]), "python": str(python), "checked": run.started}
    if as_pylock:
        text = _pylock(settings, requirements, python, origin)
    else:
        comments = "".join(f"# {name}: {value}\n" for name, value in origin.items())
        text = f"# The lock of a cell that pytest-modelops checked.\n{comments}{requirements}"
    write_text(text, output)
    return [f"{output}: what {cell_id} was checked with on {run.started[:10]}", *_notes(cell, requirements)]


def _green(run: RunReport, cell_id: str, source: str) -> CellReport:
    cell = cell_of(run, cell_id, source, instead="to deploy")
    if cell.status is not Status.PASSED:
        broken = f": {cell.broken.label} broke" if cell.broken else ""
        raise WrongInput(
            f"{cell_id} is {cell.status.value} in {source}{broken}; only a green cell has a lock to deploy"
        )
    return cell


def _environment(cell: CellReport, role: str | None) -> EnvironmentReport:
    """Return the environment of a role, or the only one."""
    known = [one for one in cell.environments if "requirements" in one and "roles" in one]
    if not known:
        raise WrongInput(f"the report has no lock of {cell.id}: its check `install` has to run, in this version")
    chosen = [one for one in known if role is None or role in one["roles"]]
    if len({one["requirements"] for one in chosen}) > 1 or len({one["python"] for one in chosen}) > 1:
        differ = "; ".join(f"{', '.join(one['roles'])}: Python {one['python']}, Dask {one['dask']}" for one in chosen)
        raise WrongInput(f"the roles of {cell.id} have locks of their own ({differ}); add --role ROLE")
    return chosen[0]


def _refuse_unusable(cell_id: str, requirements: str) -> None:
    if hidden := next((line for line in requirements.splitlines() if HIDDEN in line or "//****@" in line), None):
        raise WrongInput(f"the report hides a value or a password that the lock of {cell_id} needs: {hidden}")
    named = [line for line in unhashed(requirements) if "@" not in line]
    if named:
        raise WrongInput(
            f"{cell_id} ran in packages that were installed before, so no hashes are known of {named[0]} and "
            f"{len(named) - 1} others; ask for a release of Dask, so that its environment is built"
        )


def _pylock(settings: Settings, requirements: str, python: Version, origin: dict[str, str]) -> str:
    rootdir = settings.environment.rootdir
    with tempfile.TemporaryDirectory(prefix="modelops-") as directory:
        commands = Commands(Path(directory, "commands"))
        try:
            uv = Uv(commands, rootdir=rootdir, settings=configured_index(rootdir).variables)
            return pylock(requirements, python, uv, origin=origin, deadline=Deadline(_SECONDS))
        finally:
            commands.close()


def _notes(cell: CellReport, requirements: str) -> list[str]:
    missed = [check.label for check in cell.checks if check.status is Status.NOT_RUN]
    notes = [f"not run in that cell: {', '.join(missed)}"] if missed else []
    here = [pin.name for pin in of_this_machine(requirements)]
    if here:
        notes.append(f"only on this machine, so publish or copy it and change its line: {', '.join(here)}")
    loose = [line for line in unhashed(requirements) if "@" in line and line.partition(" @ ")[0] not in here]
    if loose:
        notes.append(f"without a hash, as its index or repository gives none: {', '.join(loose)}")
    return notes
