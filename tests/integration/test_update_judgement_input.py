"""A judgement into which changes were folded says to the last bit what one says that begins with nothing."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.memory_images import mute, relabel, units
from tests.support.wired_service import Hooked, Parts
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause, Filter
from visual_memory.schemas.image import State, StoredImage
from visual_memory.schemas.judgement import Judgement
from visual_memory.schemas.moments import now
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.curation.judgement import judge_memory, neighbour_lists, search_missing_neighbours
from visual_memory.services.curation.judgement.judge_memory import make_judgement
from visual_memory.services.curation.judgement.judgement_input import JudgementInput
from visual_memory.services.curation.judgement.update_judgement_input import UpdateJudgementInput
from visual_memory.services.curation.judgement.vector_cache import VectorCache
from visual_memory.services.vector_engines.engine_contract import Vectors

LABELS = ("cat", "dog", "animal/owl")
IDS = [f"image-{number:02}" for number in range(24)]
K = 2

some = st.lists(st.sampled_from(IDS), min_size=1, max_size=8, unique=True)
KINDS = ("put", "put", "relabel", "remove", "remove", "mute", "unmute", "prune", "restart")
moves = st.lists(st.tuples(st.sampled_from(KINDS), some, st.integers(0, 40), st.booleans()), min_size=2, max_size=12)


@contextmanager
def short_lists() -> Iterator[None]:
    """Lists of few neighbours, so that a few dozen images fill and exhaust them."""
    with pytest.MonkeyPatch.context() as patch:
        for module, kept in ((neighbour_lists, 5), (judge_memory, 5), (search_missing_neighbours, 5)):
            patch.setattr(module, "MIN_NEIGHBOURS", kept)
        for module in (neighbour_lists, search_missing_neighbours):
            patch.setattr(module, "MAX_NEIGHBOURS", 7)
        yield


def vectors_of(parts: Parts, numbers: Sequence[int]) -> Vectors:
    """A few directions, so that many are equal; and some that are nearly so."""
    drawn = units(30, seed=8, dimension=parts.memory.dimension)
    rows = drawn[[number % 30 for number in numbers]]
    near = rows + np.array([[1e-7 * (number // 30)] for number in numbers], np.float32)
    unit: Vectors = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
    return unit


def put(parts: Parts, ids: Sequence[str], seed: int) -> None:
    """New images, or others under the same ids; with every third content comes in copies."""
    numbers = [(seed + place // 2) % 41 for place in range(len(ids))]
    images = [
        StoredImage(
            image_id=image_id,
            labels=[LABELS[(number + place) % 3]],
            state=State.WAITING,
            accepted_at=now(),
            content_hash=f"{number if number % 3 else 100 + place:064}",
            tenant=parts.tenant,
            picture=parts.pictures.new_key(parts.tenant, image_id, "0" * 64),
        )
        for place, (image_id, number) in enumerate(zip(ids, numbers, strict=True))
    ]
    parts.memory.writes.put(images, parts.memory.images.get(parts.tenant, ids))
    assert parts.memory.embeddings.store(images, vectors_of(parts, numbers)) == len(images)


def move(parts: Parts, kind: str, ids: Sequence[str], number: int) -> None:
    where = [Clause("image_id", FieldType.KEYWORD, tuple(ids))]
    match kind:
        case "put":
            put(parts, ids, number)
        case "relabel":
            relabel(parts.memory, parts.tenant, where, [LABELS[number % 3]])
        case "mute":
            mute(parts.memory, parts.tenant, where)
        case "unmute":
            parts.memory.mutes.unmute(parts.tenant, where)
        case "remove":
            request = RemovalRequest(filter=Filter.model_validate({"image_id": list(ids)}), reason="asked to")
            parts.remove(request)
        case "prune":
            if parts.judgements.current(parts.tenant):
                parts.curate(action="mute", wrong_votes=1 + number % 3)
        case "restart":
            parts.vectors = VectorCache(2**20)


def from_nothing(parts: Parts) -> Judgement:
    fold = UpdateJudgementInput(parts.memory, VectorCache(0), 1000)
    images = fold(parts.tenant, JudgementInput.of_none(now()), True, lambda *_: None)
    return make_judgement(images, "", parts.encoder.name, K)


def plain(judgement: Judgement | None) -> Judgement | None:
    return judgement and judgement.model_copy(update={"id": "", "made_at": now().min})


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(begins_with=st.integers(1, 24), moves=moves)
def test_whatever_came_went_or_changed(
    parts: Parts, begins_with: int, moves: list[tuple[str, list[str], int, bool]]
) -> None:
    parts.tenant = f"t{uuid.uuid4().hex}"
    with short_lists():
        put(parts, IDS[:begins_with], 7)
        for kind, ids, number, judged in [("restart", [], 0, True), *moves, ("restart", [], 0, True)]:
            move(parts, kind, ids, number)
            if judged:
                assert plain(parts.judge(k=K)) == plain(from_nothing(parts))


def test_what_did_not_change_is_not_read_again(parts: Parts) -> None:
    read: list[str] = []
    put(parts, IDS[:20], 0)
    parts.judge()
    put(parts, IDS[20:], 3)
    parts.judge(memory=Hooked(parts.memory, before=read.append))
    assert read.count("pages_with_vectors") == 1, "only what is new"
    mute(parts.memory, parts.tenant, [Clause("image_id", FieldType.KEYWORD, (IDS[3],))])
    read.clear()
    parts.judge(memory=Hooked(parts.memory, before=read.append))
    assert "pages_with_vectors" not in read
