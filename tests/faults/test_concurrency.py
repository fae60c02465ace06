"""All promises where actors overlap: real use cases, step by step, on both databases."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.concurrency.scenarios import ROWS, Row
from tests.concurrency.service import Place
from tests.concurrency.trial import place_over, try_row
from tests.faults.conftest import Report
from tests.support.databases import KINDS
from tests.support.memory_images import quick_folder

SCHEDULES = 500
"""On each database."""
SEED = 13


@pytest.fixture(scope="module")
def places() -> Iterator[list[Place]]:
    with ExitStack() as opened:
        folders = [opened.enter_context(quick_folder()) for _ in KINDS]
        yield [opened.enter_context(place_over(*each)) for each in zip(KINDS, folders, strict=True)]


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_no_promise_breaks_whoever_goes_on(places: list[Place], row: Row, report: Report) -> None:
    tried = sum(try_row(row, place, SCHEDULES, SEED) for place in places)
    assert tried == len(places) * SCHEDULES
    report(row.promise, row.what, tried, 0, 0)
