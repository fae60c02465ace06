"""Promises 2, 3 and 6 for stored decisions: they count to themselves, and nothing that was removed stays in them."""

import base64
import json
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from tests.support.memory_images import units
from tests.support.shape_pictures import picture
from tests.support.wired_service import Hooked, Once, Parts
from visual_memory.schemas.classify_options import ClassifyOptions, Effort, GroupBy, Vote
from visual_memory.schemas.decision import Novelty
from visual_memory.schemas.errors import Blocked, NotFound, Unavailable
from visual_memory.schemas.explanation import ReplayRequest
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.schemas.page import PageRequest
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.schemas.stored_decision import StoredDecision
from visual_memory.services.decisions.remove_from_decisions import RemoveFromDecisions
from visual_memory.services.decisions.scrub_decision import query_vector
from visual_memory.services.decisions.stored_decisions import StoredDecisions, insert_decision
from visual_memory.services.infrastructure.records import tables
from visual_memory.services.intake.accept_vectors import AcceptVectors, Sent
from visual_memory.services.removal.covered_image_records import CoveredImage, CoveredImages
from visual_memory.services.voting.decide import decide

MARK = "Mark-Of-Label"


def remove(parts: Parts, decisions: StoredDecisions | None = None, **request: Any) -> None:
    forget = parts.forget(decisions=decisions)
    asked = RemovalRequest.model_validate({"reason": "asked to", **request})
    parts.remove(asked, forget)


def stored(parts: Parts, decision_id: str | None) -> StoredDecision:
    return parts.decisions().load(parts.tenant, str(decision_id))


def bodies(parts: Parts) -> list[str]:
    with parts.database.read() as connection:
        return [*connection.execute(select(tables.decisions.c.body)).scalars()]


def mentions(parts: Parts, *words: str) -> list[str]:
    """Which of some words stand in decisions, or in the file that they lie in."""
    parts.database.erase_deleted()
    file = (parts.folder / "records.db").read_bytes()
    return [word for word in words if word.encode() in file or any(word in body for body in bodies(parts))]


def teach_three(parts: Parts) -> tuple[list[str], bytes]:
    """Two marked images and one that stays, and a picture that is nearest to the marked ones."""
    gone = parts.teach(picture("disc"), picture("disc"), labels=[MARK], subject="ann")
    kept = parts.teach(picture("bars"), labels=["bars"], subject="bob")
    return [*gone, *kept], picture("disc")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    options=st.builds(
        ClassifyOptions,
        vote=st.sampled_from(Vote),
        k=st.integers(1, 5),
        alpha=st.floats(0.1, 10),
        temperature=st.floats(0.05, 2),
        effort=st.just(Effort.EXACT),
    ),
    labels=st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=2, unique=True), max_size=6),
)
def test_what_is_read_back_counts_to_itself(parts: Parts, options: ClassifyOptions, labels: list[list[str]]) -> None:
    each = Parts(parts.folder, parts.memory, parts.pool)
    for number, some in enumerate(labels):
        each.teach(picture(("disc", "bars", "cross")[number % 3]), labels=some)
    [decision] = each.keep(picture("disc"), **options.model_dump())
    held = stored(each, decision.id)
    assert held.decision == decision
    counted = decide(held.decision.neighbours, held.options, held.decision.encoder)
    assert counted.model_copy(update={"id": decision.id, "reason": decision.reason}) == held.decision


def test_it_is_kept_with_what_it_takes_to_ask_again(parts: Parts) -> None:
    teach_three(parts)
    before, data = now(), picture("disc")
    [decision] = parts.keep(data, asked_by="me")
    held = stored(parts, decision.id)
    assert (held.asked_by, held.content_hash, held.scrubbed) == ("me", sha256(data).hexdigest(), 0)
    assert before <= held.asked_at <= now()
    assert np.array_equal(query_vector(held), parts.classify().embed(parts.tenant, [data])[0])
    assert len(base64.b64decode(held.query)) == 4 * parts.memory.dimension


@pytest.mark.parametrize(("exact", "effort"), [(True, Effort.EXACT), (False, Effort.BALANCED)])
def test_what_was_kept_with_former_options_is_read_too(parts: Parts, exact: bool, effort: Effort) -> None:
    teach_three(parts)
    [kept] = parts.keep(picture("disc"))
    record = json.loads(stored(parts, kept.id).model_dump_json())
    options = record["decision"]["options"] = record.pop("options")
    del options["effort"], options["group_by"]
    options["exact"] = exact
    with parts.database.write() as connection:
        connection.execute(tables.decisions.update().values(body=json.dumps(record)))
    held = stored(parts, kept.id)
    assert (held.options.effort, held.options.group_by) == (effort, GroupBy.NONE)
    assert held.decision == kept
    assert parts.explain().replay(parts.tenant, str(kept.id), ReplayRequest()).options.group_by is GroupBy.NONE


def test_percentages_of_the_version_before_become_shares(parts: Parts) -> None:
    teach_three(parts)
    [kept] = parts.keep(picture("disc"))
    record = json.loads(stored(parts, kept.id).model_dump_json())
    options, decision = record["options"], record["decision"]
    options |= {"search": options.pop("effort"), "unknown_above": 97.5}
    decision["novelty"] = {"distance": 0.5, "percentile": 98.0}
    with parts.database.write() as connection:
        connection.execute(tables.decisions.update().values(body=json.dumps(record)))
    held = stored(parts, kept.id)
    assert (held.options.effort, held.options.unknown_above) == (Effort.EXACT, 0.975)
    assert held.decision.novelty == Novelty(distance=0.5, quantile=0.98)


def test_the_latest_come_first_and_the_oldest_go(parts: Parts) -> None:
    parts.teach(picture("disc"), labels=["disc"])
    parts.teach(picture("bars"), labels=["bars"])
    decisions = parts.decisions(keep=3)
    ids = [
        parts.keep(picture(kind), decisions=decisions, k=1)[0].id for kind in ("disc", "bars", "disc", "disc", "bars")
    ]
    assert [each.id for each in decisions.latest(parts.tenant, 10)] == ids[:1:-1]
    assert [each.id for each in decisions.latest(parts.tenant, 2)] == [ids[4], ids[3]]
    assert [each.id for each in decisions.summaries(parts.tenant, PageRequest(1), "disc").data] == [ids[3]]
    [line, *_] = decisions.summaries(parts.tenant).data
    assert (line.id, line.label, line.voters, line.asked_by) == (ids[4], "bars", 1, "a test")
    assert decisions.bytes_of_latest(parts.tenant, 2) == sum(len(body.encode()) for body in bodies(parts)[-2:])
    with pytest.raises(NotFound):
        stored(parts, ids[0])
    decisions.delete(parts.tenant, str(ids[3]))
    assert [each.id for each in decisions.latest(parts.tenant, 10)] == [ids[4], ids[2]]


def test_what_takes_more_bytes_than_are_kept_goes_from_the_oldest_on(parts: Parts) -> None:
    parts.teach(picture("disc"))
    first = parts.keep(picture("disc"))
    size = parts.decisions().bytes_of_latest(parts.tenant, 1)
    few = parts.decisions(keep_bytes=2 * size + size // 2)
    later = [parts.keep(picture("disc"), decisions=few)[0].id for _ in range(3)]
    assert [each.id for each in few.latest(parts.tenant, 10)] == later[:0:-1]
    assert first


def test_each_tenant_has_its_own(parts: Parts) -> None:
    teach_three(parts)
    other = Parts(parts.folder, parts.memory, parts.pool)
    [decision] = parts.keep(picture("disc"))
    assert list(other.decisions().latest(other.tenant, 10)) == []
    with pytest.raises(NotFound):
        stored(other, decision.id)
    remove(other, everything=True)
    assert stored(parts, decision.id).scrubbed == 0


@pytest.mark.parametrize("wrong", ["", "x", "..", "../../keys", "20260101T000000000000-0000000g", "a/b"])
def test_what_is_no_id_is_not_found(parts: Parts, wrong: str) -> None:
    with pytest.raises(NotFound):
        stored(parts, wrong)


def test_a_removal_leaves_no_trace_in_a_decision(parts: Parts) -> None:
    ids, question = teach_three(parts)
    [decision] = parts.keep(question)
    assert decision.label == MARK
    assert mentions(parts, *ids, MARK) == [*ids, MARK]
    similarities = [f"{each.similarity!r}" for each in decision.neighbours]

    remove(parts, filter={"subject": "ann"})
    assert mentions(parts, *ids, MARK) == ids[2:]
    assert mentions(parts, *similarities[:2]) == []
    held = stored(parts, decision.id)
    assert (held.scrubbed, held.decision.label, held.decision.voters) == (2, "bars", 1)
    counted = decide(held.decision.neighbours, held.options, held.decision.encoder)
    assert counted.model_copy(update={"id": decision.id}) == held.decision

    remove(parts, filter={"subject": "bob"})
    held = stored(parts, decision.id)
    assert (held.scrubbed, held.decision.label, held.decision.neighbours) == (3, None, [])
    assert held.decision.reason == "every image that voted is gone"


def test_what_is_covered_is_taken_out_whether_it_is_sought_at_once_or_in_parts(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visual_memory.services.decisions.remove_from_decisions.CHUNK", 1)
    ids, question = teach_three(parts)
    same = [parts.pictures.read(image.picture) for image in parts.held(*ids[:2])]
    decision, *asked_with_them = (parts.keep(each)[0] for each in (question, *same))
    notes = [CoveredImage.model_validate(image, from_attributes=True) for image in parts.held(*ids[:2])]
    parts.memory.writes.delete(parts.held(*ids[:2]))
    RemoveFromDecisions(parts.decisions()).remove_covered(
        parts.tenant, CoveredImages(lambda: [[note] for note in notes])
    )
    for gone in asked_with_them:
        with pytest.raises(NotFound):
            stored(parts, gone.id)
    assert stored(parts, decision.id).scrubbed == 2
    assert mentions(parts, *ids, MARK) == ids[2:]


def test_a_decision_on_what_is_removed_goes_whole(parts: Parts) -> None:
    ids, _ = teach_three(parts)
    same = parts.pictures.read(parts.held(ids[0])[0].picture)
    [asked_with_it] = parts.keep(same, filter={"subject": "bob"})
    [named_it] = parts.keep(picture("disc"), filter={"image_id": [ids[0], ids[2]]})
    [neither] = parts.keep(picture("disc"))
    remove(parts, filter={"image_id": ids[0]})
    for gone in (asked_with_it, named_it):
        with pytest.raises(NotFound):
            stored(parts, gone.id)
    assert stored(parts, neither.id).scrubbed == 1
    assert mentions(parts, ids[0], sha256(same).hexdigest()) == []


def test_of_a_blocked_picture_nothing_is_kept(parts: Parts) -> None:
    teach_three(parts)
    parts.teach(blocked := picture("cross"), subject="eve")
    remove(parts, filter={"subject": "eve"}, block=True)
    with pytest.raises(Blocked):
        parts.keep(picture("disc"), blocked)
    with pytest.raises(Blocked):
        parts.keep(picture("disc"), filter={"subject": {"not": "eve"}})
    assert bodies(parts) == []


@pytest.mark.parametrize("length", [1, 3])
def test_of_a_blocked_vector_nothing_is_kept(parts: Parts, length: float) -> None:
    """Promise 3: it is the blocked vector again, however long it is; it stood in the decision."""
    teach_three(parts)
    other, blocked = units(2, 3, parts.memory.dimension)
    sent = Sent(parts.encoder.name, blocked[None], [ImageFields(labels=["cat"], subject="eve")])
    AcceptVectors(parts.accept().put, parts.memory, parts.encoder.name)(parts.tenant, sent)
    classify, kept = parts.classify(), parts.decisions()
    vectors = classify.unit(np.stack([other, blocked * np.float32(length)]).tolist())
    decided = classify.decide(parts.tenant, vectors, ClassifyOptions(effort=Effort.EXACT))
    [_, before] = parts.keep_made(kept, vectors, decided.options, decided.decisions)
    as_written = stored(parts, before.id)
    remove(parts, filter={"subject": "eve"}, block=True)
    with pytest.raises(Blocked):
        parts.keep_made(kept, vectors, decided.options, decided.decisions)
    assert len(bodies(parts)) == 1, "the other one of before"
    parts.keep_made(kept, other[None], decided.options, decided.decisions[:1])
    with parts.database.write() as connection:
        insert_decision(connection, parts.tenant, as_written)
    assert RemoveFromDecisions(parts.decisions()).reconcile_all() == 1, "a backup held it"
    assert len(bodies(parts)) == 2


def test_a_restored_decision_is_held_against_the_memory(parts: Parts) -> None:
    ids, question = teach_three(parts)
    [decision] = parts.keep(question)
    as_written = stored(parts, decision.id)
    remove(parts, filter={"subject": "ann"})
    parts.decisions().delete(parts.tenant, str(decision.id))
    with parts.database.write() as connection:
        insert_decision(connection, parts.tenant, as_written)
    assert mentions(parts, *ids[:2], MARK) == [*ids[:2], MARK]
    assert RemoveFromDecisions(parts.decisions()).reconcile_all() == 0
    assert mentions(parts, *ids[:2], MARK) == []
    assert stored(parts, decision.id).scrubbed == 2


@pytest.mark.parametrize("condition", ["ann", ["bob", "ann"], {"not": "ann"}, {"not": ["ann", "x"]}], ids=str)
@pytest.mark.parametrize("held", [True, False])
def test_a_decision_whose_filter_names_what_a_removal_s_does_goes(parts: Parts, condition: Any, held: bool) -> None:
    """Promise 3: in whichever condition, and whether or not any image is covered."""
    parts.teach(picture("bars"), subject="bob")
    if held:
        parts.teach(picture("disc"), subject="ann")
    [named] = parts.keep(picture("cross"), filter={"subject": condition})
    [other] = parts.keep(picture("cross"), filter={"subject": "bob"})
    forget_hook(parts, {"subject": "ann"})
    with pytest.raises(NotFound):
        stored(parts, named.id)
    assert stored(parts, other.id).decision == other
    assert mentions(parts, "ann") == []


@pytest.mark.parametrize(("asked", "removed"), [("Jos\u00e9", "Jose\u0301"), ("Jose\u0301", "Jos\u00e9")])
def test_a_name_is_the_same_in_either_spelling(parts: Parts, asked: str, removed: str) -> None:
    parts.teach(picture("disc"), subject=asked)
    [named] = parts.keep(picture("cross"), filter={"subject": {"not": asked}})
    forget_hook(parts, {"subject": removed})
    with pytest.raises(NotFound):
        stored(parts, named.id)


def test_a_filter_on_what_only_removed_images_had_goes(parts: Parts) -> None:
    [gone] = parts.teach(picture("disc"), labels=["animal/cat"], subject="ann", source="camera-1")
    parts.teach(picture("bars"), labels=["animal/dog"], subject="ann", source="camera-2")
    asked = [
        parts.keep(picture("cross"), filter=condition)[0].id
        for condition in (
            {"source": "camera-1"},
            {"labels": {"not": "animal/cat"}},
            {"image_id": {"not": gone}},
            {"subject": "ann"},
            {"labels": "animal"},
            {"source": {"not": "camera-2"}},
        )
    ]
    remove_with_fields(parts, gone)
    left = {each.id for each in parts.decisions().latest(parts.tenant, 10)}
    assert [each in left for each in asked] == [False, False, False, True, True, True], "others have it too"


@pytest.mark.parametrize("times", [1.0, 2.0, 3.0, 0.37])
@pytest.mark.parametrize("how", ["filtered out", "voted"])
def test_a_decision_asked_with_a_removed_image_s_vector_goes(parts: Parts, times: float, how: str) -> None:
    [gone] = parts.teach(data := picture("disc"), subject="ann")
    parts.teach(picture("bars"), subject="bob")
    [vector] = parts.classify().embed(parts.tenant, [data])
    options = ClassifyOptions.model_validate({"filter": {"subject": "bob"} if how == "filtered out" else {}})
    decisions = parts.decisions()
    unit = parts.classify().unit([(times * vector).tolist()])
    made = parts.classify().decide(parts.tenant, unit, options)
    [asked] = parts.keep_made(decisions, unit, options, made.decisions)
    [other] = parts.keep(picture("bars"))
    removal_runs(parts, "r")
    parts.memory.marks.mark(parts.tenant, Filter({"subject": "ann"}).clauses({}), "r")
    RemoveFromDecisions(decisions).note_vectors(parts.tenant, "r")
    notes = [CoveredImage.model_validate(image, from_attributes=True) for image in parts.held(gone)]
    parts.memory.writes.delete(parts.held(gone))
    RemoveFromDecisions(decisions).remove_covered(parts.tenant, CoveredImages(lambda: [notes]))
    with pytest.raises(NotFound):
        stored(parts, asked.id)
    assert stored(parts, other.id).scrubbed <= 1
    with parts.database.write() as connection:
        RemoveFromDecisions(decisions).drop_vectors(connection, parts.tenant, "r")
        assert connection.execute(select(tables.covered_vectors)).all() == []


def test_a_decision_whose_nearest_neighbour_is_what_was_asked_with_goes(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its similarity alone: the vector was sent by somebody who had it from elsewhere."""
    monkeypatch.setattr("visual_memory.services.decisions.scrub_decision.SAME", 1 - 1e-5)
    [gone, _] = parts.teach(data := picture("disc"), picture("bars"))
    [vector] = parts.classify().embed(parts.tenant, [data])
    unit = parts.classify().unit([(vector * 5 + 1e-5).tolist()])
    made = parts.classify().decide(parts.tenant, unit, ClassifyOptions())
    [asked] = parts.keep_made(parts.decisions(), unit, ClassifyOptions(), made.decisions)
    [other] = parts.keep(picture("bars"))
    RemoveFromDecisions(parts.decisions()).remove_covered(parts.tenant, CoveredImages.of(parts.held(gone)))
    with pytest.raises(NotFound):
        stored(parts, asked.id)
    assert stored(parts, other.id).scrubbed == 1


def test_two_removals_at_once_bring_nothing_of_each_other_back(parts: Parts) -> None:
    """One writes what it read before the other was carried out whole."""
    ids, question = teach_three(parts)
    [decision] = parts.keep(question)
    images = parts.held(*ids[:2])
    writes: list[str] = []

    def race(name: str) -> None:
        writes.append(name)
        if writes.count("write") == 2 and name == "write":  # the first is the barrier
            RemoveFromDecisions(parts.decisions()).remove_covered(parts.tenant, CoveredImages.of(images[1:]))

    kept = parts.decisions(database=Hooked(parts.database, race))
    RemoveFromDecisions(kept).remove_covered(parts.tenant, CoveredImages.of(images[:1]))
    assert writes.count("write") == 3, "it is read and written anew"
    assert mentions(parts, *ids[:2], MARK) == []
    assert stored(parts, decision.id).scrubbed == 2


def test_a_decision_deleted_while_it_is_scrubbed_stays_away(parts: Parts) -> None:
    ids, question = teach_three(parts)
    [decision] = parts.keep(question)
    race = Once("read", lambda: parts.decisions().delete(parts.tenant, str(decision.id)))
    RemoveFromDecisions(parts.decisions(database=Hooked(parts.database, after=race))).remove_covered(
        parts.tenant, CoveredImages.of(parts.held(ids[0]))
    )
    assert race.called
    assert bodies(parts) == []


def forget_hook(parts: Parts, condition: dict[str, Any]) -> None:
    """What a removal by a filter does to decisions once its points are gone."""
    where = Filter.model_validate(condition)
    images, _ = parts.memory.images.page(parts.tenant, where.clauses({}), 100, None)
    parts.memory.writes.delete(images)
    notes = [noted(image) for image in images]
    RemoveFromDecisions(parts.decisions()).remove_covered(parts.tenant, CoveredImages(lambda: [notes], where))


def remove_with_fields(parts: Parts, *image_ids: str) -> None:
    """What a removal by id does."""
    images = parts.held(*image_ids)
    notes = [noted(image) for image in images]
    parts.memory.writes.delete(images)
    RemoveFromDecisions(parts.decisions()).remove_covered(
        parts.tenant, CoveredImages(lambda: [notes], Filter({"image_id": [*image_ids]}))
    )


def noted(image: StoredImage) -> CoveredImage:
    fields = image.model_dump(mode="json", include={"labels", "subject", "source", "metadata"}, exclude_none=True)
    return CoveredImage(
        image_id=image.image_id,
        state=image.state,
        content_hash=image.content_hash,
        picture=image.picture,
        fields=fields,
    )


def removal_runs(parts: Parts, removal_id: str, **values: Any) -> None:
    """The record of a removal that is being carried out."""
    row = {
        "id": removal_id,
        "tenant": parts.tenant,
        "step": "delete",
        "everything": False,
        "block": False,
        "reason": "asked to",
        "requested_by": "a test",
        "requested_at": now(),
        **values,
    }
    with parts.database.write() as connection:
        connection.execute(tables.removals.insert().values(row))


def test_what_was_asked_before_a_removal_is_not_stored_after_it(parts: Parts) -> None:
    """It is carried out whole, hook and all, after the neighbours were read and before the decision is written."""
    ids, question = teach_three(parts)
    decisions, classify = parts.decisions(), parts.classify()
    begun, vectors = decisions.begin(parts.tenant), classify.embed(parts.tenant, [question])
    made = classify.decide(parts.tenant, vectors, ClassifyOptions())
    remove(parts, filter={"subject": "ann"})
    with pytest.raises(Unavailable, match="send it again"):
        decisions.store(parts.tenant, "a test", begun, [question], vectors, made.options, made.decisions)
    assert bodies(parts) == []
    parts.keep(question)
    assert mentions(parts, *ids[:2], MARK) == []


@pytest.mark.parametrize("times", [1.0, 3.0])
def test_a_removal_takes_decisions_asked_with_the_vectors_that_it_covers(parts: Parts, times: float) -> None:
    parts.teach(data := picture("disc"), subject="ann")
    parts.teach(picture("bars"), subject="bob")
    unit = parts.classify().unit([(times * parts.classify().embed(parts.tenant, [data])[0]).tolist()])
    options = ClassifyOptions.model_validate({"filter": {"subject": "bob"}})
    made = parts.classify().decide(parts.tenant, unit, options)
    [asked] = parts.keep_made(parts.decisions(), unit, options, made.decisions)
    [other] = parts.keep(picture("cross"), filter={"subject": "bob"})
    remove(parts, filter={"subject": "ann"})
    assert [each.id for each in parts.decisions().latest(parts.tenant, 10)] == [other.id]
    assert other.id != asked.id
    with parts.database.read() as connection:
        assert connection.execute(select(tables.covered_vectors)).all() == []
