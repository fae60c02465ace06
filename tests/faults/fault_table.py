"""The table in docs/promises.md: promise, fault, trials, lost, returned; `make fault-table` writes it."""

import json
import re
from pathlib import Path

RESULTS = Path(__file__).parent / "results.jsonl"
PAGE = Path(__file__).parents[2] / "docs" / "promises.md"
MARKED = re.compile(r"(<!-- faults -->\n).*?(<!-- /faults -->)", re.DOTALL)


def table() -> str:
    """What the fault tests tried and found, as Markdown."""
    rows = ["| promise | fault | trials | lost | returned |", "|---|---|---|---|---|"]
    for line in RESULTS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows.append("| {promise} | {fault} | {trials:,} | {lost} | {returned} |".format(**row))
    return "\n".join(rows)


def write() -> None:
    """Put the table into the PAGE."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(MARKED.sub(lambda found: f"{found[1]}{table()}\n{found[2]}", text), encoding="utf-8")


if __name__ == "__main__":
    write()
