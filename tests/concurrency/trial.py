"""Many schedules of a row of the table, drawn by hypothesis; one that breaks a promise is made smaller, and shown."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from unittest import mock

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.concurrency.scenarios import Row
from tests.concurrency.schedule import schedule
from tests.concurrency.scheduler import Turn, turns
from tests.concurrency.service import Place, place
from tests.support.databases import new_database
from visual_memory.services.removal import covered_image_records
from visual_memory.services.removal.steps import mark_covered_images


@contextmanager
def place_over(kind: str, folder: Path) -> Iterator[Place]:
    """An engine and files in a folder, and records in a kind of database."""
    with new_database(kind, folder / "records") as database, place(folder / "data", database) as made:
        yield made


def try_row(row: Row, made: Place, schedules: int, first: int, *, shrink: bool = True) -> int:
    """Make so many schedules; returns how many these were.

    Args:
        row: which actors.
        made: where.
        schedules: how many at most: fewer where there are no others.
        first: the seed; the same makes the same schedules.
        shrink: make one that breaks a promise as small as it can be; that takes minutes.

    Raises:
        AssertionError: a promise does not hold.
    """
    tried = 0

    @seed(first)
    @settings(
        max_examples=schedules,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(turns(*row.faults), st.integers(0, 2**20))
    def one(chosen: list[Turn], drawn: int) -> None:
        nonlocal tried
        tried += 1
        with schedule(made) as begun:
            row.act(begun, Random(drawn))
            found = begun.run(chosen, row.after, erase=row.erase)
        assert not found, str(found)

    with (
        mock.patch.object(covered_image_records, "PAGE", row.page),
        mock.patch.object(mark_covered_images, "PAGE", row.page),
    ):
        one()
    return tried
