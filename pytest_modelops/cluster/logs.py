"""Reading the ends of logs."""

from __future__ import annotations

from pathlib import Path

_BYTES = 64 * 1024


def last_lines(log: Path, *, most: int = 12) -> list[str]:
    """Return the last lines of a log, without empty ones; an empty list when there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-most:]


def _useful_lines(log: Path, *, most: int = 6) -> list[str]:
    """Return the most useful lines of a log: from the last crash of an interpreter on, else the last lines."""
    lines = last_lines(log, most=400)
    crashes = [number for number, line in enumerate(lines) if line.startswith("Fatal Python error")]
    return lines[crashes[-1] :][:most] if crashes else lines[-most:]


def last_line(log: Path) -> str:
    """Return the last line of a log in parentheses, for the first line of a message; empty when there is none."""
    lines = last_lines(log, most=1)
    return f" ({lines[0].strip()[:200]})" if lines else ""


def tail(log: Path, *, most: int = 12) -> str:
    """Return the last lines of a log as the end of a message, and the log's path."""
    lines = _useful_lines(log, most=most)
    if not lines:
        return f" It printed nothing. Log: {log}"
    return " Its last output:\n" + "\n".join(f"    {line}" for line in lines) + f"\nFull log: {log}"
