"""Promise 4: a memory after adding A and B and removing B decides exactly as one that only ever saw A.

Given the same embeddings: here both memories are given the very same vectors. The encoder itself may embed a picture to
floats that differ in the last bits when it comes in another batch.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.wired_service import TESTER, Parts
from visual_memory.schemas.classify_options import ClassifyOptions, Effort, GroupBy, Prune, Vote
from visual_memory.schemas.decision import Decision
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import State, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.vector_engines.engine_contract import Vectors
from visual_memory.services.voting.decide import decide

DIRECTIONS = 6
LABELS = ("cat", "dog", "animal/owl")


@dataclass(frozen=True)
class Item:
    """An image of one of few directions and contents, so that many are equally near to any query, or copies."""

    direction: int
    content: int
    label: str
    goes: bool


items = st.lists(
    st.builds(Item, st.integers(0, DIRECTIONS - 1), st.integers(0, 3), st.sampled_from(LABELS), st.booleans()),
    min_size=1,
    max_size=24,
)
votes = st.builds(
    ClassifyOptions,
    prune=st.sampled_from(Prune),
    prune_above=st.integers(1, 6),
    group_by=st.sampled_from(GroupBy),
    vote=st.sampled_from(Vote),
    k=st.integers(1, 12),
    effort=st.just(Effort.EXACT),
    alpha=st.just(2.0),
)


def directions(dimension: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(7).normal(size=(DIRECTIONS, dimension))
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def remember(parts: Parts, tenant: str, numbered: Sequence[tuple[int, Item]]) -> None:
    images = [
        StoredImage(
            image_id=f"image-{number}",
            labels=[item.label],
            state=State.WAITING,
            subject="goes" if item.goes else "stays",
            accepted_at=now(),
            content_hash=f"{item.direction:032}{item.content:032}",
            tenant=tenant,
            picture=parts.pictures.new_key(tenant, f"image-{number}", "0" * 64),
        )
        for number, item in numbered
    ]
    vectors = directions(parts.memory.dimension)[[item.direction for _, item in numbered]]
    parts.memory.writes.put(images)
    if images:
        assert parts.memory.embeddings.store(images, vectors) == len(images)


def decide_all(parts: Parts, tenant: str, queries: Vectors, options: ClassifyOptions) -> list[Decision]:
    """Decisions of which nothing is left to the engine."""
    decisions = parts.classify().decide(tenant, queries, options).decisions
    return [each if not each.truncated else Decision(label=None, encoder="", truncated=True) for each in decisions]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=items, options=votes, order=st.randoms(use_true_random=False))
def test_after_a_removal_every_decision_is_that_of_a_memory_that_never_saw_it(
    parts: Parts, items: list[Item], options: ClassifyOptions, order: Random
) -> None:
    unlearn(parts, items, options, order)


def unlearn(parts: Parts, items: list[Item], options: ClassifyOptions, order: Random) -> int:
    """Hold a memory that forgot against one that never saw; how many decisions were compared that are whole."""
    both, only = f"t{uuid.uuid4().hex}", f"t{uuid.uuid4().hex}"
    numbered = list(enumerate(items))
    remember(parts, both, numbered)
    kept = [pair for pair in numbered if not pair[1].goes]
    order.shuffle(kept)
    remember(parts, only, kept)
    judged, alone = parts.judge(both), parts.judge(only)
    assert judged is not None
    assert alone is not None
    assert judged.images == len(items)
    another = parts.judged_by_another(both)
    request = RemovalRequest(filter=Filter({"subject": "goes"}), reason="asked to")
    forget = parts.forget()
    assert forget.resume(both, forget.request(both, request, TESTER).id).images == len(items) - len(kept)

    queries = np.concatenate([directions(parts.memory.dimension), directions(parts.memory.dimension)[:3] + 0.01])
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    assert len(kept) == len(items) or another.current(both) is None, "it would tell of what is gone"
    for found in (parts.judgements.current(both), parts.judge(both)):
        assert found is not None
        assert found.model_copy(update={"id": alone.id, "made_at": alone.made_at}) == alone
        assert decide_all(parts, both, queries, options) == decide_all(parts, only, queries, options)
    decisions = decide_all(parts, both, queries, options)
    assert decisions == decide_all(parts, only, queries, options)
    whole = [each for each in decisions if not each.truncated]
    assert all(decide(each.neighbours, options, each.encoder) == each for each in whole if each.voters)
    assert parts.memory.images.count_by_label(both) == parts.memory.images.count_by_label(only)
    assert parts.memory.images.count_by_state(both) == parts.memory.images.count_by_state(only)
    return len(whole)
