"""What a removal has marked votes no more, and nothing of it is changed, until it goes: over every engine."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from tests.support.memory_images import ENCODER, clauses, image, put, reject, units
from visual_memory.schemas.encoder import FillCounts
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause, matches
from visual_memory.schemas.image import Doubt, State, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.services.memory.conditional_writes import with_new_revisions
from visual_memory.services.memory.label_conflicts import LabelConflict
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_filters import MARKED, UNMARKED, marked_by
from visual_memory.services.memory.points.point_payload import STANDING
from visual_memory.services.memory.points.unit_vectors import to_units
from visual_memory.services.memory.points.vector_digests import OFFSETS, vector_digests

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]
LEASE = timedelta(minutes=1)
REMEMBERED = {"state": State.REMEMBERED, "encoder": ENCODER}
HAS_SUBJECT = Clause("subject", FieldType.KEYWORD)
LACKS_SUBJECT = Clause("subject", FieldType.KEYWORD, negated=True)


def ids(memory: Memory, tenant: str, *where: Clause) -> list[str]:
    return sorted(each.image_id for each in memory.images.page(tenant, where, 100)[0])


def remembered(memory: Memory, tenant: str, *names: str, **fields: Any) -> list[StoredImage]:
    images = [image(tenant, name, **fields) for name in names]
    put(memory, images)
    memory.embeddings.store(images, units(len(images)))
    return [*memory.images.get(tenant, names).values()]


def test_whether_a_field_has_a_value_means_the_same_to_all(memory: Memory, tenant: str) -> None:
    images = [image(tenant, "a", subject="Ann", metadata={"count": 1}), image(tenant, "b"), image(tenant, "c")]
    put(memory, images)
    memory.marks.mark(tenant, clauses(image_id="c"), "r")
    held = memory.images.get(tenant, ["a", "b", "c"])
    assert held["c"].removal == "r"
    count = Clause("metadata.count", FieldType.INTEGER)
    labelled = Clause("labels", FieldType.KEYWORD)
    for clause in (HAS_SUBJECT, LACKS_SUBJECT, MARKED, UNMARKED, count, labelled):
        assert ids(memory, tenant, clause) == [name for name in sorted(held) if matches([clause], held[name])]
    assert ids(memory, tenant, UNMARKED) == ["a", "b"]
    assert ids(memory, tenant, HAS_SUBJECT, UNMARKED) == ["a"]


def test_what_is_marked_is_listed_and_votes_no_more(memory: Memory, tenant: str) -> None:
    remembered(memory, tenant, "a", "b", "c")
    memory.marks.mark(tenant, clauses(image_id="a"), "r")
    assert ids(memory, tenant, *clauses(state="remembered")) == ["a", "b", "c"]
    [hits] = memory.search.nearest(tenant, units(3)[:1], 9)
    assert {hit.image_id for hit in hits} == {"b", "c"}
    assert memory.images.count_with_vectors(tenant) == 2
    for states in ([], [State.REMEMBERED, State.MUTED]):
        [(images, _)] = memory.images.pages_with_vectors(tenant, [], 9, states)
        assert {each.image_id for each in images} == {"b", "c"}
    memory.marks.clear(tenant, ["r"])
    [hits] = memory.search.nearest(tenant, units(3)[:1], 9)
    assert {hit.image_id for hit in hits} == {"a", "b", "c"}


CHANGES: dict[str, Callable[[Memory, StoredImage], object]] = {
    "replace": lambda memory, held: memory.writes.put([image(held.tenant, held.image_id)], {held.image_id: held}),
    "insert": lambda memory, held: memory.writes.put([image(held.tenant, held.image_id)]),
    "vector": lambda memory, held: memory.writes.put(
        [image(held.tenant, held.image_id, **REMEMBERED)], {held.image_id: held}, vectors=units(1)
    ),
    "new vector": lambda memory, held: memory.writes.put(
        [image(held.tenant, held.image_id, **REMEMBERED)], vectors=units(1)
    ),
    "amend": lambda memory, held: memory.writes.amend(held, held.model_copy(update={"subject": "Bob"})),
    "relabel": lambda memory, held: memory.writes.change(
        with_new_revisions([(held, held.changed({"labels": ["dog"]}, now()))]), ("labels",)
    ),
    "mute": lambda memory, held: memory.writes.change(
        with_new_revisions([(held, held.model_copy(update={"state": State.MUTED}))]), STANDING
    ),
    "unmute": lambda memory, held: memory.mutes.unmute(held.tenant, []),
    "begin": lambda memory, held: memory.leases.begin([held]),
    "release": lambda memory, held: memory.leases.release([held]),
    "remember": lambda memory, held: memory.embeddings.store([held], units(1)),
    "reject": lambda memory, held: reject(memory, held, "a reason"),
    "undo peer effects": lambda memory, held: memory.mutes.undo_peer_effects(held.tenant),
    "withdraw": lambda memory, held: memory.conflicts.withdraw([held]),
    "object again": lambda memory, held: memory.conflicts.replace(
        [held], {held.image_id: LabelConflict(Doubt.HELD, "new", [])}
    ),
    "object no more": lambda memory, held: memory.conflicts.replace([held], {}),
    "fill": lambda memory, held: memory.missing_vectors.store([held], units(1)),
    "give up": lambda memory, held: memory.missing_vectors.give_up([held], "a reason"),
}
DOUBTS = {State.WAITING: [None, *Doubt], State.REMEMBERED: [None, Doubt.WARNED], State.MUTED: [None, *Doubt]}
STATES = [(state, doubt) for state in State for doubt in DOUBTS.get(state, [None])]


@pytest.mark.parametrize(("state", "doubt"), STATES)
def test_nothing_changes_what_is_marked(memory: Memory, tenant: str, state: State, doubt: Doubt | None) -> None:
    put(memory, [image(tenant, "a", state=state, attempts=1, doubt=doubt)])
    read = memory.images.get(tenant, ["a"])["a"]
    memory.marks.mark(tenant, [], "r")
    marked = memory.images.get(tenant, ["a"])["a"]
    assert marked == read.model_copy(update={"removal": "r"})
    for name, change in CHANGES.items():
        for known in (read, marked):
            change(memory, known)
        assert memory.images.get(tenant, ["a"]) == {"a": marked}, name
    assert memory.missing_vectors.counts(tenant).filled == 0
    assert memory.leases.oldest_waiting(tenant, 9, LEASE) == []
    assert tenant not in memory.leases.tenants_with_waiting(LEASE)


@pytest.mark.parametrize("vectors", [None, units(3)])
def test_who_sends_what_is_marked_is_told(memory: Memory, tenant: str, vectors: Any) -> None:
    """Promise 1: it was answered 202, and gone with the removal."""
    remembered(memory, tenant, "a", "b")
    read = memory.images.get(tenant, ["a", "b"])
    memory.marks.mark(tenant, clauses(image_id="a"), "r")
    sent = [image(tenant, name, **(REMEMBERED if vectors is not None else {})) for name in "abc"]
    for held in (read, {}):
        placed = memory.writes.put(sent, held, vectors=vectors)
        assert placed.being_removed == ("a",)
        assert sent[0].picture in placed.unreferenced
    assert memory.images.get(tenant, ["b", "c"])["c"].picture == sent[2].picture
    memory.marks.delete(tenant, ["a"], "r")
    assert not memory.writes.put(sent[:1], vectors=None if vectors is None else vectors[:1]).being_removed


def test_who_amends_what_is_marked_is_told(memory: Memory, tenant: str) -> None:
    read = remembered(memory, tenant, "a", "b")
    memory.marks.mark(tenant, clauses(image_id="a"), "r")
    amended = [(each, each.model_copy(update={"subject": "Ann"})) for each in read]
    placed = memory.writes.put((), amended=amended)
    assert (placed.being_removed, placed.overtaken) == (("a",), ())
    assert {name: each.subject for name, each in placed.after.items()} == {"a": None, "b": "Ann"}


def test_a_mark_takes_no_mark_of_another_and_nothing_that_came_later(memory: Memory, tenant: str) -> None:
    moment = now()
    put(memory, [image(tenant, "early", accepted_at=moment, subject="Ann")])
    put(memory, [image(tenant, "late", accepted_at=moment + timedelta(microseconds=1), subject="Ann")])
    memory.marks.mark(tenant, clauses(subject="Ann"), "first", moment)
    memory.marks.mark(tenant, [], "second", moment + LEASE)
    assert memory.marks.count_by_removal(tenant) == {"first": 1, "second": 1}
    [[marked]] = memory.images.pages(tenant, [marked_by("first")], 9)
    assert (marked.image_id, marked.removal) == ("early", "first")
    assert tenant in memory.marks.tenants()
    assert memory.images.count(tenant, [*clauses(subject="Ann"), marked_by("second")]) == 1


def test_what_was_noted_is_deleted_only_while_it_is_marked(memory: Memory, tenant: str) -> None:
    put(memory, [image(tenant, f"i{n}") for n in range(6)])
    memory.marks.mark(tenant, clauses(image_id=["i0", "i1", "i2"]), "mine")
    memory.marks.mark(tenant, clauses(image_id=["i3"]), "other")
    memory.marks.delete(tenant, ["i0", "i1", "i3", "i4", "unknown"], "mine")
    assert ids(memory, tenant) == ["i2", "i3", "i4", "i5"]
    put(memory, [image(tenant, "i0", labels=["new"])])
    memory.marks.delete(tenant, ["i0", "i1"], "mine")
    memory.marks.delete(tenant, [], "mine")
    assert ids(memory, tenant) == ["i0", "i2", "i3", "i4", "i5"]


def test_marks_are_cleared_of_the_removals_that_are_named(memory: Memory, tenant: str) -> None:
    remembered(memory, tenant, "a", "b", "c")
    for name, removal in zip("abc", ["dead", "running", "done"], strict=True):
        memory.marks.mark(tenant, clauses(image_id=name), removal)
    memory.marks.clear(tenant, ["dead", "done", "unknown"])
    assert memory.marks.count_by_removal(tenant) == {"running": 1}
    assert ids(memory, tenant, MARKED) == ["b"]
    memory.marks.clear(tenant, [])
    memory.marks.mark(tenant, [], "next")
    assert memory.marks.count_by_removal(tenant) == {"running": 1, "next": 2}


def test_what_was_done_because_of_votes_goes_with_a_stale_mark(memory: Memory, tenant: str) -> None:
    """Those that voted may have gone meanwhile, and what is marked is not looked at again."""
    said: dict[str, Any] = {"state": State.MUTED, "encoder": ENCODER, "reason": "others vote so", "objectors": ["gone"]}
    doubted = [image(tenant, "held", doubt=Doubt.HELD, **said), image(tenant, "pruned", doubt=Doubt.PRUNED, **said)]
    warned = image(tenant, "warned", doubt=Doubt.WARNED, **said | {"state": State.REMEMBERED})
    others = [image(tenant, "muted", **said | {"objectors": []}), image(tenant, "other", doubt=Doubt.HELD, **said)]
    put(memory, [*doubted, warned, *others])
    memory.marks.mark(tenant, clauses(image_id="other"), "another")
    memory.marks.mark(tenant, [], "done")
    memory.marks.clear(tenant, ["done"])
    held = memory.images.get(tenant, ["held", "pruned", "warned", "muted", "other"])
    states = {name: (each.state, each.doubt, each.reason, each.removal) for name, each in held.items()}
    assert states == {
        "held": (State.WAITING, None, None, None),
        "pruned": (State.REMEMBERED, None, None, None),
        "warned": (State.REMEMBERED, None, None, None),
        "muted": (State.MUTED, None, "others vote so", None),
        "other": (State.MUTED, Doubt.HELD, "others vote so", "another"),
    }
    assert not any(held[name].objectors for name in ("held", "pruned", "warned"))


def test_what_is_marked_is_not_to_be_filled(memory: Memory, tenant: str) -> None:
    put(memory, [image(tenant, name, state=State.REMEMBERED) for name in "ab"])
    read = [*memory.images.get(tenant, ["a", "b"]).values()]
    memory.marks.mark(tenant, clauses(image_id="a"), "r")
    assert [each.image_id for each in memory.missing_vectors.page(tenant, 9)[0]] == ["b"]
    memory.missing_vectors.store(read, units(2))
    assert memory.missing_vectors.counts(tenant) == FillCounts(filled=1, left=0, failed=0, vectors_only=0)
    memory.marks.clear(tenant, ["r"])
    assert memory.missing_vectors.counts(tenant).left == 1
    memory.missing_vectors.store(read, units(2))
    assert memory.missing_vectors.counts(tenant).filled == 2


def test_the_objection_of_a_marked_voter_does_not_count(memory: Memory, tenant: str) -> None:
    voters = remembered(memory, tenant, "v0", "v1")
    waiting = image(tenant, "new")
    put(memory, [waiting])
    objection = LabelConflict(Doubt.HELD, "a reason", [each.image_id for each in voters])
    memory.marks.mark(tenant, clauses(image_id="v1"), "r")
    memory.embeddings.store([waiting], units(1, seed=5), {"new": objection})
    assert memory.images.get(tenant, ["new"])["new"].state is State.WAITING
    memory.marks.clear(tenant, ["r"])
    memory.embeddings.store([waiting], units(1, seed=5), {"new": objection})
    assert memory.images.get(tenant, ["new"])["new"].state is State.MUTED


def test_what_came_as_vectors_is_known_again_by_what_is_kept(memory: Memory, tenant: str) -> None:
    sent = units(20, seed=7) * np.linspace(0.001, 1000, 20, dtype=np.float32)[:, None]
    images = [image(tenant, f"i{n}", picture=f"vector.{tenant}{n}", **REMEMBERED) for n in range(20)]
    memory.writes.put(images, vectors=to_units(sent))
    remembered(memory, tenant, "picture")
    held = [*memory.images.get(tenant, [each.image_id for each in images]).values()]
    found = memory.images.vector_digests([*held, *memory.images.get(tenant, ["picture"]).values()])
    known = {digest for digests in found.values() for digest in digests}
    assert all(known & {*each} for each in vector_digests(sent))
    assert len(known) == 20 * len(OFFSETS)
    assert not any(known & {*each} for each in vector_digests(-sent))
    assert memory.images.vector_digests([]) == {}


def test_a_thousand_noted_images_go_in_one_operation(memory: Memory, tenant: str) -> None:
    images = [image(tenant, f"i{n}") for n in range(1000)]
    memory.writes.put(images)
    memory.marks.mark(tenant, [], "r")
    memory.marks.delete(tenant, [each.image_id for each in images], "r")
    assert memory.images.count(tenant) == 0
