"""Messages about a bundle that cannot be built."""

from __future__ import annotations

import re
from collections.abc import Iterable

from packaging.version import Version

from pytest_modelops.bundles import formats, unread
from pytest_modelops.checks.bundle_messages import advice
from pytest_modelops.environments.uv import UvFailed
from pytest_modelops.errors import CheckFailed

_LACKS_A_COMPILER = re.compile(
    r"error: command '(?P<one>[^']+)' failed: No such file"
    r"|building '[^\n]*' extension\n(?:[^\n]*\n)*?error: \[Errno 2\] No such file or directory: '(?P<other>[^']+)'"
    r"|unable to execute '(?P<third>[^']+)'"
)
"""The wording of old and new versions of setuptools."""
_CARETS = re.compile(r"^[ ~^]*\^[ ~^]*$")
_RAISED = re.compile(r"^(?:[A-Za-z_]\w*\.)*(?P<text>[A-Z]\w*(?:: .+)?)$")
_COMPILED = re.compile(r"^\S+?:\d+(?::\d+)?: (?:fatal )?error: .+$", re.MULTILINE)
_SAID = re.compile(r"^error: (?!Failed to build|command )(?P<text>.+)$", re.MULTILINE)
_LONGEST = 300
_HINTS = {
    "non-package mode": (
        "`package-mode = false` in pyproject.toml says that there is nothing to build. Set it to true, or remove "
        "[build-system] and [tool.poetry] and list what the modules need in a requirements.txt."
    ),
    "Multiple top-level": (
        "Name the packages in [tool.setuptools] of pyproject.toml, or move them below src/. A bundle of loose modules "
        "needs no [project] and no [build-system]."
    ),
    "Unable to determine which files to ship": (
        "Name the packages in [tool.hatch.build.targets.wheel] of pyproject.toml."
    ),
}


def on_build(error: CheckFailed, python: Version, source: formats.Source) -> tuple[str, str]:
    """Return why wheels could not be made, as a sentence, and what to do; empty where the output does not tell."""
    said = str(error)
    if match := _LACKS_A_COMPILER.search(said):
        compiler = match["one"] or match["other"] or match["third"]
        return (
            f" It has sources that need the compiler {compiler!r}, which is not on this machine; install that, or ship "
            f"a wheel for Python {python.major}.{python.minor} instead."
        ), ""
    if advised := advice(said, python):
        return advised, ""
    if "could not build a wheel" not in said:
        return "", ""
    cause = cause_of(error.output if isinstance(error, UvFailed) else said)
    hints = [hint for text, hint in _HINTS.items() if text in cause]
    if "dependency specifier" in cause or "InvalidRequirement" in cause:
        hints += [hint for project in source.projects for hint in unread.options_in_dependencies(project)][:1]
    return f" {cause.rstrip('.')}." if cause else "", hints[0] if hints else ""


def cause_of(output: str) -> str:
    """Return why a build failed: the compiler's error, what was raised last, or the builder's own error."""
    if match := _COMPILED.search(output):
        return match[0][:_LONGEST]
    raised = _raised(line for line in output.splitlines() if not _CARETS.fullmatch(line))
    if raised:
        return raised[:_LONGEST]
    match = _SAID.search(output)
    return match["text"][:_LONGEST] if match else ""


def _raised(lines: Iterable[str]) -> str:
    """Return the last error that was raised, with the first line of its message that is indented."""
    raised, in_frames, continues = "", False, False
    for line in lines:
        if line.startswith('  File "'):
            in_frames, continues = True, False
        elif in_frames and (match := _RAISED.fullmatch(line)):
            raised, in_frames, continues = match["text"], False, True
        elif continues and line.startswith("  "):
            raised, continues = f"{raised}: {line.strip()}", False
        elif not line.startswith(" "):
            in_frames = continues = False
    return raised
