"""The tier of the fault tests, and the table of what they tried: a row for each promise and fault."""

import json
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import settings

settings.register_profile("faults", settings.get_profile("tests"), derandomize=False)
settings.load_profile("faults")

TABLE = os.environ.pop("VISUAL_MEMORY_FAULT_TABLE", None)  # taken out, because to a service it is an unknown setting
TIMEOUT = 1800
_reported = pytest.StashKey[list[dict[str, int | str]]]()
_passed = pytest.StashKey[bool]()


class Report(Protocol):
    """Say what a test tried; a test that fails reports nothing."""

    def __call__(self, promise: int, fault: str, trials: int, lost: int, returned: int) -> None:
        """Add a row to the table.

        Args:
            promise: its number in the design.
            fault: what was done, in a few words; with the promise, it names the row.
            trials: how often.
            lost: how many things were lost that were promised to stay.
            returned: how many came back that were promised to be gone.
        """


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.faults)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[_passed] = report.passed
    return report


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Iterator[Report]:
    """Adds rows to the table, once the test has passed."""
    rows: list[dict[str, int | str]] = []

    def add(promise: int, fault: str, trials: int, lost: int, returned: int) -> None:
        rows.append({"promise": promise, "fault": fault, "trials": trials, "lost": lost, "returned": returned})

    yield add
    if request.node.stash.get(_passed, False):
        request.config.stash.setdefault(_reported, []).extend(rows)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Merge the rows into the file that VISUAL_MEMORY_FAULT_TABLE names: JSON lines, a new row in place of the old."""
    rows = session.config.stash.get(_reported, [])
    if TABLE is None or not rows:
        return
    file = Path(TABLE)
    before = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    merged = {(row["promise"], row["fault"]): row for row in (*before, *rows)}
    lines = [json.dumps(merged[key], ensure_ascii=False) for key in sorted(merged)]
    file.write_text("".join(f"{line}\n" for line in lines))
