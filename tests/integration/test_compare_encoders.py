"""Two encoders compared over a real engine: which images are compared, by which vectors, and which are left out."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.support.encoder_specs import spec as encoder
from tests.support.memory_images import image, quick_folder
from tests.support.random_memory import silent
from tests.support.wired_service import Hooked, Once, close_databases, database_in
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.errors import InvalidPicture, InvalidRequest, NotFound
from visual_memory.schemas.evaluation_results import EvaluationOptions
from visual_memory.schemas.image import ImageFields, State, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.services.encoder_migration.compare_encoders import CompareEncoders, LabelledPictures
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.vector_engines.engine_contract import Vectors
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine
from visual_memory.services.voting.decide import decide
from visual_memory.services.voting.group_copies import first_groups

TENANT, NUMBER = "t", 130
COARSE, FINE = "coarse", "fine"
OPTIONS = EvaluationOptions(k=7)
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


def encode(pixels: Vectors, coarse: int) -> Vectors:
    """Pictures of 8 x 8 as sums of `coarse` x `coarse` pixels, less their mean; float32 [n, d] of length 1."""
    side = 8 // coarse
    sums = pixels.reshape(-1, side, coarse, side, coarse).sum(axis=(2, 4)).reshape(-1, side * side)
    sums = sums - sums.mean(axis=1, keepdims=True)
    unit: Vectors = (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)
    return unit


def spec(name: str, second: int) -> EncoderSpec:
    dimension, added_at = 4 if name == COARSE else 64, BEGUN + timedelta(seconds=second)
    return encoder(name, model=name, fingerprint=f"{second:064x}", dimension=dimension, added_at=added_at)


BOTH = (spec(COARSE, 0), spec(FINE, 1))


class Place:
    """A memory of digits under two encoders."""

    def __init__(self, folder: Path) -> None:
        found = load_digits()
        self.pixels, self.labels = found.images.astype(np.float32), [str(each) for each in found.target]
        engine = EdgeEngine(folder / "engine")
        self.memories = {each.name: Memory(engine, each.name, each.dimension, {}) for each in BOTH}
        self.memories[COARSE].open()
        engine.add_vector(vector_name(FINE), BOTH[1].dimension)
        self.records = EncoderRecords(database_in(folder))
        self.records.create_first(BOTH[0])
        self.records.add(BOTH[1])

    def use(self, max_images: int = 1000) -> CompareEncoders:
        return CompareEncoders(lambda spec: self.memories[spec.name], self.records, max_images)

    def keep(self, numbers: Sequence[int], fine: bool = True, **fields: object) -> None:
        """Remember digits with their vectors; `fields` win."""
        images = [
            image(
                TENANT,
                f"digit-{number:04d}",
                labels=[self.labels[number]],
                state=State.REMEMBERED,
                content_hash=str(number),
                picture=f"{TENANT}/{number}",
            ).model_copy(update=fields)
            for number in numbers
        ]
        pixels = self.pixels[list(numbers)]
        held = self.memories[COARSE].images.get(TENANT, [each.image_id for each in images])
        self.memories[COARSE].writes.put(images, held, vectors=encode(pixels, 4))
        if fine:
            self.memories[FINE].missing_vectors.store(images, encode(pixels, 1))

    def close(self) -> None:
        self.memories[COARSE].close()


@pytest.fixture
def place() -> Iterator[Place]:
    with quick_folder() as folder:
        made = Place(folder)
        yield made
        made.close()
        close_databases()


def test_both_are_asked_as_the_service_would_answer(place: Place) -> None:
    """Leaving one out; every answer again by a search of the memory itself."""
    place.keep(range(NUMBER))
    found = place.use()(TENANT, BOTH, OPTIONS, silent)
    assert (found.voting, found.drawn, found.lacking) == (NUMBER, None, {COARSE: 0, FINE: 0})
    changed = {each.image_id: each for each in (*found.itself.gained, *found.itself.lost, *found.itself.swapped)}
    assert changed
    for number in range(NUMBER):
        image_id = f"digit-{number:04d}"
        answers = []
        for name, coarse in ((COARSE, 4), (FINE, 1)):
            vector = encode(place.pixels[[number]], coarse)
            [hits] = place.memories[name].search.nearest(TENANT, vector, OPTIONS.k, leave_out={image_id}.__contains__)
            answers.append(decide(first_groups(hits, OPTIONS.k)[0], ClassifyOptions(k=OPTIONS.k), name).label)
        one = changed.get(image_id)
        assert (answers[0] == answers[1]) == (one is None)
        assert one is None or [one.a, one.b] == answers


def test_what_lacks_a_vector_or_does_not_vote_is_left_out_of_both(place: Place) -> None:
    place.keep(range(60))
    place.keep(range(60, 70), fine=False)
    place.keep(range(70, 73), state=State.MUTED)
    place.keep(range(73, 75), expires_at=now() - timedelta(seconds=1))
    found = place.use()(TENANT, BOTH, OPTIONS, silent)
    assert found.voting == 70
    assert found.lacking == {COARSE: 0, FINE: 10}
    assert (found.itself.queries, found.itself.images) == (60, 60)


def test_what_is_replaced_between_the_two_readings_is_left_out(place: Place) -> None:
    place.keep(range(60))
    once = Once("pages_with_vectors", lambda: place.keep([3], picture=f"{TENANT}/another"))
    place.memories[FINE] = cast(Memory, Hooked(place.memories[FINE], before=once))
    found = place.use()(TENANT, BOTH, OPTIONS, silent)
    assert once.called
    assert found.lacking == {COARSE: 0, FINE: 0}
    assert found.itself.queries == 59


def test_a_large_memory_is_drawn_from(place: Place) -> None:
    place.keep(range(NUMBER))
    drawn = [place.use(50)(TENANT, BOTH, EvaluationOptions(k=7, seed=seed), silent) for seed in (1, 1, 2)]
    assert [(each.voting, each.drawn, each.itself.images) for each in drawn] == [(NUMBER, 50, 50)] * 3
    assert drawn[0] == drawn[1] != drawn[2]


def pictures(place: Place, numbers: Sequence[int]) -> LabelledPictures:
    """Digits as files, each but its number; an encoder that meets another fails."""

    def embed(coarse: int, asked: Sequence[bytes]) -> Vectors:
        if not all(each.isdigit() for each in asked):
            raise InvalidPicture("this is no digit")
        return encode(place.pixels[[int(each) for each in asked]], coarse)

    asked = LabelledPictures(TENANT, (lambda _, some: embed(4, some), lambda _, some: embed(1, some)))
    asked.add([(str(each).encode(), ImageFields(labels=[place.labels[each]])) for each in numbers])
    return asked


def test_a_folder_is_asked_of_each_encoder_s_own_vectors(place: Place) -> None:
    place.keep(range(NUMBER))
    asked = pictures(place, range(NUMBER, NUMBER + 40))
    with pytest.raises(InvalidPicture):
        asked.add([(b"1", ImageFields(labels=["1"])), (b"a thumb", ImageFields(labels=["1"]))])
    found = place.use()(TENANT, BOTH, OPTIONS, silent, asked)
    assert found.folder is not None
    assert (found.folder.queries, found.folder.images, found.known) == (40, NUMBER, 0)
    for name, coarse, figures in ((COARSE, 4, found.folder.a), (FINE, 1, found.folder.b)):
        vectors = encode(place.pixels[NUMBER : NUMBER + 40], coarse)
        right = [
            decide(hits, ClassifyOptions(k=7), name).label == place.labels[NUMBER + row]
            for row, hits in enumerate(place.memories[name].search.nearest(TENANT, vectors, 7))
        ]
        assert figures.accuracy.value == pytest.approx(np.mean(right))
    assert place.memories[COARSE].images.count(TENANT) == NUMBER


def test_pictures_that_come_twice_count_once_and_remembered_ones_are_told(place: Place) -> None:
    place.keep(range(NUMBER), content_hash="")
    asked = pictures(place, [140, 141])
    asked.add([(b"140", ImageFields(labels=["odd"], image_id="again"))])
    content = next(iter(asked.labels))
    assert asked.labels[content] == [place.labels[140], "odd"]
    place.keep([200], content_hash=content)
    found = place.use()(TENANT, BOTH, OPTIONS, silent, asked)
    assert found.folder is not None
    assert (found.folder.queries, found.known) == (2, 1)


def test_which_encoders_and_whose_memory_are_meant(place: Place) -> None:
    use = place.use()
    assert use.choose(None, None) == BOTH
    assert use.choose(FINE, None) == BOTH[::-1]
    for a, b in ((COARSE, COARSE), (None, COARSE)):
        with pytest.raises(InvalidRequest, match="both are"):
            use.choose(a, b)
    place.records.begin_drop(FINE)
    with pytest.raises(InvalidRequest, match="coarse is the only encoder"):
        use.choose(None, None)
    place.records.cancel_drop(FINE)
    with pytest.raises(NotFound, match="fine"):
        use.choose(None, "finer")
    place.records.add(spec("third", 2))
    with pytest.raises(InvalidRequest, match="fine, third"):
        use.choose(None, None)
    place.records.begin_drop("third")
    assert use.choose(None, None) == BOTH
    with pytest.raises(InvalidRequest, match="no tenant has images"):
        use.tenant(BOTH[0], None)
    place.keep(range(5))
    assert use.tenant(BOTH[0], None) == TENANT
    with pytest.raises(NotFound, match="'u' has no images"):
        use.tenant(BOTH[0], "u")
    other: StoredImage = image("u", "one", state=State.REMEMBERED)
    place.memories[COARSE].writes.put([other], vectors=encode(place.pixels[:1], 4))
    with pytest.raises(InvalidRequest, match="--tenant: t, u"):
        use.tenant(BOTH[0], None)
    assert use.tenant(BOTH[0], "u") == "u"
