"""Clustered vectors, distributed as embeddings are, and memories of such vectors without pictures."""

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np

from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.image import State, StoredImage, point_id
from visual_memory.schemas.labels import label_paths
from visual_memory.services.memory.points.point_payload import to_point
from visual_memory.services.vector_engines.engine_contract import Point, Vectors

DIMENSION = 384
CLUSTERS = 300
KIND = "300 directions and as much noise, its variance falling as 1/n from axis to axis, as embeddings' does"
ENCODER = "none"
TENANT = "default"
METADATA = {"percent": FieldType.INTEGER}
AT_ONCE = 10_000


def clustered(count: int, seed: int) -> tuple[Vectors, list[int]]:
    """Unit vectors, float32 [count, DIMENSION], and the cluster number of each."""
    fixed = np.random.default_rng(0)
    centres = fixed.normal(size=(CLUSTERS, DIMENSION)) / DIMENSION**0.5
    deviations = np.arange(1, DIMENSION + 1) ** -0.5
    axes = np.linalg.qr(fixed.normal(size=(DIMENSION, DIMENSION)))[0] * (deviations / np.linalg.norm(deviations))
    chance = np.random.default_rng([1, seed])
    numbers = chance.integers(0, CLUSTERS, count)
    vectors = np.empty((count, DIMENSION), np.float32)
    for start in range(0, count, AT_ONCE):
        some = numbers[start : start + AT_ONCE]
        rows = centres[some] + chance.normal(size=(len(some), DIMENSION)) @ axes.T
        vectors[start : start + AT_ONCE] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return vectors, numbers.tolist()


def points(vectors: Vectors, numbers: list[int], first: int = 0) -> Iterator[Point]:
    """Remembered images with these vectors, labelled by cluster; every hundredth has the same ``metadata.percent``."""
    alike = to_point(
        StoredImage(
            tenant=TENANT,
            image_id="any",
            labels=["any"],
            state=State.REMEMBERED,
            accepted_at=datetime(2026, 1, 1, tzinfo=UTC),
            content_hash="0" * 64,
            picture="any",
            encoder=ENCODER,
        )
    ).payload
    for place, (vector, number) in enumerate(zip(vectors.tolist(), numbers, strict=True), start=first):
        labels, image_id = [f"cluster/{number}"], f"image-{place:09}"
        differing = {
            "image_id": image_id,
            "labels": labels,
            "label_paths": label_paths(labels),
            "content_hash": f"{place:064x}",
            "picture": f"{TENANT}/{place:064x}",
            "source": f"source-{place % 2}",
            "metadata": {"percent": place % 100},
        }
        point = point_id(TENANT, image_id)
        yield Point(point, {**alike, **differing}, {ENCODER: vector})
