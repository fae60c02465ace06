"""Run all benchmarks, or the named ones, and print and store their tables: ``python -m benchmarks [NAME ...]``.

``benchmarks/results.json`` holds the latest rows of each, ``benchmarks/README.md`` shows them all.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.result_table import Row, markdown

NAMES = (
    "decode",
    "encode",
    "ingest",
    "stream",
    "import_vectors",
    "search",
    "classify",
    "serve",
    "thumbnails",
    "votes",
    "exact_neighbours",
    "events",
    "footprint",
    "migrate",
)
HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results.json", HERE / "README.md"
START, END = "<!-- results -->", "<!-- /results -->"


def main(names: Iterable[str]) -> None:
    """Run benchmarks in sequence."""
    held: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names:
        begun = time.perf_counter()
        rows: list[Row] = import_module(f"benchmarks.{name}").measure()
        print(f"\n{name}, {time.perf_counter() - begun:.0f} s\n{markdown(rows)}", flush=True)
        held[name] = {"on": machine(), "at": time.strftime("%Y-%m-%d"), "rows": [row.as_json() for row in rows]}
        RESULTS.write_text(f"{json.dumps(held, indent=1)}\n")
    PAGE.write_text(page(PAGE.read_text(), held))


def page(text: str, held: dict[str, Any]) -> str:
    """Insert the tables into the page."""
    tables = [
        f"### {name}\n\n`python -m benchmarks {name}`, {held[name]['at']}, {held[name]['on']}\n\n"
        + markdown([Row(**row) for row in held[name]["rows"]])
        for name in NAMES
        if name in held
    ]
    before, _, rest = text.partition(START)
    return before + START + "\n" + "\n\n".join(tables) + "\n" + END + rest.partition(END)[2]


def machine() -> str:
    """Describe the machine."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), ":")
    return f"{os.cpu_count()} cores of {cpu.partition(':')[2].strip() or platform.processor()}"


if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - set(NAMES)
    if unknown:
        raise SystemExit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    main(sys.argv[1:] or NAMES)
