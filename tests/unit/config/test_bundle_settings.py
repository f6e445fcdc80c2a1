"""Bundles and their runner, in `[tool.modelops]` and on the command line: what may be written, and what may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import all_checks
from pytest_modelops.config.bundle_table import at
from pytest_modelops.config.model import FAILED_WHEN, RunnerSettings
from tests.unit.config.conftest import MessageOf, Read

FIRST = "pyproject.toml: [tool.modelops] bundles[0]"
RUNNER = "pyproject.toml: [tool.modelops.runner]"
KEYS = "aggregation, entrypoint, expect, imports, install, params, path, seed, submits, target, target-data"
PLACEHOLDERS = "{bundle}, {digest}, {python}, {runner}, {venv}, {version}, {wheels}, {worker-python}"


@pytest.fixture(autouse=True)
def _bundles(tmp_path: Path) -> None:
    for name in ("seir", "more/numbers", "more/seir", "with space"):
        (tmp_path / name).mkdir(parents=True)


def bundle(text: str) -> str:
    return f'[tool.modelops]\nbundles = [{{ path = "seir", {text} }}]\n'


EVERYTHING = """
[tool.modelops]
bundles = ["more/numbers", { path = "seir", entrypoint = "seir.models/baseline", params = { beta = 0.3, days = [1] },
  seed = -7, target = ["targets:one", "targets.two/three"], target-data = { a = { b = "c" } },
  imports = ["seir", "seir.models"], expect = { "a.txt" = "text", "b.bin" = "sha256:DIGEST" },
  aggregation = { params = 4, replicates = 5 } }]
[tool.modelops.runner]
command = ["{python}", "-u", "{runner}", "--digest={digest}"]
path = "run.py"
[tool.modelops.aggregation]
failed-when = ["error", "outputs.empty"]
""".replace("DIGEST", "a" * 64).replace("\n  ", " ")


def test_an_archive_is_a_bundle_by_its_stem(read: Read, tmp_path: Path) -> None:
    (tmp_path / "sir.tar.gz").touch()
    (tmp_path / "My_Model-1.0-py3-none-any.whl").touch()
    settings = read('[tool.modelops]\nbundles = ["sir.tar.gz", { path = "My_Model-1.0-py3-none-any.whl" }]')
    assert [(one.name, one.path.name) for one in settings.bundles] == [
        ("sir", "sir.tar.gz"),
        ("my-model", "My_Model-1.0-py3-none-any.whl"),
    ]
    (one,) = read("", "sir.tar.gz").bundles
    assert one == settings.bundles[0]


def test_an_archive_and_a_directory_of_one_name_are_wrong_input(message_of: MessageOf, tmp_path: Path) -> None:
    (tmp_path / "seir.zip").touch()
    message = message_of('[tool.modelops]\nbundles = ["seir", "seir.zip"]')
    assert message.endswith(f"'seir' is the name of two bundles, {tmp_path}/seir and {tmp_path}/seir.zip; rename one")


def test_without_bundles_there_are_none_and_the_runner_is_the_reference_runner(read: Read) -> None:
    settings = read()
    assert (settings.bundles, settings.runner) == ((), RunnerSettings())
    assert settings.runner.path is None
    assert settings.aggregation.failed_when == FAILED_WHEN


def test_every_key_is_read(read: Read, tmp_path: Path) -> None:
    (tmp_path / "run.py").touch()
    settings = read(EVERYTHING)
    assert settings.bundles == (
        Bundle(name="numbers", path=tmp_path / "more/numbers"),
        Bundle(
            name="seir",
            path=tmp_path / "seir",
            entrypoint="seir.models/baseline",
            params={"beta": 0.3, "days": [1]},
            seed=-7,
            targets=("targets:one", "targets.two/three"),
            target_data={"a": {"b": "c"}},
            imports=("seir", "seir.models"),
            expect={"a.txt": "text", "b.bin": f"sha256:{'a' * 64}"},
            aggregation_params=4,
            aggregation_replicates=5,
        ),
    )
    assert settings.runner.command == ("{python}", "-u", "{runner}", "--digest={digest}")
    assert settings.runner.path == tmp_path / "run.py"
    assert settings.aggregation.failed_when == ("error", "outputs.empty")


def test_a_single_value_is_a_list_of_one(read: Read) -> None:
    (one,) = read(bundle('target = "a:b", imports = "seir", entrypoint = "a:b"')).bundles
    assert (one.targets, one.imports) == (("a:b",), ("seir",))
    assert (one.aggregation_params, one.aggregation_replicates) == (2, 3)
    assert read('[tool.modelops.aggregation]\nfailed-when = "error"').aggregation.failed_when == ("error",)


def test_a_place_in_an_artifact_is_a_condition(read: Read) -> None:
    found = read(
        '[tool.modelops.aggregation]\nfailed-when = ["error", "a b.json:x.0.y-z", "a*:"]\nmay-be-empty = "log.txt"'
    ).aggregation
    assert found.failed_when == ("error", "a b.json:x.0.y-z", "a*:")
    assert found.may_be_empty == ("log.txt",)


@pytest.mark.parametrize(
    ("entry", "labels"),
    [
        ('imports = "a"', ["preflight", "bundle-install", "handshake"]),
        ('entrypoint = "a/b"', ["preflight", "bundle-install", "handshake", "execute"]),
        (
            'entrypoint = "a/b", target = "a:b"',
            ["preflight", "bundle-install", "handshake", "execute", "bundle-aggregation"],
        ),
    ],
)
def test_a_bundle_has_the_checks_that_it_has_an_object_for(read: Read, entry: str, labels: list[str]) -> None:
    found = [check.label for check in all_checks(read(bundle(entry)).bundles) if check.bundle is not None]
    assert found == [f"{label}[seir]" for label in labels]


def test_only_a_runner_that_installs_can_use_an_environment_again(read: Read) -> None:
    bundles = read(bundle('entrypoint = "a/b"')).bundles
    found = [check for check in all_checks(bundles, reuse=True) if check.bundle is not None]
    assert [check.name for check in found] == [*("preflight", "bundle-install", "handshake", "execute", "venv-reuse")]
    assert found[-1].needs == ("handshake[seir]",)


def test_the_reference_runner_is_reported_to_install_and_a_runner_of_the_user_s_tells_itself(
    read: Read, tmp_path: Path
) -> None:
    (tmp_path / "run.py").touch()
    reference = read("[tool.modelops.runner]\ninstalls = true").runner
    assert reference.command == (
        *RunnerSettings.command,
        *("--install-from", "{wheels}", "--python-version", "{version}"),
    )
    assert reference.fresh_env == {"MODELOPS_FORCE_FRESH_VENV": "true"}
    of_user = read("[tool.modelops.runner]\ninstalls = true\npath = 'run.py'").runner
    assert (of_user.command, of_user.fresh_env) == (RunnerSettings.command, None)
    reported = read("[tool.modelops.runner]\ninstalls = true\npath = 'run.py'\nfresh-env = { FRESH = '1' }")
    assert reported.runner.fresh_env == {"FRESH": "1"}
    assert not read("").runner.installs


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("run.py", "{0}/run.py"),
        ("app", "{0}/app"),
        ("pkg.inner:run.py", "pkg.inner:run.py"),
        ("{0}/run.py", "{0}/run.py"),
    ],
)
def test_the_forms_of_a_runners_path(read: Read, tmp_path: Path, path: str, expected: str) -> None:
    (tmp_path / "run.py").touch()
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__main__.py").touch()
    settings = read(f'[tool.modelops.runner]\npath = "{path.format(tmp_path)}"\n')
    assert str(settings.runner.path) == expected.format(tmp_path)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (
            "[tool.modelops]\nbundles = 'seir'",
            "pyproject.toml: [tool.modelops] bundles: 'seir' is not a list of paths or",
        ),
        ("[tool.modelops]\nbundles = [1]", f"{FIRST}: 1 is not a table; its keys are {KEYS}"),
        ("[tool.modelops]\nbundles = [{ seed = 1 }]", f"{FIRST}: has no path"),
        (
            "[tool.modelops]\nbundles = ['gone']",
            f"{FIRST}.path: 'gone' is neither a bundle's directory nor an archive (",
        ),
        (
            "[tool.modelops]\nbundles = ['pyproject.toml']",
            f"{FIRST}.path: 'pyproject.toml' is neither a bundle's directory nor an archive",
        ),
        ("[tool.modelops]\nbundles = ['']", f"{FIRST}.path: '' is empty"),
        ("[tool.modelops]\nbundles = [{ path = 1 }]", f"{FIRST}.path: 1 is a number; write it in quotes"),
        (
            "[tool.modelops]\nbundles = ['with space']",
            f"{FIRST}.path: 'with space' cannot be a bundle's name: only letters, digits and . + - _ are allowed;",
        ),
        (
            bundle('entry-point = "a/b"'),
            f"{FIRST}: 'entry-point' is not a key; did you mean 'entrypoint'? Valid: {KEYS}",
        ),
        (bundle('entrypoint = "seir"'), f"{FIRST}.entrypoint: 'seir' is not an entry point; write package.module/scen"),
        (bundle("entrypoint = 1"), f"{FIRST}.entrypoint: 1 is a number"),
        (bundle('target = "targets"'), f"{FIRST}.target: 'targets' is not a target; write package.module:function"),
        (bundle('target = ["a:b", "c d:e"]'), f"{FIRST}.target: 'c d:e' is not a target"),
        (bundle('imports = ["seir.1"]'), f"{FIRST}.imports: 'seir.1' is not the name of a module, such as package."),
        (bundle('imports = ["seir/models.py"]'), f"{FIRST}.imports: 'seir/models.py' is not the name of a module"),
        (bundle("seed = 1.5"), f"{FIRST}.seed: 1.5 is not a whole number"),
        (bundle("seed = true"), f"{FIRST}.seed: true is not a whole number"),
        (bundle("params = [1]"), f"{FIRST}.params: [1] is not a table, such as {{ beta = 0.3 }}"),
        (bundle("params = { day = 2024-11-01 }"), f"{FIRST}.params: {{ day = 2024-11-01 }} cannot be sent as JSON: "),
        (bundle("params = { beta = nan }"), f"{FIRST}.params: {{ beta = nan }} cannot be sent as JSON: "),
        (bundle("target-data = 'a'"), f"{FIRST}.target-data: 'a' is not a table"),
        (bundle('entrypoint = "a/b", expect = {}'), f"{FIRST}.expect: {{}} is not a table of artifacts, such as"),
        (bundle('entrypoint = "a/b", expect = { a = 1 }'), f"{FIRST}.expect: a: 1 is a number; write it in quotes"),
        (
            bundle('entrypoint = "a/b", expect = { a = "sha256:abc" }'),
            f"{FIRST}.expect: a: 'sha256:abc' is not sha256: and 64 hexadecimal digits",
        ),
        (bundle('expect = { a = "b" }'), f"{FIRST}: has expect and no entrypoint that would return it"),
        (
            bundle('entrypoint = "a/b", aggregation = { params = 1 }'),
            f"{FIRST}: has aggregation, for which it needs an entrypoint and a target",
        ),
        (
            bundle('target = "a:b", aggregation = { params = 1 }'),
            f"{FIRST}: has aggregation, for which it needs an entrypoint and a target",
        ),
        (
            bundle('entrypoint = "a/b", target = "a:b", aggregation = { params = 0 }'),
            f"{FIRST}.aggregation.params: 0 is not a whole number from 1 up",
        ),
        (
            bundle('entrypoint = "a/b", target = "a:b", aggregation = { replicas = 1 }'),
            f"{FIRST}.aggregation: 'replicas' is not a key; did you mean 'replicates'? Valid: params, replicates",
        ),
        (bundle("aggregation = 1"), f"{FIRST}.aggregation: 1 is not a table; its keys are params, replicates"),
        (
            "[tool.modelops]\nbundles = ['seir', 'more/seir']",
            "pyproject.toml: [tool.modelops] bundles: 'seir' is the name of two bundles, ",
        ),
        ("[tool.modelops]\nbundles = ['seir', 'more/../seir']", "pyproject.toml: [tool.modelops] bundles: the bundle "),
        (
            "[tool.modelops.runner]\npth = 1",
            f"{RUNNER}: 'pth' is not a key; did you mean 'path'? Valid: command, fresh-env, installs, path",
        ),
        (
            "[tool.modelops.runner]\npath = 'gone.py'",
            f"{RUNNER} path: 'gone.py' is neither a runner's file, nor a directory",
        ),
        (
            "[tool.modelops.runner]\npath = 'seir'",
            f"{RUNNER} path: 'seir' is neither a runner's file, nor a directory with",
        ),
        ("[tool.modelops.runner]\npath = 'pkg:run'", f"{RUNNER} path: 'pkg:run' is neither a runner's file"),
        ("[tool.modelops.runner]\npath = ''", f"{RUNNER} path: '' is empty"),
        ("[tool.modelops.runner]\ncommand = 'python'", f"{RUNNER} command: 'python' is not a command line, such as ["),
        ("[tool.modelops.runner]\ncommand = []", f"{RUNNER} command: [] is not a command line"),
        ("[tool.modelops.runner]\ncommand = [1]", f"{RUNNER} command: 1 is a number"),
        (
            "[tool.modelops.runner]\ncommand = ['{pyhton}']",
            f"{RUNNER} command: '{{pyhton}}' is not a placeholder; did you mean '{{python}}'? Valid: {PLACEHOLDERS}",
        ),
        ("[tool.modelops.runner]\ninstalls = 1", f"{RUNNER} installs: 1 is neither true nor false"),
        (
            "[tool.modelops.runner]\nfresh-env = { A = '1' }",
            f"{RUNNER} fresh-env: means nothing without installs = true",
        ),
        (
            "[tool.modelops.runner]\ninstalls = true\nprotocol = 'one-shot'\nfresh-env = { A = '1' }",
            f"{RUNNER} fresh-env: means nothing with protocol = 'one-shot', whose runner uses no environment again; ",
        ),
        (
            "[tool.modelops.runner]\npath = 'pkg:run.py'\ncommand = ['{python}', 'run.py', '{bundle}']",
            (
                f"{RUNNER} path: means nothing with a command that does not have {{runner}}, which is this path; "
                "put it into [tool.modelops.runner] command, or leave the path out"
            ),
        ),
        (bundle("params = { beta = 1 }"), f"{FIRST}: has params and no entrypoint that would take them"),
        (bundle("seed = 1"), f"{FIRST}: has seed and no entrypoint that would take it"),
        (bundle('target = "a:b"'), f"{FIRST}: has target and no entrypoint whose replicates it would aggregate"),
        (
            bundle('entrypoint = "a/b", target-data = { a = 1 }'),
            f"{FIRST}: has target-data and no target that would take it",
        ),
        ("[tool.modelops.runner]\ninstalls = true\nfresh-env = { A = 1 }", f"{RUNNER} fresh-env: A: 1 is a number"),
        (
            "[tool.modelops.aggregation]\nfailed-when = []",
            (
                "pyproject.toml: [tool.modelops.aggregation] failed-when: [] would let every replicate pass. Valid: "
                "error, outputs.empty, outputs.error, ARTIFACT:PATH"
            ),
        ),
        (
            "[tool.modelops.aggregation]\nfailed-when = ['outputs.errors']",
            (
                "pyproject.toml: [tool.modelops.aggregation] failed-when: 'outputs.errors' is not a condition; did you "
                "mean 'outputs.error'? Valid: error, outputs.empty, outputs.error, ARTIFACT:PATH"
            ),
        ),
    ],
)
def test_what_cannot_be_meant_is_one_line_with_file_key_and_valid_values(
    message_of: MessageOf, toml: str, message: str
) -> None:
    assert message_of(toml).startswith(message)


# --- --modelops-bundle -------------------------------------------------------------------------------------------


def test_the_command_line_replaces_the_configured_bundles(read: Read, tmp_path: Path) -> None:
    settings = read(bundle('entrypoint = "a/b", seed = 3'), "more/numbers", str(tmp_path / "more" / "seir"))
    assert settings.bundles == (
        Bundle(name="numbers", path=tmp_path / "more/numbers"),
        Bundle(name="seir", path=tmp_path / "more/seir"),
    )


@pytest.mark.parametrize(
    ("text", "directory"),
    [("seir", "."), ("./seir", "."), ("more/../seir", "."), ("../seir", "more"), ("seir", "more"), ("{0}/seir", ".")],
)
def test_a_configured_bundle_is_named_by_its_path_or_name_and_keeps_its_settings(
    read: Read, tmp_path: Path, text: str, directory: str
) -> None:
    (one,) = read(bundle('entrypoint = "a/b", seed = 3'), text.format(tmp_path), directory=directory).bundles
    assert (one.path, one.seed) == (tmp_path / "seir", 3)


def test_a_path_is_relative_to_where_pytest_was_started(read: Read, tmp_path: Path) -> None:
    (one,) = read("", "numbers", directory="more").bundles
    assert one.path == tmp_path / "more" / "numbers"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["gone"], "--modelops-bundle: 'gone' is neither a bundle's directory nor an archive ("),
        (["with space"], "--modelops-bundle: 'with space' cannot be a bundle's name"),
        (["seir", "more/seir"], "--modelops-bundle: 'seir' is the name of two bundles, "),
        (["seir", "./seir"], "--modelops-bundle: the bundle "),
        (["more/numbers", "more/numbers"], "--modelops-bundle: the bundle "),
        ([""], "--modelops-bundle: '' is empty"),
    ],
)
def test_what_cannot_be_given_is_said_of_the_flag(message_of: MessageOf, given: list[str], message: str) -> None:
    assert message_of(bundle('entrypoint = "a/b", seed = 3'), *given).startswith(message)


def test_what_is_wrong_in_the_file_is_said_although_the_command_line_replaces_it(message_of: MessageOf) -> None:
    assert message_of(bundle("seed = 'a'"), "more/numbers").startswith(f"{FIRST}.seed: ")


def test_a_bundle_reached_through_a_link_is_the_configured_one(read: Read, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "seir")
    configured = read(bundle('entrypoint = "a/b", seed = 3')).bundles
    assert at("link", tmp_path, configured) is configured[0]
