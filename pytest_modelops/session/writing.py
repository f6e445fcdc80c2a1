"""Writing the reports of a run: as others may see them, wherever the settings say, and to GitHub where it runs."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from _pytest._io import TerminalWriter

from pytest_modelops.checks import names_of
from pytest_modelops.cluster.logs import last_lines
from pytest_modelops.config import causes
from pytest_modelops.config.settings import Settings
from pytest_modelops.errors import WrongInput
from pytest_modelops.report import directory, github, write
from pytest_modelops.report.causes import Cause, explained
from pytest_modelops.report.comparing import compare
from pytest_modelops.report.model import RunReport
from pytest_modelops.report.targets import GITHUB, JUNIT, Target
from pytest_modelops.session import junit
from pytest_modelops.session.baseline import baseline_of, keep, sharing_of
from pytest_modelops.session.hooks import change
from pytest_modelops.session.run import MatrixRun


def targets_of(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[Target]:
    """Return the reports that are asked for, and GitHub's where its variables are set."""
    on_github = [Target(GITHUB)] if environ.get("GITHUB_ACTIONS") == "true" and environ.get(github.SUMMARY) else []
    return list(dict.fromkeys([*settings.reports, *on_github]))


def have_junit_written(targets: list[Target], config: pytest.Config) -> None:
    """Have pytest write its JUnit report where one is asked for. Call it before pytest's own plugin is configured.

    Raises:
        WrongInput: it is asked for at two places, or pytest cannot write it.
    """
    paths = [target.junit for target in targets if target.junit is not None]
    if paths and not config.pluginmanager.hasplugin("junitxml"):
        raise WrongInput(f"{paths[0]} is pytest's JUnit report, whose plugin is switched off; leave out -p no:junitxml")
    given = config.getoption("xmlpath", None)
    places = list(dict.fromkeys([*([Path(given).absolute()] if given else []), *paths]))
    if len(places) > 1:
        raise WrongInput(f"pytest writes one JUnit report, and not both {places[0]} and {places[1]}; leave out one")
    if places:
        config.option.xmlpath = str(places[0])


class Writing:
    """The reports of one run, and what could not be written.

    Raises:
        WrongInput: the baseline or a file of causes cannot be read, or what a hook made of the causes is not valid.
    """

    def __init__(self, config: pytest.Config, run: MatrixRun) -> None:
        settings = run.settings
        self._config = config
        self.targets = targets_of(settings)
        self._unwritten: dict[Target, OSError] = {}
        self._shared: RunReport | None = None
        self._sharing = sharing_of(settings)
        # With other constraints it is not a run of this configuration, so it is no "last run" of it.
        self._kept = run.directory if settings.constraints is None else None
        self.baseline = baseline_of(settings)
        self._causes = causes.load(settings.causes, names_of(run.checks))
        change(config, "pytest_modelops_causes", causes=self._causes)
        for cause in self._causes:
            if not isinstance(cause, Cause):
                raise WrongInput(f"pytest_modelops_causes: {cause!r} is not a pytest_modelops.report.causes.Cause")

    def explained(self, report: RunReport) -> RunReport:
        """Return the report with the probable causes of what broke."""
        cells = [explained(self._causes, cell, functools.partial(_last_lines, cell.logs)) for cell in report.cells]
        return dataclasses.replace(report, cells=tuple(cells))

    def compared(self, report: RunReport) -> RunReport:
        """Return the report with what changed since the baseline, if there is one."""
        if self.baseline is None:
            return report
        return dataclasses.replace(report, comparison=compare(self.baseline, report))

    def write(self, report: RunReport) -> bool:
        """Write all reports; return whether that worked."""
        shared = self._shared = self._sharing.report(report)
        if self._kept is not None:
            keep(dataclasses.replace(shared, comparison=None), self._kept)
        for target in self.targets:
            try:
                self._write(target, report, shared)
            except OSError as error:
                self._unwritten[target] = error
        return not self._unwritten

    def _write(self, target: Target, report: RunReport, shared: RunReport) -> None:
        if target.junit is not None and target.junit.exists():
            junit.complete(target.junit, shared, self._sharing.text)
        if target.path is None:
            if summary := os.environ.get(github.SUMMARY):
                github.append_summary(shared, Path(summary))
        elif not target.ending:
            logs = {cell.id: {name: Path(path) for name, path in cell.logs.items()} for cell in report.cells}
            directory.write(shared, target.path, logs=logs, clean=self._sharing.text)
        elif target.ending != JUNIT:
            write(shared, target.path)

    def show(self, writer: TerminalWriter) -> None:
        """Write where the reports are, and GitHub's annotations."""
        for target in self.targets:
            if error := self._unwritten.get(target):
                writer.line(f"report could not be written: {target}: {error.strerror or error}", red=True)
            elif target.ending == GITHUB and not os.environ.get(github.SUMMARY):
                writer.line(f"report: GitHub's annotations only, since {github.SUMMARY} is not set")
            else:
                writer.line(f"report: {target}")
        if self._shared is not None and any(target.ending == GITHUB for target in self.targets):
            start = Path(os.environ.get("GITHUB_WORKSPACE") or self._config.rootpath)
            for line in github.commands(self._shared, start):
                writer.line(line)


def _last_lines(logs: Mapping[str, str]) -> str:
    return "\n".join(line for path in logs.values() for line in last_lines(Path(path)))
