"""The base install: what the client and its command line import is what `pyproject.toml` installs without extras."""

import ast
import json
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.support.base_install import (
    COMMAND,
    EXTRAS,
    PROJECT,
    ROOT,
    installed_by,
    modules_of,
    run_with_base,
)
from visual_memory.services.optional_packages import EVALUATION, SERVER, STORAGE

EVERY_HELP = """
from typer.main import get_command
from typer.testing import CliRunner
from visual_memory.services.cli.app import app

def commands(group, *above):
    for name, command in group.commands.items():
        yield (*above, name)
        if hasattr(command, "commands"):
            yield from commands(command, *above, name)

for words in [(), *commands(get_command(app))]:
    ended = CliRunner().invoke(app, [*words, "--help"])
    assert ended.exit_code == 0, (words, ended.output, ended.exception)
    print(*words)
"""


def test_every_command_has_help() -> None:
    ended = run_with_base(EVERY_HELP)
    assert ended.returncode == 0, ended.stderr
    assert {"add", "up", "keys make"} <= {*ended.stdout.splitlines()}


def test_the_client_can_be_imported() -> None:
    ended = run_with_base("from visual_memory import *; Client().close(); print(AsyncClient().url)")
    assert ended.returncode == 0, ended.stderr


def test_a_local_memory_says_which_extra_it_needs() -> None:
    ended = run_with_base("import visual_memory.local")
    assert "visual_memory.local needs the server packages: pip install 'visual-memory[server]'" in ended.stderr


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["up"], "server"),
        (["keys", "list"], "server"),
        (["backup", "file"], "server"),
        (["verify-removals"], "server"),
        (["watch", "."], "server"),
        (["demo"], "server,evaluation"),
        (["evaluate", "--from-neighbours", "pyproject.toml", "-o", "report"], "evaluation"),
    ],
    ids=lambda each: each if isinstance(each, str) else each[0],
)
def test_a_command_says_which_extra_it_needs(words: list[str], extra: str) -> None:
    ended = run_with_base(COMMAND, *words)
    assert ended.returncode == 2, ended.stderr
    needed = " and ".join(extra.split(","))
    advice = f"visual-memory {words[0]} needs the {needed} packages: pip install 'visual-memory[{extra}]'\n"
    assert ended.stderr.endswith(advice)


@pytest.mark.parametrize(
    ("words", "package"),
    [
        (["add", "vectors.npy", "--encoder", "a", "--labels", "a.txt"], "numpy"),
        (["verify-receipt", "pyproject.toml", "--key", "pyproject.toml"], "joserfc"),
    ],
    ids=lambda each: each if isinstance(each, str) else each[0],
)
def test_a_command_says_which_package_it_needs(words: list[str], package: str) -> None:
    ended = run_with_base(COMMAND, *words)
    assert (ended.returncode, ended.stderr) == (
        2,
        f"visual-memory {words[0]} needs {package} for this: pip install {package}\n",
    )


def test_every_import_is_of_the_base_or_of_an_extra() -> None:
    known = modules_of(installed_by(*PROJECT["dependencies"])) | SERVER | EVALUATION | STORAGE.keys()
    known |= {*sys.stdlib_module_names, "visual_memory"}
    for path in (
        file for top in ("schemas", "services", "workers", "visual_memory") for file in (ROOT / top).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in names:
                assert name.partition(".")[0] in known, f"{path} imports {name}"


@pytest.mark.parametrize(
    ("modules", "extra"), [(SERVER, "server"), (EVALUATION, "evaluation")], ids=["server", "evaluation"]
)
def test_an_extra_installs_its_modules(modules: frozenset[str], extra: str) -> None:
    assert modules <= modules_of(installed_by(*EXTRAS[extra]))


def test_the_base_install_is_small() -> None:
    """Files as they are installed, without bytecode, which pip compiles and other installers do not."""
    installed = [distribution(name) for name in installed_by(*PROJECT["dependencies"])]
    files = [found.locate_file(file) for found in installed for file in found.files or () if file.suffix != ".pyc"]
    ours = [path for top in ("schemas", "services", "workers", "visual_memory") for path in (ROOT / top).rglob("*.py")]
    assert sum(Path(str(path)).stat().st_size for path in [*files, *ours]) < 30 * 10**6


def test_the_extra_of_evaluations_measures_neighbours(tmp_path: Path) -> None:
    entry = {
        "featurizer": "dinov2_vits14",
        "image_id": "q",
        "image_class": 3,
        "neighbor_image_ids": ["a", "b"],
        "neighbor_classes": [3, 5],
        "neighbor_distances": [0.1, 0.2],
    }
    (tmp_path / "neighbours.json").write_text(json.dumps({"q": entry}))
    words = ["evaluate", "--from-neighbours", "neighbours.json", "--output", "report"]
    ended = run_with_base(COMMAND, *words, also=EXTRAS["evaluation"], folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "report" / "report.html").exists()
