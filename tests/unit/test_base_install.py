"""The base install: what the client and its command line import is what `pyproject.toml` installs without extras."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from visual_memory.services.optional_packages import EVALUATION, SERVER, STORAGE

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
ONLY_BASE = """
import sys

class Blocking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocking())
"""
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


@cache
def installed_by(*requirements: str) -> frozenset[str]:
    """The distributions that requirements install, by their normal names."""
    found: set[str] = set()
    left = [Requirement(each) for each in requirements]
    while left:
        requirement = left.pop()
        name = normal(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        try:
            needed = [Requirement(each) for each in requires(requirement.name) or ()]
        except PackageNotFoundError:
            continue
        extras = requirement.extras or {""}
        left += [
            Requirement(str(each).partition(";")[0])
            for each in needed
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras)
        ]
    return frozenset(found)


def normal(name: str) -> str:
    """The name of a distribution as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


distributions_of_modules = cache(packages_distributions)


def modules_of(distributions: Iterable[str]) -> set[str]:
    """The top-level modules of distributions."""
    wanted = {*distributions}
    return {module for module, names in distributions_of_modules().items() if {*map(normal, names)} & wanted}


def run(code: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run code where only the base install can be imported."""
    allowed = modules_of(installed_by(*PROJECT["dependencies"])) | {"visual_memory"}
    blocked = {*distributions_of_modules()} - allowed - {*sys.stdlib_module_names}
    whole = f"BLOCKED = {blocked!r}\n{ONLY_BASE}\n{code}"
    return subprocess.run([sys.executable, "-c", whole, *words], capture_output=True, text=True, check=False, cwd=ROOT)


def test_every_command_has_help() -> None:
    ended = run(EVERY_HELP)
    assert ended.returncode == 0, ended.stderr
    assert {"add", "up", "keys make"} <= {*ended.stdout.splitlines()}


def test_the_client_can_be_imported() -> None:
    ended = run("from visual_memory import *; Client().close(); print(AsyncClient().url)")
    assert ended.returncode == 0, ended.stderr


def test_a_local_memory_says_which_extra_it_needs() -> None:
    ended = run("import visual_memory.local")
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
    ended = run("from visual_memory.services.cli.app import main; main()", *words)
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
    ended = run("from visual_memory.services.cli.app import main; main()", *words)
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
