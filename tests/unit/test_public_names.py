"""The names of the package's top: lazy at run time, and the same to type checkers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import visual_memory


def test_every_public_name_is_there() -> None:
    assert sorted(visual_memory.__all__) == sorted(name for names in visual_memory._MODULES.values() for name in names)
    for name in visual_memory.__all__:
        assert getattr(visual_memory, name).__name__ == name
        assert name in dir(visual_memory)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(visual_memory.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {
        (node.module or "").removeprefix("visual_memory."): tuple(alias.name for alias in node.names)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
    }
    assert imported == visual_memory._MODULES


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Clients'"):
        _ = visual_memory.Clients  # type: ignore[attr-defined]


def test_the_package_itself_imports_nothing_of_others() -> None:
    code = "import visual_memory, sys; print(*{n.partition('.')[0] for n in sys.modules} - {*sys.stdlib_module_names})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name for name in ended.stdout.split() if name[0] != "_"} <= {"visual_memory", "sitecustomize"}
