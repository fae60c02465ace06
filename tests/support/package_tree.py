"""Writes the packages into docs/architecture.md: ``python -m tests.support.package_tree``."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
LISTED = re.compile(r"(<!-- packages -->\n).*?(<!-- /packages -->)", re.DOTALL)


def package_tree() -> str:
    """A row for each package: its path, the first line of its docstring, its modules."""
    rows = ["| package | purpose | modules |", "|---|---|---|"]
    for top in ("schemas", "services", "workers"):
        for init in sorted((ROOT / top).rglob("__init__.py")):
            docstring = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
            modules = sorted(
                path.stem for path in init.parent.glob("*.py") if path.stem.strip("_") not in {"init", "main"}
            )
            listed = " ".join(f"`{name}`" for name in modules)
            rows.append(f"| `{init.parent.relative_to(ROOT)}/` | {docstring.splitlines()[0]} | {listed} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Write the list into the page."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(LISTED.sub(lambda found: found[1] + package_tree() + found[2], text), encoding="utf-8")


if __name__ == "__main__":
    main()
