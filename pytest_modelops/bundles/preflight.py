"""What can be reported of a bundle before anything starts: from its files alone, nothing of it is imported."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, Specifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from pytest_modelops.bundles import formats, wheel_files, wheel_tags
from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.bundles.formats import RequiresPython, Source
from pytest_modelops.bundles.names import Names, Symbol
from pytest_modelops.bundles.signatures import wrong_as_target, wrong_as_wire
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, MalformedBundle


def preflight(
    bundle: Bundle,
    *,
    worker_python: Version,
    cell_id: str,
    unpacked: Path | None = None,
    deadline: Deadline | None = None,
) -> Source:
    """Check that a bundle can be installed on a cell's workers, and has what it is asked to run; returns it, as read.

    Args:
        bundle: what was asked for.
        worker_python: the workers' Python, to the patch.
        cell_id: for the message.
        unpacked, deadline: where archives are unpacked, and how long others are awaited, see `formats.read`.

    Raises:
        CheckFailed: with all that is wrong, the most telling first, one a line.
        TimedOut: another process was unpacking it until the deadline.
    """
    try:
        source = formats.read(bundle.path, unpacked, deadline=deadline)
    except MalformedBundle as error:
        raise CheckFailed(f"bundle {bundle.name!r}: {error}") from None
    problems = [
        *(problem for one in source.pythons for problem in _python_problems(one, worker_python, cell_id)),
        *_wheel_problems(source, worker_python, cell_id),
        *_Preflight(source, worker_python).problems(bundle),
    ]
    if problems:
        first, *others = dict.fromkeys(problems)
        begin = f"bundle {bundle.name!r}{'' if first.startswith(_REQUIRES) else ':'}"
        raise CheckFailed("\n".join([f"{begin} {first}", *others]))
    return source


_REQUIRES = "requires Python "
_DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"


def _python_problems(python: RequiresPython, worker: Version, cell_id: str) -> Iterator[str]:
    """Whether the workers' Python is admitted, compared as pip does: X.Y.Z, without what a pre-release adds."""
    try:
        wanted = SpecifierSet(python.text)
    except InvalidSpecifier:
        yield (
            f"{python.key} = {python.text!r} in {python.file} is not a range of versions; "
            f"write one such as '>={_minor(worker)}'"
        )
        return
    # Source: https://github.com/pypa/pip/blob/24.0/src/pip/_internal/utils/packaging.py, check_requires_python.
    answer = Version(".".join(map(str, (*worker.release, 0, 0)[:3])))
    if not wanted.contains(answer, prereleases=True):
        if python.file.suffix == ".whl":
            yield (
                f"{python.file.name} requires Python {python.text}, but this cell's workers run {worker}; "
                f"{_ANOTHER_WHEEL.format(minor=_minor(worker))}, or drop the cell {cell_id}."
            )
            return
        yield (
            f"{_REQUIRES}{python.text}, but this cell's workers run {worker}; "
            f"set {python.key} to '{_widened(wanted, answer)}' in {python.file}, or drop the cell {cell_id}."
        )


_ANOTHER_WHEEL = "ship a wheel for Python {minor}, or its name in a requirements.txt instead"


def _wheel_problems(source: Source, worker: Version, cell_id: str) -> Iterator[str]:
    """Whether the workers can install the wheels, and whether it can be verified that they did."""
    for wheel in wheel_tags.chosen(source.wheels, worker):
        if python := wheel.python:
            yield from _python_problems(python, worker, cell_id)
        if unfit := wheel_tags.unfit(wheel, worker):
            yield (
                f"{wheel.path.name} {unfit}; this cell's workers run {worker} on {wheel_tags.machine()}; "
                f"{_ANOTHER_WHEEL.format(minor=_minor(worker))}, or drop the cell {cell_id}."
            )
        yield from wheel_files.problems_of_record(wheel)


def _widened(wanted: SpecifierSet, worker: Version) -> str:
    """The range with those parts changed that do not admit the worker's Python."""
    kept = []
    for specifier in sorted(wanted, key=str, reverse=True):
        text = str(specifier) if specifier.contains(worker, prereleases=True) else _admitting(specifier, worker)
        kept.append(text)
    return ",".join(dict.fromkeys(filter(None, kept))) or f">={_minor(worker)}"


def _admitting(specifier: Specifier, worker: Version) -> str:
    match specifier.operator:
        case "<" | "<=":
            return f"<{worker.major}.{worker.minor + 1}"
        case "!=":
            return ""
        case _:
            return f">={_minor(worker)}"


def _minor(version: Version) -> str:
    return f"{version.major}.{version.minor}"


class _Preflight:
    """Looks up what a bundle is asked to run in what it has."""

    def __init__(self, source: Source, worker_python: Version) -> None:
        self._source = source
        self._names = Names(source, worker_python)

    def problems(self, bundle: Bundle) -> Iterator[str]:
        """All that is not there, or cannot be called the way it will be."""
        yield from self._wire(bundle)
        if bundle.entrypoint is not None:
            yield from self._entrypoint(bundle.entrypoint)
        for target in bundle.targets:
            yield from self._target(target)
        for module in bundle.imports:
            if not re.fullmatch(_DOTTED, module):
                yield f"import {module!r}: this is no module's name, such as package.module"
            elif self._source.owns(module):
                yield from (f"import {module!r}: {problem}" for problem in self._module(module))

    def _wire(self, bundle: Bundle) -> Iterator[str]:
        wire = self._source.wire
        if wire is None:
            if bundle.entrypoint is not None:
                yield (
                    f"it declares no wire function, which would run its entry point {bundle.entrypoint!r}; "
                    'name one in [project.entry-points."modelops.wire"], or add a wire.py with a function wire'
                )
            return
        said = f"the wire function {wire.module}:{wire.function} ({wire.where})"
        yield from self._callable(said, wire.module, wire.function, wrong_as_wire)

    def _entrypoint(self, text: str) -> Iterator[str]:
        said = f"entry point {text!r}"
        match = re.fullmatch(rf"({_DOTTED})(?:/(\S.*)|:({_DOTTED}))", text)
        if match is None:
            yield f"{said} is neither package.module/scenario nor package.module:object"
            return
        module, _, name = match.groups()
        if name is None:  # what a scenario is, only the wire function knows
            yield from (f"{said}: {problem}" for problem in self._module(module))
        else:
            yield from self._callable(said, module, name, lambda _: "")

    def _target(self, text: str) -> Iterator[str]:
        match = re.fullmatch(rf"({_DOTTED})[:/]({_DOTTED})", text)
        if match is None:
            yield f"target {text!r} is not package.module:function"
        else:
            yield from self._callable(f"target {text!r}", match[1], match[2], wrong_as_target)

    def _callable(self, said: str, module: str, name: str, wrong_as: Callable[[Symbol], str]) -> Iterator[str]:
        """Problems of one function, which is `name` in `module`."""
        found = list(self._module(module))
        if found or not self._source.owns(module):
            yield from (f"{said}: {problem}" for problem in found)
            return
        first, dot, _ = name.partition(".")
        try:
            symbols = self._names.find(module, first)
        except MalformedBundle as error:
            yield f"{said}: {error}"
            return
        if not symbols:
            yield f"{said}: {module} has no {first!r}; {self._near_names(module, first)}"
            return
        # Of several definitions it is not known which one counts, so one that suits is enough.
        wrong = [] if dot else [wrong_as(symbol) for symbol in symbols]
        if wrong and all(wrong):
            symbol = symbols[-1]
            where = f" ({self._shown(symbol.file)}, line {symbol.line})" if symbol.file and symbol.line else ""
            yield f"{said}{where}: {wrong[-1]}"

    def _module(self, module: str) -> Iterator[str]:
        """Whether a module is there and is valid Python; those of other distributions are believed."""
        if not self._source.owns(module):
            if not self._may_be_foreign(module):
                yield f"the bundle has no module {module!r}; {self._near_modules(module)}"
            return
        try:
            self._names.check(module)
        except MalformedBundle as error:
            yield str(error)
            return
        if self._source.file_of(module) is None and not self._source.has_directory(module):
            yield f"the bundle has no module {module!r}; {self._near_modules(module)}"

    def _may_be_foreign(self, module: str) -> bool:
        """Whether a module may come with a dependency, whose modules nobody can tell from its name."""
        dependencies = self._source.dependencies
        top = module.partition(".")[0]
        if dependencies is not None and canonicalize_name(top) in map(_distribution, dependencies):
            return True
        own = {name.partition(".")[0] for name in self._source.modules}
        return dependencies != () and not difflib.get_close_matches(top, own, n=1, cutoff=0.75)

    def _near_modules(self, module: str) -> str:
        known = sorted(self._source.modules)
        near = difflib.get_close_matches(module, known, n=3) or known[:_SHOWN]
        if not near:
            return "it has none at all"
        more = f" and {len(known) - _SHOWN} more" if near == known[:_SHOWN] and len(known) > _SHOWN else ""
        return f"it has {', '.join(map(repr, near))}{more}"

    def _near_names(self, module: str, name: str) -> str:
        lines = self._names.near(module)
        if name in lines:
            return f"line {lines[name]} of {self._shown(self._source.file_of(module))} imports it from where it is not"
        near = difflib.get_close_matches(name, lines, n=3) or list(lines)[:_SHOWN]
        if not near:
            return "it defines nothing"
        shown = ", ".join(f"{each!r} (line {lines[each]})" for each in near)
        return f"it has {shown} in {self._shown(self._source.file_of(module))}"

    def _shown(self, file: Path | None) -> str:
        """A file of the bundle, short."""
        if file is not None and file.is_relative_to(self._source.path):
            file = file.relative_to(self._source.path)
        return str(file)


_SHOWN = 8


def _distribution(requirement: str) -> str:
    try:
        return canonicalize_name(Requirement(requirement).name)
    except InvalidRequirement:  # a path, or the bare name in Poetry's table
        return canonicalize_name(Path(requirement).name)
