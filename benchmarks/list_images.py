"""Measure lists of a million images in the embedded engine: the first, the middle and the last page of every order.

python -m benchmarks.list_images [IMAGES]; writes its table into README.md beside this file. A million take about 10
minutes and 1.5 GB of disk. The pages go through the owner's socket and become images, as in the service.
"""

import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np

from benchmarks.__main__ import PAGE, machine
from benchmarks.clustered_vectors import ENCODER, METADATA, TENANT
from benchmarks.growth import owner
from benchmarks.result_table import Row, compare, markdown, milliseconds
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause, Filter
from visual_memory.schemas.image import State, StoredImage, point_id
from visual_memory.schemas.image_search import ImageSort
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.page_cursor import to_sorted_cursor
from visual_memory.services.memory.points.point_payload import to_point
from visual_memory.services.memory.points.unit_vectors import to_units
from visual_memory.services.vector_engines.engine_contract import Insert, NamedVectors, Position
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine

IMAGES, AT_ONCE, LIMIT, ROUNDS = 1_000_000, 5_000, 100, 9
DIMENSION = 4
"""Lists do not read vectors, and of so short ones the engine builds no index meanwhile."""
AT_ONE_MOMENT = 1_000
"""Images of a bulk import that are accepted at exactly the same moment; a tenth of all share one more."""
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ASKED = "asked for"
FIRST, MIDDLE, LAST = "first page", "page in the middle", "last page"
START, END = "<!-- list_images -->", "<!-- /list_images -->"


def main(images: int) -> None:
    """Fill an engine, measure, and store the table."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = fill(Path(folder) / "data", images)
        with owner(Path(folder), DIMENSION) as (memory, _):
            rows = [*measure(memory, images)]
    text = (
        f"`python -m benchmarks.list_images`, {time.strftime('%Y-%m-%d')}, {machine()}; {images:,} images"
        f" (stored in {seconds:,.0f} s), pages of {LIMIT}\n\n{markdown(rows)}"
    )
    before, _, rest = PAGE.read_text().partition(START)
    PAGE.write_text(f"{before}{START}\n{text}\n{END}{rest.partition(END)[2]}")
    print(text)


def fill(data: Path, images: int) -> float:
    """Store images as a bulk import does, and return the seconds."""
    begun, chance = time.perf_counter(), np.random.default_rng(0)
    memory = Memory(EdgeEngine(data), ENCODER, DIMENSION, METADATA)
    memory.open()
    for start in range(0, images, AT_ONCE):
        few = [made(number, images, chance) for number in range(start, min(start + AT_ONCE, images))]
        vectors = NamedVectors(memory.points.vector, to_units(chance.normal(size=(len(few), DIMENSION))))
        memory.points.engine.write([Insert([to_point(each) for each in few], vectors)])
    memory.close()
    return time.perf_counter() - begun


def made(number: int, images: int, chance: np.random.Generator) -> StoredImage:
    """One image of a bulk import: nine of ten have a moment of their capture, a tenth came at one moment."""
    import_number = 0 if number < images // 10 else number // AT_ONE_MOMENT
    return StoredImage(
        tenant=TENANT,
        image_id=f"image-{number:09}",
        labels=[f"class/{number % 300}"],
        state=State.REMEMBERED,
        source=f"camera-{number % 2}",
        subject=f"subject-{number * 20 // images}",
        accepted_at=BEGIN + timedelta(seconds=import_number),
        captured_at=BEGIN - timedelta(seconds=int(chance.integers(0, 30_000_000))) if number % 10 else None,
        content_hash=f"{number:064x}",
        picture=f"{TENANT}/{number:064x}",
        encoder=ENCODER,
    )


FILTERS: Mapping[str, Filter] = {
    "all": Filter({}),
    "every second (`source`)": Filter({"source": "camera-1"}),
    "one of 300 (`labels`)": Filter({"labels": "class/7"}),
    "the 20th that came first (`subject`)": Filter({"subject": "subject-0"}),
}


def measure(memory: Memory, images: int) -> Iterator[Row]:
    """Measure the pages of every order with every filter, then the totals."""
    for sort in get_args(ImageSort):
        for name, where in FILTERS.items():
            clauses = where.clauses(METADATA)
            cursors = {FIRST: None, MIDDLE: middle(sort, images), LAST: last(memory, sort, clauses)}
            pages = {
                place: milliseconds(partial(memory.in_order.page, TENANT, clauses, sort, LIMIT, cursor))
                for place, cursor in cursors.items()
            }
            others = {MIDDLE: pages[MIDDLE], LAST: pages[LAST], ASKED: lambda: 100.0}
            yield compare(f"`{sort}`, {name}: {FIRST}", "ms", pages[FIRST], others, ROUNDS, {ASKED: 1})
    for name, where in FILTERS.items():
        clauses = where.clauses(METADATA)
        total = memory.in_order.total(TENANT, clauses)
        note = f"{total.images:,}, {'an estimate' if total.is_estimate else 'exact'}"
        count = milliseconds(partial(memory.in_order.total, TENANT, clauses))
        yield compare(f"total, {name}", "ms", count, {ASKED: lambda: 100.0}, ROUNDS, {ASKED: 1}, note)


def middle(sort: ImageSort, images: int) -> str | None:
    """The cursor of a page in the middle of an order, and in the middle of those that share a moment."""
    moment = BEGIN + timedelta(seconds=images // AT_ONE_MOMENT // 2)
    if sort.endswith("captured_at"):
        moment = BEGIN - timedelta(seconds=15_000_000)
    return to_sorted_cursor(sort, Position(moment, str(uuid.UUID(int=2**127))))


def last(memory: Memory, sort: ImageSort, clauses: list[Clause]) -> str | None:
    """The cursor of about the last page of an order."""
    if sort.endswith("captured_at"):  # images without it come last, by point id, which are random
        undated = [*clauses, Clause("captured_at", FieldType.DATETIME, negated=True)]
        share = LIMIT / max(LIMIT, memory.images.count(TENANT, undated))
        return to_sorted_cursor(sort, Position(None, str(uuid.UUID(int=int(2**128 * (1 - share))))))
    opposite: ImageSort = "accepted_at" if sort.startswith("-") else "-accepted_at"
    page, _ = memory.in_order.page(TENANT, clauses, opposite, LIMIT)
    return to_sorted_cursor(sort, Position(page[-1].accepted_at, point_id(TENANT, page[-1].image_id)))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
