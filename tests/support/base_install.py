"""The base install in a process of the tests: packages that only extras install cannot be imported there."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement

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
COMMAND = "from visual_memory.services.cli.app import main; main()"


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


def run_with_base(
    code: str, *words: str, also: Iterable[str] = (), environment: Mapping[str, str] | None = None, folder: Path = ROOT
) -> "subprocess.CompletedProcess[str]":
    """Run code where only the base install can be imported.

    Args:
        code: of Python.
        words: its arguments.
        also: further requirements that can be imported.
        environment: further variables.
        folder: the working directory.
    """
    allowed = modules_of(installed_by(*PROJECT["dependencies"], *also)) | {"visual_memory"}
    blocked = {*distributions_of_modules()} - allowed - {*sys.stdlib_module_names}
    whole = f"BLOCKED = {blocked!r}\n{ONLY_BASE}\n{code}"
    command, variables = [sys.executable, "-c", whole, *words], {**os.environ, **(environment or {})}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=variables)
