"""Check a bundle by its files alone, before anything starts. Nothing of it is imported."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from packaging.specifiers import InvalidSpecifier, Specifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from pytest_modelops.bundles import formats, wheel_files, wheel_tags
from pytest_modelops.bundles.bundle import Bundle, Patterns
from pytest_modelops.bundles.formats import Source
from pytest_modelops.bundles.metadata import RequiresPython
from pytest_modelops.bundles.names import Names, Symbol
from pytest_modelops.bundles.signatures import wrong_as_target, wrong_as_wire
from pytest_modelops.bundles.unread import sources_of_uv
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, MalformedBundle

_REQUIRES = "requires Python "
_DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_SHOWN = 8


def preflight(
    bundle: Bundle,
    *,
    worker_python: Version,
    cell_id: str,
    unpacked: Path | None = None,
    indexes: Collection[str] | None = None,
    patterns: Patterns = Patterns(),  # noqa: B008 - it is frozen
    deadline: Deadline | None = None,
) -> tuple[Source, Sequence[str]]:
    """Check that a cell's workers can install a bundle and that it has what it is asked to run.

    Args:
        worker_python: to the patch.
        cell_id: for the message.
        unpacked, deadline: see `archive.unpack`.
        indexes: see `requirements.read`.
        patterns: how entry points and targets have to be written.

    Returns:
        The bundle, as read, and what its files do not show, one sentence each.

    Raises:
        CheckFailed: with every problem, one a line, the most important first.
        TimedOut: another process was unpacking it until the deadline.
    """
    try:
        source = formats.read(bundle.path, unpacked, indexes=indexes, deadline=deadline)
    except MalformedBundle as error:
        raise CheckFailed(f"bundle {bundle.name!r}: {error}") from None
    names = _Preflight(source, worker_python, patterns)
    problems = [
        *(problem for one in source.pythons for problem in _python_problems(one, worker_python, cell_id)),
        *_wheel_problems(source, worker_python, cell_id),
        *(problem for one in source.projects for problem in sources_of_uv(one, source.required.lines)),
        *names.problems(bundle),
    ]
    if problems:
        first, *others = dict.fromkeys(problems)
        begin = f"bundle {bundle.name!r}{'' if first.startswith(_REQUIRES) else ':'}"
        raise CheckFailed(source.shown("\n".join([f"{begin} {first}", *others])))
    return source, [*dict.fromkeys(names.unknown)]


def _python_problems(python: RequiresPython, worker: Version, cell_id: str) -> Iterator[str]:
    """Check whether the workers' Python is admitted, compared as pip does: X.Y.Z, without a pre-release's suffix."""
    try:
        wanted = SpecifierSet(python.text)
    except InvalidSpecifier:
        yield (
            f"{python.key} = {python.text!r} in {python.file} is not a range of versions; "
            f"write one such as '>={_minor(worker)}'"
        )
        return
    # Source: https://github.com/pypa/pip/blob/24.0/src/pip/_internal/utils/packaging.py, check_requires_python.
    compared = Version(".".join(map(str, (*worker.release, 0, 0)[:3])))
    if wanted.contains(compared, prereleases=True):
        return
    required = f"{_REQUIRES}{python.text}, but this cell's workers run {worker}"
    if python.file.suffix == ".whl":
        yield f"{python.file.name} {required}; {_another_wheel(worker, cell_id)}"
    else:
        widened = _widened(wanted, compared)
        yield f"{required}; set {python.key} to '{widened}' in {python.file}, or drop the cell {cell_id}."


def _another_wheel(worker: Version, cell_id: str) -> str:
    return (
        f"ship a wheel for Python {_minor(worker)}, or its name in a requirements.txt instead, "
        f"or drop the cell {cell_id}."
    )


def _wheel_problems(source: Source, worker: Version, cell_id: str) -> Iterator[str]:
    """Check whether the workers can install the wheels, and whether that can be verified."""
    for wheel in wheel_tags.chosen(source.wheels, worker):
        if wheel.python:
            yield from _python_problems(wheel.python, worker, cell_id)
        if unfit := wheel_tags.unfit(wheel, worker):
            workers = f"this cell's workers run {worker} on {wheel_tags.machine()}"
            yield f"{wheel.path.name} {unfit}; {workers}; {_another_wheel(worker, cell_id)}"
        yield from wheel_files.problems_of_record(wheel)
        for line in wheel.dependencies:
            if (path := re.search(r"@ file:(?://)?(/[^ ;]*)", line)) and not Path(unquote(path[1])).exists():
                yield (
                    f"{wheel.path.name} depends on {line.partition(' @')[0]} {path[0]}, a path that is not on this "
                    "machine; build it again without a path dependency, or ship the wheel of that too"
                )


def _widened(wanted: SpecifierSet, worker: Version) -> str:
    """Return the range with those parts changed that do not admit the workers' Python."""
    parts = (
        str(specifier) if specifier.contains(worker, prereleases=True) else _admitting(specifier, worker)
        for specifier in sorted(wanted, key=str, reverse=True)
    )
    return ",".join(dict.fromkeys(filter(None, parts))) or f">={_minor(worker)}"


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
    """Looks up in a bundle what it is asked to run.

    Attributes:
        unknown: what its files do not show, one sentence each.
    """

    def __init__(self, source: Source, worker_python: Version, patterns: Patterns) -> None:
        self._source = source
        self._patterns = patterns
        self._names = Names(source, worker_python)
        self.unknown: list[str] = []

    def problems(self, bundle: Bundle) -> Iterator[str]:
        """Yield what is missing, or cannot be called the way a runner will call it."""
        yield from self._wire(bundle)
        if bundle.entrypoint is not None:
            yield from self._entrypoint(bundle.entrypoint)
        for target in bundle.targets:
            subject = f"target {target!r}"
            yield from self._unlike(subject, target, "target", self._patterns.target)
            if match := re.fullmatch(rf"({_DOTTED})[:/]({_DOTTED})", target):
                yield from self._callable(subject, match[1], match[2], wrong_as_target)
            else:
                yield f"{subject} is not package.module:function"
        for function in bundle.submits:
            module, _, name = function.partition(":")
            yield from self._callable(f"submits {function!r}", module, name, lambda _: "")
        for module in bundle.imports:
            if not re.fullmatch(_DOTTED, module):
                yield f"import {module!r} is not a module's name; write one such as package.module"
            elif self._source.owns(module):
                yield from (f"import {module!r}: {problem}" for problem in self._module(module))

    @staticmethod
    def _unlike(subject: str, text: str, key: str, pattern: str | None) -> Iterator[str]:
        if pattern is not None and not re.fullmatch(pattern, text):
            yield f"{subject} does not match {pattern!r}, which `{key}` in [tool.modelops.preflight] asks for"

    def _wire(self, bundle: Bundle) -> Iterator[str]:
        others = [*self._source.others, *(["packages of the workers"] if bundle.in_workers else [])]
        if wire := self._source.wire:
            subject = f"the wire function {wire.module}:{wire.function} ({wire.where})"
            yield from self._callable(subject, wire.module, wire.function, wrong_as_wire)
        elif bundle.entrypoint is not None and others:
            more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
            self.unknown.append(
                "its files declare no wire function, so one has to come with what is installed "
                f"({', '.join(others[:_SHOWN])}{more}); `bundle-install` looks for it there"
            )
        elif bundle.entrypoint is not None:
            yield (
                f"it declares no wire function, which would run its entry point {bundle.entrypoint!r}; "
                'name one in [project.entry-points."modelops.wire"], or add a wire.py with a function wire'
            )

    def _entrypoint(self, text: str) -> Iterator[str]:
        subject = f"entry point {text!r}"
        yield from self._unlike(subject, text, "entrypoint", self._patterns.entrypoint)
        match = re.fullmatch(rf"({_DOTTED})(?:/(\S.*)|:({_DOTTED}))", text)
        if match is None:
            yield f"{subject} is neither package.module/scenario nor package.module:object"
        elif match[3]:
            yield from self._callable(subject, match[1], match[3], lambda _: "")
        else:  # only the wire function knows the scenarios
            module, name = self._source.split(match[1])
            if name and self._is_a_class(module, name):
                yield from self._callable(subject, module, name, lambda _: "")
            else:
                yield from (f"{subject}: {problem}" for problem in self._module(match[1]))

    def _is_a_class(self, module: str, name: str) -> bool:
        """Whether `module.name` means a class of the module, as in `seir.models.Model/baseline`, and no submodule."""
        file = self._source.file_of(module)
        if file is None or not file.name.startswith("__init__."):
            return file is not None
        with contextlib.suppress(MalformedBundle):  # reported for the module
            return bool(self._names.find(module, name.partition(".")[0]))
        return False

    def _callable(self, subject: str, module: str, name: str, wrong_as: Callable[[Symbol], str]) -> Iterator[str]:
        """Check one function, which is `name` in `module`."""
        found = list(self._module(module))
        if found or not self._source.owns(module):
            yield from (f"{subject}: {problem}" for problem in found)
            return
        first, dot, _ = name.partition(".")
        try:
            symbols = self._names.find(module, first)
        except MalformedBundle as error:
            yield f"{subject}: {error}"
            return
        if not symbols:
            yield f"{subject}: {module} has no {first!r}; {self._near_names(module, first)}"
            return
        # Which of several definitions counts is unknown, so one that suits is enough.
        wrong = [] if dot else [wrong_as(symbol) for symbol in symbols]
        if wrong and all(wrong):
            symbol = symbols[-1]
            where = f" ({self._shown(symbol.file)}, line {symbol.line})" if symbol.file and symbol.line else ""
            yield f"{subject}{where}: {wrong[-1]}"

    def _module(self, module: str) -> Iterator[str]:
        """Check that a module exists and is valid Python; one that a dependency may have is accepted."""
        if self._source.owns(module):
            try:
                self._names.check(module)
            except MalformedBundle as error:
                yield str(error)
                return
            missing = self._source.file_of(module) is None and not self._source.has_directory(module)
        else:
            missing = not self._may_be_foreign(module)
            if not missing:
                self.unknown.append(
                    f"the bundle has no module {module!r}; only its use shows whether a dependency has it"
                )
        if missing:
            yield f"the bundle has no module {module!r}; {self._near_modules(module)}"

    def _may_be_foreign(self, module: str) -> bool:
        """Whether a module may belong to a dependency, whose name does not tell its modules."""
        dependencies = self._source.dependencies
        top = module.partition(".")[0]
        if dependencies is not None and canonicalize_name(top) in map(formats.distribution_of, dependencies):
            return True
        return dependencies != () and not difflib.get_close_matches(top, self._source.top_level, n=1, cutoff=0.75)

    def _near_modules(self, module: str) -> str:
        known = sorted(self._source.modules)
        near = difflib.get_close_matches(module, known, n=3) or known[:_SHOWN]
        if not near:
            return "it has none at all"
        more = f" and {len(known) - _SHOWN} more" if near == known[:_SHOWN] and len(known) > _SHOWN else ""
        return f"it has {', '.join(map(repr, near))}{more}"

    def _near_names(self, module: str, name: str) -> str:
        lines = self._names.near(module)
        file = self._shown(self._source.file_of(module))
        if name in lines:
            return f"line {lines[name]} of {file} imports it from a module that does not define it"
        near = difflib.get_close_matches(name, lines, n=3) or list(lines)[:_SHOWN]
        shown = ", ".join(f"{each!r} (line {lines[each]})" for each in near)
        return f"it has {shown} in {file}" if near else "it defines nothing"

    def _shown(self, file: Path | None) -> str:
        """Return a file's path relative to the bundle."""
        if file is not None and file.is_relative_to(self._source.path):
            file = file.relative_to(self._source.path)
        return str(file)
