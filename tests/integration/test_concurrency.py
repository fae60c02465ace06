"""All promises where actors overlap, in short: tests/faults makes a thousand schedules of each row."""

from collections.abc import Iterator

import pytest

from tests.concurrency.scenarios import ROWS, Row
from tests.concurrency.service import Place
from tests.concurrency.trial import place_over, try_row
from tests.support.databases import KINDS
from tests.support.memory_images import quick_folder

SCHEDULES = 2


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with quick_folder() as folder, place_over(request.param, folder) as made:
        yield made


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_no_promise_breaks_whoever_goes_on(place: Place, row: Row) -> None:
    assert try_row(row, place, SCHEDULES, 1, shrink=False) == SCHEDULES
