"""New pictures get the vectors of all encoders at once; what fails of another one costs no image anything."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast

import numpy as np
import PIL.Image
import pytest

from tests.support.shape_pictures import picture
from tests.support.wired_service import AT_ONCE, NEVER, Hooked, Once, Parts, Pixels
from visual_memory.schemas.image import State
from visual_memory.services.decoding.preprocessing_crop import PreprocessingCrop
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.intake.embed_with_other_encoders import EmbedWithOtherEncoders
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.vector_engines.engine_contract import Vectors


@dataclass
class Two:
    """A memory of two encoders; the second sees pictures otherwise."""

    parts: Parts
    second: Pixels
    memory: Memory

    def remember(self, *, lease: timedelta = NEVER, seconds: float = 60, **exchanged: object) -> None:
        given = {"pictures": self.parts.pictures, "decoder": self.parts.decoder, "seconds": seconds, **exchanged}
        further = EmbedWithOtherEncoders(encoders=lambda: [self.second], **given)  # type: ignore[arg-type]
        replace(self.parts.remember(lease=lease), embed_with_others=further)(self.parts.tenant)

    def vectors(self) -> dict[str, Vectors]:
        pages = self.memory.images.pages_with_vectors(self.parts.tenant, [], 10, [State.REMEMBERED])
        return {image.image_id: row for images, rows in pages for image, row in zip(images, rows, strict=True)}

    def left(self) -> int:
        return self.memory.missing_vectors.counts(self.parts.tenant).left

    def states(self) -> dict[State, int]:
        return self.parts.memory.images.count_by_state(self.parts.tenant)


@pytest.fixture
def two(parts: Parts) -> Iterator[Two]:
    second = Pixels(name="second", crop=PreprocessingCrop(resize_side=32, crop_side=16))
    parts.memory.points.engine.add_vector(second.name, second.dimension)
    yield Two(parts, second, parts.memory.with_encoder(second.name, second.dimension))
    parts.memory.points.engine.drop_vector(second.name)


def test_new_pictures_get_the_vectors_of_both(two: Two) -> None:
    pictures = [picture(kind) for kind in ("disc", "bars", "cross")]
    ids = [each.image_id for each in two.parts.send(*pictures)]
    writes: list[str] = []
    memory = Hooked(two.parts.memory, before=writes.append)
    further = EmbedWithOtherEncoders(lambda: [two.second], two.parts.pictures, two.parts.decoder)
    replace(two.parts.remember(memory=memory), embed_with_others=further)(two.parts.tenant)
    assert writes.count("store") == 1, "in the same write"
    decoder = two.parts.decoder.with_crop(two.second.crop)
    expected = Pixels().encode([decoder.decode_one(two.parts.tenant, each) for each in pictures])
    found = two.vectors()
    assert np.allclose(np.stack([found[each] for each in ids]), expected, atol=1e-6)
    first = dict(zip(ids, two.parts.classify().embed(two.parts.tenant, pictures), strict=True))
    assert not np.allclose(found[ids[0]], first[ids[0]], atol=1e-3), "it saw them otherwise"
    assert two.left() == 0


def test_a_question_to_an_encoder_without_vectors_says_so(two: Two) -> None:
    two.parts.teach(picture("disc"))
    asked = Parts(two.parts.folder, two.memory, two.parts.pool, Pixels(name="second"), two.parts.tenant)
    assert "no remembered image has a vector of second" in (asked.ask(picture("disc")).reason or "")
    assert "no remembered image meets the filter" in (
        two.parts.ask(picture("disc"), filter={"labels": "x"}).reason or ""
    )


def test_an_encoder_with_the_same_view_decodes_nothing_again(two: Two) -> None:
    two.second.crop = two.parts.encoder.crop
    two.parts.send(picture("disc"), picture("bars"))
    read: list[str] = []
    two.remember(pictures=Hooked(two.parts.pictures, before=read.append))
    assert read == []
    assert len(two.vectors()) == 2


def fail(_images: Sequence[PIL.Image.Image]) -> None:
    raise ValueError("it cannot embed that")


def test_an_encoder_that_fails_rejects_nothing_and_leaves_it_to_the_fill(two: Two) -> None:
    two.second.before = fail
    two.parts.send(*[picture("disc") for _ in range(3)])
    two.remember()
    assert (two.states(), two.vectors(), two.left()) == ({State.REMEMBERED: 3}, {}, 3)


def gone() -> None:
    raise OSError("the file is gone")


def test_a_picture_that_it_cannot_be_shown_costs_no_other_its_vector(two: Two) -> None:
    two.parts.send(*[picture("disc") for _ in range(3)])
    pictures = Hooked(two.parts.pictures, before=Once("read", gone))
    two.remember(pictures=cast(PictureStore, pictures))
    assert (two.states(), len(two.vectors()), two.left()) == ({State.REMEMBERED: 3}, 2, 1)


def test_where_it_takes_too_long_the_rest_is_left(two: Two) -> None:
    two.parts.send(*[picture("disc") for _ in range(3)])
    two.remember(seconds=0)
    assert (two.states(), two.left()) == ({State.REMEMBERED: 3}, 3)


def test_what_was_begun_before_is_not_tried_by_others(two: Two) -> None:
    two.parts.send(picture("disc"))
    two.parts.memory.leases.begin(two.parts.memory.leases.oldest_waiting(two.parts.tenant, 9, NEVER))

    two.remember(lease=AT_ONCE)
    assert (two.states(), two.left(), two.second.encoded) == ({State.REMEMBERED: 1}, 1, 0)


def test_one_that_is_dropped_meanwhile_is_left_out(two: Two) -> None:
    two.parts.send(picture("disc"))
    two.second.before = lambda _images: two.parts.memory.points.engine.drop_vector(two.second.name)
    two.remember()
    assert two.states() == {State.REMEMBERED: 1}
