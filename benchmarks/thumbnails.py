"""Serve thumbnails: CPU time for the tiles of one page, and what making them adds to decoding a picture."""

import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.decode import CROP, large
from benchmarks.ingest import through_all
from benchmarks.process_costs import cpu_seconds
from benchmarks.result_table import Row, compare, rate
from benchmarks.sample_pictures import photographs
from benchmarks.tiny_encoder import tiny_encoder
from visual_memory.services.cli.temporary_service import temporary_service
from visual_memory.services.decoding.decode_many import THUMBNAIL_SIDE
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.pillow_decode import decode, decode_with_thumbnail
from visual_memory.services.settings import PictureSettings

TILES = 100
CONNECTIONS = 6
"""As many as a browser opens."""
ALLOWED = "allowed"
FIRST = "made at the first request"
ALONE = "the encoder's pixels alone"


def measure() -> list[Row]:
    """Thumbnails over HTTP, and while a picture is decoded."""
    return [tiles(), *making()]


def tiles() -> Row:
    """One page of thumbnails, none of which the browser has."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        with temporary_service(data, ENCODER__NAME=str(tiny_encoder(Path(folder) / "tiny"))) as client:
            through_all(client, photographs(TILES))
            ids = [image.image_id for image in client.images(limit=TILES).data]

            def show() -> None:
                with ThreadPoolExecutor(CONNECTIONS) as connections:
                    list(connections.map(client.thumbnail, ids))

            def show_first() -> None:
                for path in (data / "pictures").rglob(".*.jpg"):
                    path.unlink()
                show()

            return compare(
                f"{TILES} thumbnails over HTTP, photographs of 400 x 533",
                "s",
                lambda: _cpu_seconds(show, "api"),
                {ALLOWED: lambda: 0.2, FIRST: lambda: _cpu_seconds(show_first, "api", "api decoder")},
                asked={ALLOWED: 1},
                rounds=3,
                note=f"time of the CPU, of the API's process; {_others(show)}",
            )


def making() -> list[Row]:
    """Decoding for the built-in encoder with and without a thumbnail, in this process, on all cores."""
    settings = PictureSettings()
    limits = PictureLimits(settings.max_bytes, settings.max_pixels)
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def each(work: Callable[[bytes], object], pictures: Sequence[bytes]) -> Callable[[], float]:
            return rate(len(pictures), lambda: list(pool.map(work, pictures)))

        return [
            compare(
                f"decode {stage}, with a thumbnail of {THUMBNAIL_SIDE} pixels",
                "pictures/s",
                each(lambda data: decode_with_thumbnail(data, limits, CROP, THUMBNAIL_SIDE), pictures),
                {ALONE: each(lambda data: decode(data, limits, CROP), pictures)},
            )
            for stage, pictures in (
                ("12-megapixel photographs", large(12)),
                ("photographs of 400 x 533", photographs(128)),
            )
        ]


def _cpu_seconds(work: Callable[[], object], *names: str) -> float:
    before = cpu_seconds()
    work()
    after = cpu_seconds()
    return sum(after.get(name, 0.0) - before.get(name, 0.0) for name in names)


def _others(work: Callable[[], object]) -> str:
    """What the other processes that take part need for it."""
    work()
    return f"the engine's takes {_cpu_seconds(work, 'engine'):.2f} s more"
