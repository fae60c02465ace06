"""The wheel and the sdist: built, and installed beside a project that has folders of the same names as this one."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import visual_memory
from tests.support.shape_pictures import picture

ROOT = Path(__file__).parents[2]
FOLDERS = ("schemas", "services", "workers")
SOURCES = (*FOLDERS, "visual_memory", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
PROJECT = {"services/__init__.py": "", "services/client.py": "OURS = True", "schemas/__init__.py": "OURS = True"}


@dataclass(frozen=True)
class Built:
    """A wheel and the sdist that it was not made from."""

    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    sources, out = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("built")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, sources)
    return Built(build("build_wheel", sources, out), build("build_sdist", sources, out))


def build(hook: str, sources: Path, out: Path) -> Path:
    """Call a hook of setuptools' build backend; the file that it made."""
    command = [sys.executable, "-W", "ignore", "-c", BUILD, hook, str(out)]
    ended = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return out / ended.stdout.splitlines()[-1]


def files_of(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel, without the list of their digests."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


@pytest.fixture(scope="module")
def python(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that has the wheel, and sees the packages of the tests' environment."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    made = folder / "bin" / "python"
    paths = {"base": str(folder), "platbase": str(folder)}
    site_packages = Path(sysconfig.get_path("purelib", vars=paths))
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (site_packages / "tests.pth").write_text("\n".join(ours))
    pip = [sys.executable, "-m", "pip", "--python", str(made), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--disable-pip-version-check", str(built.wheel)], check=True)
    return made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of a project with packages of its own."""
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def run(project: Path, *command: str | Path) -> str:
    """What a program of the environment prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_wheel_holds_every_package_and_module(built: Built) -> None:
    modules = {path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    expected = {f"visual_memory/{path.relative_to(ROOT).as_posix()}" for path in modules}
    expected |= {f"visual_memory/{path.name}" for path in (ROOT / "visual_memory").glob("*.py")}
    packed = {name for name in files_of(built.wheel) if name.endswith(".py")}
    assert packed == expected
    assert all(f"{name.rpartition('/')[0]}/__init__.py" in packed for name in packed), "each folder is a package"


@pytest.mark.parametrize(
    "ending",
    [
        "visual_memory/py.typed",
        "services/evaluation/report/report_template.html",
        "services/infrastructure/records/migrations/env.py",
        ".dist-info/licenses/LICENSE",
        ".dist-info/licenses/NOTICE",
    ],
)
def test_the_wheel_holds_what_is_no_module(built: Built, ending: str) -> None:
    assert [name for name in files_of(built.wheel) if name.endswith(ending)]


def test_the_wheel_is_licensed_and_named(built: Built) -> None:
    files = files_of(built.wheel)
    [metadata] = [text.decode() for name, text in files.items() if name.endswith("/METADATA")]
    assert f"Version: {visual_memory.__version__}" in metadata
    assert "License-Expression: Apache-2.0" in metadata
    assert {name.partition("/")[0].partition("-")[0] for name in files} == {"visual_memory"}


def test_the_sdist_builds_the_same_wheel(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [unpacked] = tmp_path.iterdir()
    assert files_of(build("build_wheel", unpacked, tmp_path)) == files_of(built.wheel)


def test_a_project_keeps_packages_of_the_same_names(python: Path, project: Path) -> None:
    code = """
import schemas, services.client, visual_memory
print(services.client.OURS, schemas.OURS, visual_memory.__file__)
from visual_memory import Client, ImageFields
import visual_memory.services.bootstrap.api_process
"""
    ours, theirs, file = run(project, python, "-c", code).split()
    assert (ours, theirs) == ("True", "True")
    assert Path(file).is_relative_to(python.parents[1]), "it is the wheel's, not the repository's"


def test_the_notebook_of_the_documentation_runs(python: Path, project: Path) -> None:
    cells = json.loads((ROOT / "docs" / "quickstart.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert len([line for line in code.splitlines() if line]) <= 10
    for kind in ("bars", "disc"):
        (project / "pictures" / kind).mkdir(parents=True)
        for number in range(2):
            (project / "pictures" / kind / f"{kind}-{number}.png").write_bytes(picture(kind))
    printed = run(project, python, "-c", f"{code}\nprint(decision.label, receipt is not None)")
    assert printed.split() == ["disc", "True"]


def test_the_command_runs(python: Path, project: Path) -> None:
    printed = run(project, python.with_name("visual-memory"), "--help")
    assert "teach by showing" in printed
