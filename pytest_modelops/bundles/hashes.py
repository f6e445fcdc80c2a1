"""The hashes in requirements files, as pip takes them: https://pip.pypa.io/en/stable/topics/secure-installs/."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from pytest_modelops.errors import MalformedBundle

_HASH = re.compile(r"(sha256|sha384|sha512):([0-9a-fA-F]+)")
GENERATE = "`uv pip compile --generate-hashes` writes them"


def hash_of(text: str, where: str) -> str:
    """Return the value of `--hash` in lower case."""
    if match := _HASH.fullmatch(text):
        return f"{match[1]}:{match[2].lower()}"
    raise MalformedBundle(f"{where}: --hash={text} is not sha256:, sha384: or sha512: and hexadecimal digits")


def compare(content: bytes, hashes: Sequence[str], text: str, where: str) -> None:
    """Compare a file of the bundle with the hashes that its line allows."""
    algorithms = dict.fromkeys(one.partition(":")[0] for one in hashes)
    found = [f"{name}:{hashlib.new(name, content).hexdigest()}" for name in algorithms]
    if not set(found) & set(hashes):
        raise MalformedBundle(
            f"{where}: {text!r} does not match its hash: expected {' or '.join(hashes)}, got {', '.join(found)}"
        )


def unhashed(line: str, hashes: Sequence[str], constraints: Sequence[str], local: Path | None, where: str) -> str:
    """Return why pip refuses a line in hash mode; empty if it takes it, or if only an installer can tell.

    Args:
        constraints: those that have hashes.
        local: the directory or file of the bundle that the line names.
    """
    mode = "hashes are required, since a line of the requirements has one"
    if local is not None and local.is_dir():
        return f"{where}: {mode}, and a directory has none ({local}); build a wheel of it, or remove all hashes"
    if local is not None:
        return "" if hashes else f"{where}: {mode}, and {local.name} has none; add its hash"
    try:
        parsed = Requirement(line)
    except InvalidRequirement:  # a URL
        return "" if hashes or "#sha" in line else f"{where}: {mode}, and {line!r} has none; add its hash"
    if parsed.marker or canonicalize_name(parsed.name) in {canonicalize_name(Requirement(c).name) for c in constraints}:
        return ""
    operators = [(one.operator, one.version.endswith("*")) for one in parsed.specifier]
    if not parsed.url and operators not in ([("==", False)], [("===", False)]):
        return f"{where}: {mode}, and {line!r} is not pinned with ==; {GENERATE}"
    return "" if hashes or "#sha" in (parsed.url or "") else f"{where}: {mode}, and {line!r} has none; {GENERATE}"
