"""A constraints file and those that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_modelops.environments.constraints import files_of, requirements_of


@pytest.mark.parametrize("line", ["-c {}", "-r {}", "-c{}", "--constraint={}", "--requirement {}  # theirs", "-c '{}'"])
def test_files_that_a_file_names_count_relative_to_it(tmp_path: Path, line: str) -> None:
    (tmp_path / "deep").mkdir()
    first, second, third = tmp_path / "first.txt", tmp_path / "deep/second.txt", tmp_path / "deep/third.txt"
    first.write_text(f"a<1 \\\n  --hash=sha256:1\n{line.format('deep/second.txt')}\n--no-index\n", encoding="utf-8")
    second.write_text(f"b<2\n{line.format('third.txt')}\n{line.format('../first.txt')}\n", encoding="utf-8")
    third.write_text("not a requirement\nc<3  # why\n", encoding="utf-8")
    assert {file.resolve() for file in files_of(first)} == {first, second, third}
    assert {str(one) for one in requirements_of(first)} == {"a<1", "b<2", "c<3"}


def test_what_cannot_be_read_names_nothing(tmp_path: Path) -> None:
    file = tmp_path / "constraints.txt"
    file.write_text("-c https://example.org/c.txt\n-c gone.txt\n-c .\n", encoding="utf-8")
    assert files_of(file) == [file, tmp_path, tmp_path / "gone.txt"]
    assert list(requirements_of(file)) == []
    assert files_of(None) == []
